"""Shape profiles: how small and how large every input of an engine may be, from the graph's symbolic axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flagdit.engine.bundle import Graph, ModelSpec, Profile
from flagdit.engine.bundle.ports import is_text, may_rest
from flagdit.engine.errors import BuildError
from flagdit.engine.layout import TokenLayout

Range = tuple[int, int, int]
"""Smallest, best and largest size of an axis; kernels are chosen for the best one."""

TEXT_TOKENS = 128  # of a model that comes without a text encoder


@dataclass(frozen=True)
class Limits:
    """The largest request that an engine serves; everything smaller is served too.

    size: (width, height) in latent pixels, by default the model's own; any shape with no more tokens fits.
    batch: pictures at once, each of two rows under guidance. steps: of one run.
    """

    size: tuple[int, int] | None = None
    batch: int = 1
    steps: int = 100

    def __post_init__(self) -> None:
        for name, value in (("batch", self.batch), ("steps", self.steps)):
            if value < 1:
                raise BuildError(f"{name} is {value}; an engine serves at least 1")


def ranges(spec: ModelSpec, limits: Limits) -> dict[str, Range]:
    """Sizes of the axes A active, M cached, R rows, T text, S steps. Raises RequestError if the size cannot tile.

    One wide profile serves every kind of step: M = 0 is a dense one. The best sizes are those of a
    region-adaptive step that recomputes half of the tokens, with guidance.
    """
    tokens = TokenLayout.of(spec, limits.size).tokens
    text, most = spec.sizes.text, spec.sizes.text or spec.text_tokens or TEXT_TOKENS
    active = max(1, tokens // 2)
    return {
        "A": (1, active, tokens),
        "M": (0, tokens - active, tokens),
        "R": (1, 2, 2 * limits.batch),
        "T": (2, text or min(32, most), most),
        "S": (1, min(30, limits.steps), limits.steps),
    }


def profiles(graph: Graph, axes: Mapping[str, Range]) -> dict[str, Profile]:
    """Profile of every input of `graph`, by name. Raises BuildError if an axis is not among `axes`.

    Where a text adds to the caches, it may rest: what a step computes of it, (R, T, ...), has no token then, and it is
    behind those of the tail. A bias of its keys has all of them always.
    """
    computed = axes  # of a text that a step computes
    if may_rest(graph):
        text, tail = axes["T"], axes["M"]
        axes = {**axes, "M": (*tail[:2], tail[2] + text[2])}
        computed = {**axes, "T": (0, *text[1:])}
    found = {}
    for tensor in graph.inputs:
        unknown = sorted({a for a in tensor.shape if isinstance(a, str)} - set(axes))
        if unknown:
            raise BuildError(
                f"{graph.file}: input {tensor.name} has axis {', '.join(unknown)}; known are {', '.join(axes)}: "
                "export the model again with this flagdit"
            )
        of = computed if is_text(tensor.shape) else axes
        sizes = [of[a] if isinstance(a, str) else (a, a, a) for a in tensor.shape]
        low, best, high = (tuple(size[i] for size in sizes) for i in range(3))
        found[tensor.name] = Profile(min=low, opt=best, max=high)
    return found
