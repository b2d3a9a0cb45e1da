"""Powers of two by which parts of a model are made smaller, so that float16 holds what is computed.

Where a norm follows (Next-DiT, Lumina-Image 2.0, Z-Image), what goes into it may be any multiple of itself: the norm
takes the multiple out again, if its epsilon is a multiple by the square. With powers of two that is exact, in float32
to the bit. Values and `w3` are made smaller, so that attention and the middle of the feed-forward layer fit, then `wo`
and `w2`, so that what they make does.

How large activations become is bounded by the weights (Cauchy and Schwarz): a row times what comes out of a norm, whose
length is the root of its width. Only what a modulation does is not known: MARGIN leaves room for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from flagdit.export.tensors import Tensors
from flagdit.export.weights import Take, pieces_of

END = 65504.0
"""Of float16."""
MARGIN = 4.0
"""Room for modulations: each may make what a norm gives so many times as large."""
SMALLEST = 2.0**-10
"""Root mean square of a matrix that is as small as it may become: below, float16 would lose digits of its numbers."""

Powers = Mapping[str, int]
"""By matrix: its numbers are 2^-power of what they were."""

BLACK = "if float16 engines paint black pictures, build with --precision bfloat16 or float32"


@dataclass(frozen=True)
class Rescaling:
    """What was chosen, and why. blocks: that have norms behind. most: the largest bound; left: that after all."""

    powers: Powers
    blocks: int = 0
    changed: int = 0
    most: float = 0.0
    left: float = 0.0

    def said(self) -> str:
        """For people."""
        if not self.blocks:
            return f"float16: no norm follows attention and feed-forward layers, so nothing is rescaled; {BLACK}"
        reach = f"float16: by the weights activations are at most {self.most:.2g}, and it ends at {END:.0f}"
        if not self.changed:
            return f"{reach}; nothing is rescaled" + (f"; {BLACK}" if self.left > END else "")
        how = (
            f"{self.changed} of {self.blocks} blocks are smaller by powers of two, up to "
            f"2^-{max(self.powers.values())}, which the norm behind takes out again: velocities are the same"
        )
        return f"{reach}; {how}" + (f". They may still reach {self.left:.2g}: {BLACK}" if self.left > END else "")


def choose(module: nn.Module, takes: Mapping[str, Take], tensors: Tensors) -> Rescaling:
    """Powers for the blocks of a model that have norms behind, most of whose weights this reads."""
    powers: dict[str, int] = {}
    most = left = 0.0
    blocks = changed = 0
    for name, block, _ in _blocks(module):
        blocks += 1
        own: dict[str, int] = {}
        for pair in _pairs(name, block, _Rows(takes, tensors)):
            first, last = pair.powers()
            own |= {**dict.fromkeys(pair.first, first), pair.last: last}
            most = max(most, pair.inside, pair.outside, pair.fixed)
            left = max(left, pair.inside / 2**first, pair.outside / 2 ** (first + last), pair.fixed)
        powers |= {matrix: power for matrix, power in own.items() if power}
        changed += any(own.values())
    return Rescaling(powers, blocks, changed, most, left)


def rescaled(takes: Mapping[str, Take], powers: Powers) -> dict[str, Take]:
    """The same with matrices made smaller."""
    return {name: replace(take, power=powers.get(name, 0)) for name, take in takes.items()}


def widen_norms(module: nn.Module, powers: Powers) -> None:
    """Give the norms behind what was made smaller the epsilon that goes with it."""
    for name, block, behind in _blocks(module):
        for norm, matrices in zip(behind, (("attention.wv", "attention.wo"), FEED), strict=True):
            total = sum(powers.get(f"{name}.{matrix}.weight", 0) for matrix in matrices)
            layer = getattr(block, norm)
            layer.plain_eps = getattr(layer, "plain_eps", layer.eps)
            layer.eps = layer.plain_eps * 4.0**-total


FEED = "feed_forward.w3", "feed_forward.w2"


def to_text(powers: Powers) -> str:
    """For the configuration in `model.json`."""
    return json.dumps(dict(sorted(powers.items())), separators=(",", ":")) if powers else ""


def of_text(text: object) -> Powers:
    """Raises ValueError if it is none of to_text."""
    values = json.loads(text) if isinstance(text, str) and text else {}
    if not isinstance(values, dict) or not all(isinstance(power, int) and 0 < power < 64 for power in values.values()):
        raise ValueError(f"rescaled is {str(text)[:40]!r}")
    return values


def keep_choice(path: Path, key: str, chosen: Rescaling) -> None:
    """Write what was chosen for an export that may be cut off."""
    path.write_text(json.dumps([key, asdict(chosen)]))


def read_choice(path: Path, key: str) -> Rescaling | None:
    """What keep_choice wrote of the same, or none."""
    try:
        found, values = json.loads(path.read_text())
        return Rescaling(**values) if found == key else None
    except (OSError, ValueError, TypeError):
        return None


def _blocks(module: nn.Module) -> Iterator[tuple[str, nn.Module, tuple[str, str]]]:
    """Blocks whose attention and SwiGLU have norms behind, and the names of those."""
    for name, block in module.named_modules():
        behind = getattr(block, "behind", None)
        if behind is not None:
            yield name, block, behind


@dataclass(frozen=True)
class _Pair:
    """Matrices that make what is inside, the one behind them; bounds inside and behind; root mean squares of both.

    fixed: bound of what nothing can make smaller.
    """

    first: Sequence[str]
    last: str
    inside: float
    outside: float
    sizes: tuple[float, float]
    fixed: float = 0.0

    def powers(self) -> tuple[int, int]:
        """Of the first ones and of the last: as much as it takes, and as they may become smaller."""
        rooms = [max(0, math.floor(math.log2(max(size, SMALLEST) / SMALLEST))) for size in self.sizes]
        first = min(_needed(self.inside), rooms[0])
        last = min(_needed(self.outside / 2**first), rooms[1])
        return min(first + _needed(self.outside / 2 ** (first + last)), rooms[0]), last


def _needed(bound: float) -> int:
    return math.ceil(math.log2(bound / END)) if bound > END else 0


def _pairs(name: str, block: nn.Module, rows: _Rows) -> Iterator[_Pair]:
    """Of a block, the attention's and the feed-forward layer's."""
    attention, feed = (None if norm is None else f"{name}.{norm}.weight" for norm in block.before)  # type: ignore[union-attr]
    wv, wv_y, wo, w1, w2, w3 = (
        f"{name}.{matrix}.weight"
        for matrix in ("attention.wv", "attention.wv_y", "attention.wo", "feed_forward.w1", *FEED[::-1])
    )
    values, size = rows.of(wv, attention)
    values, first = values * MARGIN, [wv]
    if wv_y in rows.takes:  # both are mixed, the text's by a gate below 1
        text, text_size = rows.of(wv_y, f"{name}.attention_y_norm.weight")
        values, size, first = values + text, min(size, text_size), [wv, wv_y]
    out, out_size = rows.of(wo, None)  # its root of the width stands for channels of values that several heads share
    yield _Pair(first, wo, values.max().item(), (out.max() * values.square().mean().sqrt()).item(), (size, out_size))
    (one, _), (three, size) = rows.of(w1, feed), rows.of(w3, feed)
    middle = one * three * MARGIN**2
    out, out_size = rows.of(w2, None)
    outside = (out.max() * middle.square().mean().sqrt()).item()
    yield _Pair([w3], w2, middle.max().item(), outside, (size, out_size), one.max().item() * MARGIN)


@dataclass(frozen=True)
class _Rows:
    """What rows of matrices make of vectors whose numbers have a root mean square of 1, as those that norms give."""

    takes: Mapping[str, Take]
    tensors: Tensors

    def of(self, matrix: str, norm: str | None) -> tuple[Tensor, float]:
        """Bounds (N,), with the weights of the norm before it; and the root mean square of the matrix itself."""
        gain = 1.0 if norm is None else torch.cat([p.float() for p in pieces_of(self.takes[norm], self.tensors)])
        total, count, width, bounds = 0.0, 0, 0, []
        for piece in pieces_of(self.takes[matrix], self.tensors):
            wide = piece.float()
            total, count, width = total + wide.square().sum().item(), count + wide.numel(), wide.shape[1]
            bounds.append((wide * gain).norm(dim=1))
        return torch.cat(bounds) * math.sqrt(width), math.sqrt(total / max(count, 1))
