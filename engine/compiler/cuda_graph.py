"""Graph of `denoise` -> the same for ONNX Runtime's CUDA provider: few launches a layer, all attention in Flash.

What its kernels like is in docs/gpu.md: rows first, (R, A, D), and heads as one axis, so that attention takes what
products make; scale, and the norm's weight with it, as the weight of RMSNormalization, one of each row; keys and values
turned once; lengths of the texts for a bias. Layers are half; the ends of the model stay fp32, in the exported order.

Letters: A active tokens, M cached tokens, R rows, T text tokens, L layers, D width, H heads, G kv heads, d head size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from flagdit.engine.bundle.ports import keys_or_values
from flagdit.engine.compiler.blocks import Block, FeedForward, Vector, find_blocks, refused
from flagdit.engine.compiler.cuda_call import PerCall
from flagdit.engine.compiler.graph_writer import Writer
from flagdit.engine.compiler.patterns import Heads, Modulated
from flagdit.engine.compiler.precision import import_ir

if TYPE_CHECKING:
    import onnx_ir as ir

CudaPrecision = Literal["float16", "bfloat16", "float32"]

OPSET = 24
"""The first whose Attention takes lengths of keys."""


def to_cuda(model: ir.Model, precision: CudaPrecision) -> int:
    """Write the layers of `model` anew, in place. Returns how many there are.

    Names, axes and order of its inputs and outputs stay; keys and values, of caches and texts, are `precision`. Tokens
    of a text come first in `text_bias`, and what fills it up last. Raises BackendError if onnx_ir is not installed,
    BuildError if the graph is not made as flagdit.export makes it.
    """
    ir = import_ir()
    blocks = find_blocks(model.graph)
    last = blocks[-1].feed_forward.residual.total
    users = {use.node for use in last.uses()}
    before = next((node for node in model.graph if node in users), None)
    if before is None:
        raise refused(last, "is no value that goes to the end of the model")
    half = ir.DataType.FLOAT if precision == "float32" else ir.DataType[precision.upper()]
    _Layers(Writer(model.graph, before, half), blocks).write_all()
    for value in (*model.graph.inputs, *model.graph.outputs):
        if keys_or_values(value.name or "", tuple(value.shape or ())):
            value.dtype = half
    model.opset_imports[""] = OPSET
    model.ir_version = max(model.ir_version, 11)  # of the opset
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)
    return len(blocks)


class _Layers:
    """One rewriting. Values between layers are (R, A, D) in half."""

    def __init__(self, write: Writer, blocks: list[Block]) -> None:
        self.write, self.blocks = write, blocks
        self.call = PerCall(write, blocks)

    def write_all(self) -> None:
        write, last = self.write, self.blocks[-1].feed_forward.residual.total
        x = write.turned(write.cast(self.blocks[0].x.x, write.half), 1, 0, 2)
        for block in self.blocks:
            x = self.feed_forward(block.feed_forward, self.attention(block, x))
        end = write.cast(write.turned(x, 1, 0, 2), write.ir.DataType.FLOAT)
        end.dtype, end.shape = last.dtype or write.ir.DataType.FLOAT, last.shape
        write.ir.convenience.replace_all_uses_with(last, end)

    def attention(self, block: Block, x: ir.Value) -> ir.Value:
        write, (heads, kv_heads, size) = self.write, block.heads
        query, key, value = self.projected(block, self.modulated(block.x, x))
        query = self.rotated(block.query, query, heads, self.call.query_rope)
        key = self.rotated(block.key, key, kv_heads, self.call.key_rope)
        self.output(block.keys[0], write.shaped(key, 0, 0, kv_heads, size))
        self.output(block.values[0], write.shaped(value, 0, 0, kv_heads, size))
        key = self.with_tail(key, block.keys[1], kv_heads * size)
        value = self.with_tail(value, block.values[1], kv_heads * size)
        seen = write.add("Attention", query, key, value, scale=size**-0.5, q_num_heads=heads, kv_num_heads=kv_heads)
        if block.text is not None:
            pair = self.call.texts[block.text.key]
            inputs = (query, *pair, None, None, None, self.call.lengths)
            read = write.add("Attention", *inputs, scale=block.text.scale, q_num_heads=heads, kv_num_heads=heads)
            seen = write.add("Add", seen, read)
        out = write.add("MatMul", seen, self.matrix(block.projection))
        return write.add("Add", x, write.add("Mul", out, self.call.vector(block.residual.gate)))

    def feed_forward(self, part: FeedForward, x: ir.Value) -> ir.Value:
        """w1 and w3 apart: a product of both would need a Split, a pass over memory, for the same launches."""
        write, inner = self.write, self.modulated(part.x, x)
        gate, value = (write.add("MatMul", inner, self.matrix(w)) for w in (part.w1, part.w3))
        silu = write.add("Mul", gate, write.add("Sigmoid", gate))
        out = write.add("MatMul", write.add("Mul", silu, value), self.matrix(part.w2))
        return write.add("Add", x, write.add("Mul", out, self.call.vector(part.residual.gate)))

    def modulated(self, how: Modulated, x: ir.Value) -> ir.Value:
        """The norm's weight is one of each row, (R, 1, D)."""
        scale, shift = (self.call.vector(Vector(how.vectors, int(how.attributes[n]))) for n in ("scale", "shift"))
        normed = self.write.add("RMSNormalization", x, scale, axis=-1, epsilon=how.attributes["epsilon"])
        return self.write.add("Add", normed, shift)

    def projected(self, block: Block, x: ir.Value) -> list[ir.Value]:
        """Query, key and value, (R, A, H * d) and twice (R, A, G * d), of one product if they are equally wide.

        A Split into unequal parts copies their sizes to the GPU each time, which a captured graph must not.
        """
        write, (heads, kv_heads, _) = self.write, block.heads
        wide = [part.product.inputs[1] for part in (block.query, block.key, block.value)]
        matrices = [self.matrix(value) for value in wide if value is not None]
        if heads != kv_heads:
            return [write.add("MatMul", x, matrix) for matrix in matrices]
        return write.parts(write.add("MatMul", x, write.joined(matrices, 1)), 3, 2)

    def rotated(self, how: Heads, made: ir.Value, heads: int, rope: tuple[ir.Value, ir.Value]) -> ir.Value:
        """Heads (R, A, heads * d), normalised all together and rotated."""
        write, flat = self.write, made
        if how.norm is not None:
            weights = [write.cast(weight, write.half) for weight in how.norm.inputs[1:] if weight is not None]
            flat = write.add(
                "LayerNormalization", flat, *weights, axis=-1, epsilon=how.norm.attributes["epsilon"].as_float()
            )
        assert how.rotary is not None
        interleaved = how.rotary.attributes["interleaved"].as_int() if "interleaved" in how.rotary.attributes else 0
        return write.add("RotaryEmbedding", flat, *rope, interleaved=interleaved, num_heads=heads)

    def output(self, old: ir.Value, made: ir.Value) -> None:
        """Put (R, A, G, d) in the place of the output `old` (A, R, G, d)."""
        new = self.write.turned(made, 1, 0, 2, 3)
        new.dtype, new.shape, name = self.write.half, old.shape, old.name
        self.write.ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        old.name, new.name = None, name

    def with_tail(self, head: ir.Value, tail: ir.Value, width: int) -> ir.Value:
        """(R, N, G * d) of a head (R, A, G * d) and a tail (M, R, G, d), of which the tail is turned."""
        turned = self.write.shaped(self.write.turned(tail, 1, 0, 2, 3), 0, 0, width)
        return self.write.add("Concat", head, turned, axis=1)

    def matrix(self, wide: ir.Value) -> ir.Value:
        """A constant (K, N) in half; if it is stored so, without a cast to fp32 and back."""
        turned = wide.producer()
        cast = turned.inputs[0].producer() if turned is not None and turned.op_type == "Transpose" else None  # type: ignore[union-attr]
        stored = cast.inputs[0] if cast is not None and cast.op_type == "Cast" else None
        if stored is not None and stored.is_initializer() and stored.dtype == self.write.half:
            return self.write.turned(stored, 1, 0)
        return self.write.cast(wide, self.write.half)
