"""What this CPU can do, and which of a bundle's graphs suits it."""

from __future__ import annotations

import platform
import sys
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from flagdit.engine.errors import BackendError
from flagdit.engine.manifest import Engine, Manifest

Precision = Literal["float32", "int8"]
"""What `denoise` can multiply in on a CPU."""

INT8_FLAGS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp"})
"""Linux's names of instructions that sum products of int8 into int32: on x86 and on ARM."""

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


def choose(manifest: Manifest, precision: Precision | None) -> Engine | None:
    """The engine that `denoise` runs in on this CPU, None for its own graph, in fp32. Raises BackendError."""
    if precision not in (None, *get_args(Precision)):
        raise BackendError(f"precision {precision!r} is not one of {', '.join(get_args(Precision))}")
    engine = next((e for e in manifest.engines if e.target == "onnxruntime" and e.graph == "denoise"), None)
    if precision == "int8" and engine is None:
        raise BackendError(
            f"the bundle of {manifest.model.name} has no int8 engine; make one with: "
            "flagdit export CHECKPOINT -o MODEL --dtype int8, then flagdit build MODEL -o BUNDLE"
        )
    if precision == "int8" and not multiplies_int8():
        raise BackendError("this CPU has no int8 dot products (VNNI or AMX on x86, dotprod on ARM); use float32")
    return engine if precision != "float32" and multiplies_int8() else None
