"""What this CPU can do, and which of a bundle's graphs suits it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

from flagdit.cpp_ext import has_amx
from flagdit.engine.bundle import Engine, Manifest
from flagdit.engine.errors import BackendError

Precision = Literal["int8-bf16", "int8", "float32", "float16", "bfloat16", "fp8"]
"""What `denoise` can compute in."""

PRECISIONS: tuple[Precision, ...] = ("int8-bf16", "int8", "float32")
"""On a CPU, fastest first: int8 products with attention in bf16 or in fp32, or fp32."""

NEEDS = {
    "int8": "int8 dot products (VNNI or AMX on x86, dotprod on ARM)",
    "int8-bf16": "tiles of int8 and bf16 (AMX), or its system does not lend them",
}

INT8_FLAGS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp"})
"""Linux's names of instructions that sum products of int8 into int32: on x86 and on ARM."""

MAX_THREADS = 1024

CPUINFO = Path("/proc/cpuinfo")


@cache
def multiplies_int8() -> bool:
    """Whether int8 products are both faster than fp32 here and exact.

    An x86 CPU without VNNI would sum pairs of products in 16 bits, which overflow. False if the system does not say.
    """
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    try:
        return has_int8(CPUINFO.read_text())
    except OSError:
        return False


def has_int8(cpuinfo: str) -> bool:
    """Whether the first CPU of Linux's list has one of the instructions."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = next((value for key, _, value in lines if key.strip() in ("flags", "Features")), "")
    return not INT8_FLAGS.isdisjoint(flags.split())


def suits(precision: Precision) -> bool:
    """Whether this CPU is made for an engine of that kind."""
    return {"float32": True, "int8": multiplies_int8(), "int8-bf16": has_amx()}.get(precision, False)


def checked_threads(threads: int) -> int:
    """The number of threads. Raises BackendError if it is out of bounds."""
    if not 1 <= threads <= MAX_THREADS:
        raise BackendError(f"threads is {threads}; allowed are 1 to {MAX_THREADS}, and all cores if left out")
    return threads


def obstacle(engine: Engine) -> str | None:
    """Why an engine of a bundle cannot run here, None if it can."""
    if engine.target == "tensorrt-rtx":
        return "flagdit has no backend for TensorRT-RTX yet (docs/gpu-status.md)"
    if engine.target != "onnxruntime":
        return "it is for a GPU; run it with --device cuda"
    if engine.graph != "denoise" or engine.precision not in NEEDS:
        return f"flagdit runs no {engine.graph} of {engine.precision} in an engine of its own on a CPU"
    precision = engine.precision
    return None if suits(precision) else f"this CPU has no {NEEDS[precision]}"


def unused(engines: Iterable[Engine]) -> list[str]:
    """A line for each reason that some of a bundle's engines cannot run here."""
    reasons: dict[str, list[str]] = {}
    for engine in engines:
        if (reason := obstacle(engine)) is not None:
            reasons.setdefault(reason, []).append(engine.file)
    return [f"not used: {', '.join(files)}: {reason}" for reason, files in reasons.items()]


def available(manifest: Manifest) -> dict[Precision, Engine | None]:
    """The engines of `denoise` that this CPU is made for, fastest first; None is its own graph, in fp32."""
    engines: dict[str, Engine | None] = dict(_engines(manifest)) | {"float32": None}
    return {precision: engines[precision] for precision in PRECISIONS if precision in engines and suits(precision)}


def choose(manifest: Manifest, precision: Precision | None) -> Engine | None:
    """The engine that `denoise` runs in, by default the fastest; None is its own graph. Raises BackendError."""
    if precision not in (None, *PRECISIONS):
        raise BackendError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    engines = available(manifest)
    if precision is None:
        return next(iter(engines.values()))
    if precision not in engines and precision in _engines(manifest):
        raise BackendError(f"this CPU has no {NEEDS[precision]}; use {' or '.join(engines)}")
    if precision not in engines:
        raise BackendError(
            f"the bundle of {manifest.model.name} has no {precision} engine; make one with: "
            "flagdit export CHECKPOINT -o MODEL --dtype int8, then flagdit build MODEL -o BUNDLE"
        )
    return engines[precision]


def _engines(manifest: Manifest) -> dict[str, Engine]:
    return {e.precision: e for e in manifest.engines if e.target == "onnxruntime" and e.graph == "denoise"}
