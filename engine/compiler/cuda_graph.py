"""Graph of `denoise` -> the same for ONNX Runtime's CUDA provider: few launches a layer, all attention in Flash.

What its kernels like is in docs/gpu.md: rows first, (R, A, D), and heads as one axis, so that attention takes what
products make; scales and gates, and a norm's weight with them, as the weight of that norm, one of each row; a text's
keys and values turned once; lengths of the texts for a bias. Layers are half; the ends of the model stay fp32, in the
exported order.

Letters: A active tokens, M cached tokens, R rows, T text tokens, D width, H heads, G kv heads, d head size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from flagdit.engine.bundle.ports import keys_or_values
from flagdit.engine.compiler.cuda_call import SWAPPED, PerCall
from flagdit.engine.compiler.cuda_heads import CudaHeads, matrix
from flagdit.engine.compiler.graph_writer import Writer
from flagdit.engine.compiler.parts import (
    Added,
    Attended,
    Hidden,
    Joined,
    Part,
    cut_of_tokens,
    end_of,
    find_parts,
    products,
    refused,
)  # fmt: skip
from flagdit.engine.compiler.patterns import Modulated, epsilon_of
from flagdit.engine.compiler.precision import import_ir

if TYPE_CHECKING:
    import onnx_ir as ir

CudaPrecision = Literal["float16", "bfloat16", "float32"]

OPSET = 24
"""The first whose Attention takes lengths of keys."""


def to_cuda(model: ir.Model, precision: CudaPrecision) -> int:
    """Write the layers of `model` anew, in place. Returns how many attentions to a cache there are.

    Names, axes and order of its inputs and outputs stay; keys and values, of caches and texts, are `precision`. Tokens
    of a text come first in its bias, and what fills it up last. Raises BackendError if onnx_ir is not installed,
    BuildError if the graph is not made as flagdit.export makes it.
    """
    ir = import_ir()
    parts = find_parts(model.graph)
    last = end_of(parts)
    users = {use.node for use in last.uses()}
    before = next((node for node in model.graph if node in users), None)
    if before is None:
        raise refused(last, "is no value that goes to the end of the model")
    half = ir.DataType.FLOAT if precision == "float32" else ir.DataType[precision.upper()]
    _Layers(Writer(model.graph, before, half), parts).write_all(last)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if keys_or_values(value.name or "", tuple(value.shape or ())):
            value.dtype = half
    model.opset_imports[""] = OPSET
    model.ir_version = max(model.ir_version, 11)  # of the opset
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)
    left = set(model.graph).intersection(node for part in parts for node in products(part))
    if left:
        raise refused(left.pop().outputs[0], "is still read by something that is not written anew")
    return sum(isinstance(part, Attended) for part in parts)


class _Layers:
    """One rewriting. Streams and what attention makes are (R, A, D) in half; `anew` has them by what they were."""

    def __init__(self, write: Writer, parts: list[Part]) -> None:
        self.write, self.parts = write, parts
        self.call = PerCall(write, parts)
        self.heads = CudaHeads(write, self.call)
        self.anew: dict[ir.Value, ir.Value] = {}
        self.normed: dict[tuple[ir.Value, int, int], ir.Value] = {}

    def write_all(self, last: ir.Value) -> None:
        """Every part, and `last` (A, R, D) in fp32 for the model's end."""
        write = self.write
        for part in self.parts:
            if isinstance(part, Attended):
                self.anew[part.seen.out] = self.attended(part)
            elif isinstance(part, Added):
                self.anew[part.ending.out] = self.added(part)
            elif isinstance(part, Joined):
                self.anew[part.out] = write.joined([self.stream(value) for value in part.streams], 1)
        end = write.cast(write.turned(self.anew[last], *SWAPPED), write.ir.DataType.FLOAT)
        end.dtype, end.shape = last.dtype or write.ir.DataType.FLOAT, last.shape
        write.ir.convenience.replace_all_uses_with(last, end)

    def stream(self, value: ir.Value) -> ir.Value:
        """A stream (A, R, D) as (R, A, D): what no part makes comes from the model's beginning."""
        return self.anew[value] if value in self.anew else self.call.rows_first(value)

    def attended(self, part: Attended) -> ir.Value:
        """(R, A, H * d). What fills up a text is last of all keys: in the head, behind the tail; and in the tail, where
        a text rests, for then the head has none.
        """
        write, seen, (heads, kv_heads, size) = self.write, part.seen, part.heads
        made = [self.heads.made(each, seen.scale, self.modulated(each.x)) for each in part.parts]
        put = [
            [self.heads.keep(old, cached, kv_heads, size) for old, cached in zip(each.made, new, strict=True)]
            for each, (_, *new) in zip(part.parts, made, strict=True)
        ]
        tails = [write.shaped(write.turned(tail, 1, 0, 2, 3), 0, 0, kv_heads * size) for tail in part.tails]
        lengths, text = self.call.lengths(seen)
        if text:
            if [len(each) for each in put[0]] != [2, 2]:
                raise refused(seen.out, "is of a text that may rest, and not all of its keys and values are outputs")
            pictures, texts = zip(*put[0], strict=True)
            joined = zip(pictures, tails, texts, strict=True)
        else:
            joined = zip(tails, *(new for _, *new in made), strict=True)
        key, value = (write.joined(parts, 1) for parts in joined)
        query = write.joined([query for query, *_ in made], 1)
        scale = seen.scale if isinstance(seen.scale, float) else size**-0.5
        out = self.attention(query, key, value, lengths, scale, (heads, kv_heads))
        if seen.text is None:
            return out
        pair, lengths = self.call.texts[seen.text.key], self.call.visible(seen.text.bias)
        return write.add("Add", out, self.attention(query, *pair, lengths, seen.text.scale, (heads, heads)))

    def attention(
        self,
        query: ir.Value,
        key: ir.Value,
        value: ir.Value,
        lengths: ir.Value | None,
        scale: float,
        heads: tuple[int, int],
    ) -> ir.Value:
        """lengths (R,): how many of the keys count. heads: H and G."""
        inputs = (query, key, value) if lengths is None else (query, key, value, None, None, None, lengths)
        return self.write.add("Attention", *inputs, scale=scale, q_num_heads=heads[0], kv_num_heads=heads[1])

    def added(self, part: Added) -> ir.Value:
        """A stream and what a product made: a gate behind a norm is that norm's weight, one of each row."""
        write, ending = self.write, part.ending
        of = self.hidden(part.of) if isinstance(part.of, Hidden) else self.tokens(part.of)
        out = write.add("MatMul", of, matrix(write, part.product.inputs[1]))
        if ending.bias is not None:
            out = write.add("Add", out, write.cast(ending.bias, write.half))
        gate = self.call.vectors[part.gate.number]
        if ending.norm is not None:
            epsilon = epsilon_of(ending.norm)
            out = write.add("RMSNormalization", out, gate, axis=-1, epsilon=epsilon)
        else:
            out = write.add("Mul", out, gate)
        assert ending.residual is not None
        return write.add("Add", self.stream(ending.residual), out)

    def tokens(self, value: ir.Value) -> ir.Value:
        """What attention made, or some of its tokens."""
        cut = cut_of_tokens(value)
        if value in self.anew or cut is None or cut.inputs[0] is None:
            return self.anew[value]
        return self.heads.cut(self.anew[cut.inputs[0]], cut)

    def hidden(self, part: Hidden) -> ir.Value:
        """w1 and w3 apart: a product of both would need a Split, a pass over memory, for the same launches."""
        write, inner = self.write, self.modulated(part.x)
        gate = write.add("MatMul", inner, matrix(write, part.w1))
        if part.w3 is None:
            total = gate if part.bias is None else write.add("Add", gate, write.cast(part.bias, write.half))
            return write.add("Gelu", total, approximate="tanh")
        silu = write.add("Mul", gate, write.add("Sigmoid", gate))
        return write.add("Mul", silu, write.add("MatMul", inner, matrix(write, part.w3)))

    def modulated(self, how: Modulated) -> ir.Value:
        """The norm's weight is one of each row, (R, 1, D), and so is its bias where it takes one."""
        write, (scale, shift) = self.write, (int(how.attributes[name]) for name in ("scale", "shift"))
        key, options = (how.x, scale, shift), {"axis": -1, "epsilon": how.attributes["epsilon"]}
        if key not in self.normed:
            x, weight = self.stream(how.x), self.call.vectors[scale]
            more = [self.call.vectors[shift]] if shift >= 0 else []
            if "centred" in how.attributes:
                out = write.add("LayerNormalization", x, weight, *more, **options)
            else:
                out = write.add("RMSNormalization", x, weight, **options)
                out = write.add("Add", out, *more) if more else out
            self.normed[key] = out
        return self.normed[key]
