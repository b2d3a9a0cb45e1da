"""What an input or an output of a graph is: its first axis says it, whatever it is called (docs/contract.md)."""

from __future__ import annotations

from collections.abc import Sequence

from flagdit.engine.bundle.graph_spec import Graph, Tensor

FLOATS = ("float32", "float16", "bfloat16")
"""What `denoise` may take conditions and caches in; all else has the type that it is made in."""


def letter(axis: object) -> int | str:
    """A size, or the letter of an axis: behind a line a graph tells it from others of that letter (T_made)."""
    return axis if isinstance(axis, int) else str(axis).split("_")[0]


def begins(tensor: Tensor, letter: str) -> bool:
    """Whether its first axis is this letter."""
    return tensor.shape[:1] == (letter,)


def caches(inputs: Sequence[Tensor]) -> list[Tensor]:
    """The inputs of `denoise` that are the tail of a cache: they begin with M."""
    return [tensor for tensor in inputs if begins(tensor, "M")]


def cached_values(inputs: Sequence[Tensor]) -> int:
    """Numbers that all caches keep of a token and row."""
    return sum(tensor.values({"M": 1, "R": 1}) for tensor in caches(inputs))


def twin(tail: str) -> str:
    """The name of the output that writes the head of a cache, by that of the input that reads its tail."""
    return tail.replace("_tail", "_head", 1)


def is_text(axes: Sequence[object]) -> bool:
    """Whether axes of an input of `denoise` are of a text that a step computes, (R, T, ...): none of one that rests."""
    return tuple(axes[:2]) == ("R", "T")


def may_rest(denoise: Graph) -> bool:
    """Whether a text adds to the caches of `denoise`, and so may rest: outputs begin with T."""
    return any(begins(tensor, "T") for tensor in denoise.outputs)


def keys_or_values(name: str, shape: Sequence[object]) -> bool:
    """Whether a port of `denoise` or `condition` is what attention reads: of a cache, or of a text (R, G, T, d)."""
    axes = [letter(axis) for axis in shape]
    of_cache = axes[:1] == ["M"] or (axes[:1] == ["A"] and "_head" in name) or (axes[:1] == ["T"] and "_text" in name)
    return of_cache or (len(axes) == 4 and axes[0] == "R" and axes[2] == "T")


def timed(condition: Graph) -> list[Tensor]:
    """The outputs of `condition` that have an entry an evaluation: they begin with S."""
    return [tensor for tensor in condition.outputs if begins(tensor, "S")]


def constants(condition: Graph) -> list[Tensor]:
    """All others: they are the same in all evaluations."""
    return [tensor for tensor in condition.outputs if not begins(tensor, "S")]
