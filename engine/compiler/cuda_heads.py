"""Queries, keys and values of a graph for the CUDA provider: heads as one axis, (R, A, H * d) and (R, A, G * d).

Letters: A active tokens, R rows, K inputs and N outputs of a matrix, H heads, G kv heads, d head size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagdit.engine.compiler.cuda_call import PerCall, Rope
from flagdit.engine.compiler.graph_writer import Writer
from flagdit.engine.compiler.parts import Projected, cut_of_tokens
from flagdit.engine.compiler.patterns import Heads, epsilon_of, integer

if TYPE_CHECKING:
    import onnx_ir as ir


class CudaHeads:
    """What is made of a modulated x, and what of it goes to a cache."""

    def __init__(self, write: Writer, call: PerCall) -> None:
        self.write, self.call = write, call

    def made(self, part: Projected, scale: ir.Value | float, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Query, key and value of x (R, A, D), normalised and rotated; a scale that a run sets is in the query."""
        query, key, value = self.projected(part, x)
        heads, kv_heads, _ = part.heads
        query = self.finished(part.query, query, heads, self.call.rope(part.query, scale))
        return query, self.finished(part.key, key, kv_heads, self.call.rope(part.key, 1.0)), value

    def projected(self, part: Projected, x: ir.Value) -> list[ir.Value]:
        """Of one product if they are equally wide.

        A Split into unequal parts copies their sizes to the GPU each time, which a captured graph must not.
        """
        write, (heads, kv_heads, _) = self.write, part.heads
        parts = (part.query, part.key, part.value)
        matrices = [matrix(write, each.product.inputs[1]) for each in parts]
        biases = [write.cast(each.bias, write.half) for each in parts if each.bias is not None]
        joint = heads == kv_heads
        if joint:
            matrices, biases = [write.joined(matrices, 1)], [write.joined(biases, 0)] if biases else []
        made = [write.add("MatMul", x, each) for each in matrices]
        if biases:
            made = [write.add("Add", each, bias) for each, bias in zip(made, biases, strict=True)]
        return write.parts(made[0], 3, 2) if joint else made

    def finished(self, how: Heads, made: ir.Value, heads: int, rope: Rope | None) -> ir.Value:
        """(R, A, heads * d), normalised all together or each by itself, and rotated."""
        write, flat = self.write, made
        if how.norm is not None:
            weights = [write.cast(weight, write.half) for weight in how.norm.inputs[1:] if weight is not None]
            epsilon = epsilon_of(how.norm)
            apart = write.shaped(flat, 0, 0, heads, how.size) if how.each else flat
            normed = write.add(how.norm.op_type, apart, *weights, axis=-1, epsilon=epsilon)
            flat = write.shaped(normed, 0, 0, heads * how.size) if how.each else normed
        if how.rotary is None or rope is None:
            return flat
        interleaved = how.rotary.attributes.get_int("interleaved", 0)
        return write.add("RotaryEmbedding", flat, *rope, interleaved=interleaved, num_heads=heads)

    def keep(self, old: ir.Value, made: ir.Value, kv_heads: int, size: int) -> list[ir.Value]:
        """Put keys or values (R, A, G * d) in the place of the output `old` (A, R, G, d), or of its tokens that are.

        Returns what was put there, the tokens of the picture before those of a text.
        """
        if old.is_graph_output():
            self._output(old, made, kv_heads, size)
            return [made]
        uses = dict.fromkeys(use.node for use in old.uses() if cut_of_tokens(use.node.outputs[0]) is use.node)
        cuts = [cut for cut in uses if cut.outputs[0].is_graph_output()]
        cuts.sort(key=lambda cut: integer(cut.inputs[1]) != 0)
        put = [self.cut(made, cut) for cut in cuts]
        for cut, value in zip(cuts, put, strict=True):
            self._output(cut.outputs[0], value, kv_heads, size)
        return put

    def _output(self, old: ir.Value, made: ir.Value, kv_heads: int, size: int) -> None:
        new = self.write.turned(self.write.shaped(made, 0, 0, kv_heads, size), 1, 0, 2, 3)
        new.dtype, new.shape, name = self.write.half, old.shape, old.name
        self.write.ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        old.name, new.name = None, name

    def cut(self, made: ir.Value, cut: ir.Node) -> ir.Value:
        """The tokens of `made` (R, A, ...) that a Slice takes of (A, R, ...)."""
        return self.write.add("Slice", made, *cut.inputs[1:3], self.write.numbers(1))


def matrix(write: Writer, wide: ir.Value | None) -> ir.Value:
    """A constant (K, N) in half; if it is stored so, without a cast to fp32 and back."""
    assert wide is not None
    turned = wide.producer()
    cast = turned.inputs[0].producer() if turned is not None and turned.op_type == "Transpose" else None  # type: ignore[union-attr]
    stored = cast.inputs[0] if cast is not None and cast.op_type == "Cast" else None
    if stored is not None and stored.is_initializer() and stored.dtype == write.half:
        return write.turned(stored, 1, 0)
    return write.cast(wide, write.half)
