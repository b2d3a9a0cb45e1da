"""How much memory a run takes on a CPU, before anything is allocated (memory.h)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from flagdit import cpp_ext
from flagdit.cpp_ext import LOADED_IN_TURN, Memory, Plan, check_memory, decode_bytes, encoder_bytes
from flagdit.engine.bundle import Graph, Manifest, ModelSpec
from flagdit.engine.cost import sizes_of
from flagdit.engine.cpu import Precision

__all__ = ["Memory", "check_memory", "encoder_memory", "memory", "stored_bytes"]


def stored_bytes(manifest: Manifest, graph: Graph) -> int:
    """Of a graph that has weights of its own, and of these."""
    names = [graph.file] if graph.weights is None else [graph.file, graph.weights]
    return sum(manifest.files[name].bytes for name in names)


def encoder_memory(manifest: Manifest) -> int:
    """About what the largest text encoder takes, which is loaded and let go before the steps.

    0 where all of them stay, as small ones do.
    """
    sizes = [(text.dtype, stored_bytes(manifest, text.graph)) for text in manifest.model.texts]
    return max((encoder_bytes(dtype, size) for dtype, size in sizes if size >= LOADED_IN_TURN), default=0)


def memory(
    spec: ModelSpec,
    plans: Sequence[Plan],
    precision: Precision,
    *,
    samples: int = 1,
    branches: int = 2,
    threads: int | None = None,
    size: tuple[int, int] | None = None,
) -> Memory:
    """What a run of these plans one after the other takes in an engine of that precision; of all it says the largest.

    plans: of the steps at the full size, last, and of coarse ones before them. threads: of the engine, by default one a
    core. size: (width, height), by default the model's own; one picture is decoded at a time. It is an estimate:
    docs/cpu.md says how near it comes.
    """
    decode = 0 if spec.graphs.decode is None else decode_bytes(*(size or spec.latent.size))
    return cpp_ext.memory(sizes_of(spec), plans, precision, samples, branches, threads or os.cpu_count() or 1, decode)
