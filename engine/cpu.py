"""What this CPU can do that decides which graph suits it."""

from __future__ import annotations

import platform
import sys
from functools import cache
from pathlib import Path

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
