"""A graph of a model as a manifest describes it: its file, and what it takes and gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from flagdit.engine.bundle.spec import FileName, Spec


class Tensor(Spec):
    """One input or output of a graph. What a letter as its first axis makes of it, docs/contract.md says."""

    name: Annotated[str, Field(min_length=1)]
    dtype: Literal["float64", "float32", "float16", "bfloat16", "int64", "int32", "bool"]
    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=1 << 30)] | str, ...], Field(max_length=8)]

    def values(self, sizes: Mapping[str, int]) -> int:
        """How many numbers it has where its symbolic axes have these sizes."""
        return math.prod(sizes[axis] if isinstance(axis, str) else axis for axis in self.shape)


class Graph(Spec):
    """An ONNX file, and what it takes and gives. weights: a file that only this graph has weights in."""

    file: FileName
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    weights: FileName | None = None


class Graphs(Spec):
    """`condition` runs once a prompt, `place` once a size, `denoise` once an evaluation.

    decode: latents to a picture; preview: the same, small and rough; encode: a picture to latents.
    """

    condition: Graph
    place: Graph
    denoise: Graph
    decode: Graph | None = None
    encode: Graph | None = None
    preview: Graph | None = None
