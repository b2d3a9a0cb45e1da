"""What the layers of a graph for the CUDA provider share: made once a call, in a few launches for all of them.

Letters: A active tokens, M cached tokens, R rows, T text tokens, L layers, D width, H heads, G kv heads, d head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flagdit.engine.compiler.cuda_vectors import written_vectors
from flagdit.engine.compiler.graph_writer import MOST, Writer
from flagdit.engine.compiler.parts import Attended, Part, refused
from flagdit.engine.compiler.patterns import Heads, integer, integers, made_by, order_of
from flagdit.engine.compiler.precision import constant
from flagdit.engine.compiler.seen import Seen, Text

if TYPE_CHECKING:
    import onnx_ir as ir

Rope = tuple["ir.Value", "ir.Value"]

VISIBLE = -5000.0
"""A bias above it is of a text's token, one below of what fills up (MASKED of flagdit.export is -10000)."""


class PerCall:
    """Vectors, rotations, texts and lengths of all parts, in the order and type that layers take them."""

    def __init__(self, write: Writer, parts: Sequence[Part]) -> None:
        self.write = write
        self.turned: dict[ir.Value, ir.Value] = {}
        self.factors: dict[ir.Value, ir.Value] = {}
        self.ropes: dict[tuple[ir.Value | None, ...], Rope] = {}
        self.counted: dict[ir.Value, ir.Value] = {}
        self.vectors = written_vectors(write, parts)
        self.texts = self._texts([part for part in parts if isinstance(part, Attended)])

    def rows_first(self, value: ir.Value) -> ir.Value:
        """(R, A, ...) in half of a value (A, R, ...), which may be turned, or joined of such, in the exported graph."""
        if value not in self.turned:
            write, swapped, joined = self.write, made_by(value, "Transpose"), made_by(value, "Concat")
            if joined is not None and joined.attributes["axis"].as_int() == 0:
                made = write.joined([self.rows_first(part) for part in joined.inputs if part is not None], 1)
            elif swapped is not None and order_of(swapped) == SWAPPED:
                (given,) = swapped.inputs
                assert given is not None
                made = write.cast(given, write.half)
            else:
                made = write.turned(write.cast(value, write.half), *SWAPPED)
            self.turned[value] = made
        return self.turned[value]

    def rope(self, heads: Heads, scale: ir.Value | float) -> Rope | None:
        """cos and sin (R, A, d/2), times the factor of `scale` if that is a value; None if heads are not rotated."""
        if heads.rotary is None:
            return None
        key = *heads.rotary.inputs[1:3], None if isinstance(scale, float) else scale
        if key not in self.ropes:
            cos, sin = (self.rows_first(table) for table in key[:2] if table is not None)
            if not isinstance(scale, float):
                factor = self.factor(scale, heads.size)
                cos, sin = self.write.add("Mul", cos, factor), self.write.add("Mul", sin, factor)
            self.ropes[key] = cos, sin
        return self.ropes[key]

    def factor(self, scale: ir.Value, size: int) -> ir.Value:
        """What is folded into queries of a scale that a run sets: the quotient to 1 / sqrt(d), which the attention
        multiplies with. Keys of texts are divided by it, so what is cached is what the exported graph caches.
        """
        if scale not in self.factors:
            number = constant(self.write.graph, f"cuda.root.{size}", np.array([size**0.5], np.float32))
            self.factors[scale] = self.write.cast(self.write.add("Mul", scale, number), self.write.half)
        return self.factors[scale]

    def _texts(self, attended: Sequence[Attended]) -> dict[ir.Value, tuple[ir.Value, ir.Value]]:
        """By a layer's text key: keys (R, T, H * d) over the factor of queries, and values times the layer's gate."""
        made: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
        texts = [part.seen.text for part in attended if part.seen.text is not None]
        kinds = {(part.heads, part.seen.scale) for part in attended if part.seen.text is not None}
        if len(kinds) > 1:
            raise refused(texts[0].key, "is attended to otherwise in other layers")
        for start in range(0, len(texts), MOST):
            some, (heads, scale) = texts[start : start + MOST], next(iter(kinds))
            keys = self._flat([text.key for text in some], heads)
            if not isinstance(scale, float):
                keys = self.write.add("Div", keys, self.factor(scale, heads[2]))
            values = self._gated(self._flat([text.value for text in some], heads), some)
            parts = (self.write.parts(flat, len(some), 2) for flat in (keys, values))
            made |= {text.key: pair for text, pair in zip(some, zip(*parts, strict=True), strict=True)}
        return made

    def _flat(self, texts: Sequence[ir.Value], heads: tuple[int, int, int]) -> ir.Value:
        """Of some (R, G, T, d): (R, T, n * H * d).

        Text has few tokens, so its kv heads are repeated to H: then a gate of a query head is one of a value's head.
        """
        write, (all_heads, kv_heads, size) = self.write, heads
        lies = write.turned(write.joined(texts, 1), 0, 2, 1, 3)  # (R, T, n * G, d)
        if all_heads != kv_heads:
            share = write.numbers(1, 1, 1, all_heads // kv_heads, 1)
            lies = write.add("Expand", write.add("Unsqueeze", lies, write.numbers(3)), share)
        return write.shaped(lies, 0, 0, len(texts) * all_heads * size)

    def _gated(self, flat: ir.Value, texts: Sequence[Text]) -> ir.Value:
        """Values times the gate (H * d,) of each layer."""
        factor = self.write.joined([self.write.shaped(text.gate, -1) for text in texts], 0)
        return self.write.add("Mul", flat, self.write.cast(factor, self.write.half))

    def lengths(self, seen: Seen) -> tuple[ir.Value | None, bool]:
        """How many keys count in each row, (R,), and whether the text may rest. What may be hidden has to be last: if
        not, keys lie as the tail, then the head with its text last; if so as head, tail, text of the head.
        """
        if seen.bias is None:
            return None, False
        return self.visible(seen.bias), text_may_rest(seen, seen.bias)

    def visible(self, bias: ir.Value) -> ir.Value:
        """Keys of each row (R,) that a bias (R, 1, 1, N) leaves; what fills up comes last (docs/contract.md)."""
        if bias not in self.counted:
            write = self.write
            seen = write.add("Greater", bias, constant(write.graph, "cuda.visible", np.array(VISIBLE, np.float32)))
            ones = write.add("Cast", seen, to=write.ir.DataType.FLOAT.value)
            counted = write.add("ReduceSum", ones, write.numbers(1, 2, 3), keepdims=0)
            self.counted[bias] = write.add("Cast", counted, to=write.ir.DataType.INT64.value)
        return self.counted[bias]


SWAPPED = (1, 0, 2)
"""Order of axes: (A, R, D) to (R, A, D), and back."""


def text_may_rest(seen: Seen, bias: ir.Value) -> bool:
    """Whether a text is in the head or, at rest, at the end of the tail. Raises BuildError unless it alone is hidden.

    The bias is zeros, a text's, and zeros of as many keys as the tail has; of a text that may rest zeros, what is in
    the head of it, zeros, and what is in the tail of it.
    """
    joined, tail = made_by(bias, "Concat"), seen.keys.inputs[-1]
    parts = joined.inputs if joined is not None and joined.attributes["axis"].as_int() in (-1, 3) else ()
    if len(parts) < 2 or tail is None or tail.shape is None:
        raise refused(bias, "is no bias of a text")
    *zeros, text, behind = parts
    halves = _halved(parts[1], behind) if len(parts) == 4 else None
    if halves is not None:
        zeros, text = [parts[0], parts[2]], halves
    elif behind is not None and behind.shape is not None and behind.shape[3] == tail.shape[0]:
        zeros.append(behind)
    else:
        raise refused(bias, "is of keys in another order")
    if text is None or not text.is_graph_input() or not all(map(_is_zeros, zeros)):
        raise refused(bias, "is no bias of a text alone")
    return halves is not None


def _halved(now: ir.Value | None, later: ir.Value | None) -> ir.Value | None:
    """The bias (R, 1, 1, T) that two values are cut of: up to a key, and from that on to the last."""
    one, other = made_by(now, "Slice"), made_by(later, "Slice")
    if one is None or other is None or one.inputs[0] is not other.inputs[0]:
        return None
    along_keys = all(integers(cut.inputs[3]) in ((-1,), (3,)) and integer(cut.inputs[4]) == 1 for cut in (one, other))
    last = made_by(other.inputs[2], "Shape")
    to_last = last is not None and last.inputs[0] is one.inputs[0] and last.attributes.get_int("start", 0) == 3
    whole = integer(one.inputs[1]) == 0 and one.inputs[2] is other.inputs[1] and to_last
    return one.inputs[0] if along_keys and whole else None


def _is_zeros(value: ir.Value | None) -> bool:
    """Whether a value is 0 everywhere, in a size that a run decides."""
    node = made_by(value, "ConstantOfShape")
    filled = node.attributes.get("value") if node is not None else None
    return node is not None and (filled is None or not filled.as_tensor().numpy().any())
