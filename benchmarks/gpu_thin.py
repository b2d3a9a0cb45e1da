"""Part of gpu_carry.py: a library of CUDA kernels with the code of one architecture, and of some kernels only.

Containers of code (fatbin) keep their places and headers: what is kept of one moves to its front, the rest is zeros,
which pack to nothing. A kernel that was left out fails with cudaErrorNoKernelImageForDevice when it is called.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

MAGIC, CUBIN = 0xBA55ED50, 2

UNUSED = re.compile(
    rb"moe|Moe|MOE|xqa|Paged|paged|Sparse|GemmUniversal|GroupProblem|fused_multihead|DecoderMasked|masked_multihead|fpA_intB"
    rb"|radix_sort|RadixSort|deep_gemm|fp8_gemm|Qsa|Csa|kernel_traitsILi(?:32|160|192|224|256)"
)
"""Kernels of mixtures of experts, decoders, paged and sparse attention, and of head sizes that no model of ours has."""


def thin(source: Path, target: Path, arch: int, cuobjdump: Path) -> None:
    """Write `source` with the code of sm_`arch` alone, without modules of which all kernels are UNUSED."""
    data = bytearray(source.read_bytes())
    with TemporaryDirectory() as scratch:
        for kind in (f"sm_{arch}", f"sm_{arch}a"):
            subprocess.run([cuobjdump, "-xelf", kind, source.resolve()], cwd=scratch, check=False, capture_output=True)
        used = {int(path.name.split(".")[-3]): _used(path) for path in Path(scratch).glob("*.cubin")}
    number = 0
    for begin, end in _containers(data):
        kept = []
        for place, size, kind, of in _modules(data, begin, end):
            number += kind == CUBIN
            if kind == CUBIN and of == arch and used.get(number, True):
                kept.append(bytes(data[place : place + size]))
        blob = b"".join(kept)
        data[begin:end] = blob + bytes(end - begin - len(blob))
        struct.pack_into("<Q", data, begin - 8, len(blob))
    target.write_bytes(data)


def _used(cubin: Path) -> bool:
    kernels = re.findall(rb"\.text\.([A-Za-z0-9_$]+)", cubin.read_bytes())
    return not UNUSED.search(b" ".join(kernels))


def _containers(data: bytearray) -> Iterator[tuple[int, int]]:
    """Where the modules of each container of the section .nv_fatbin begin and end."""
    (table,), (count, names) = struct.unpack_from("<Q", data, 0x28), struct.unpack_from("<HH", data, 0x3C)
    sections = [struct.unpack_from("<IIQQQQ", data, table + 64 * i) for i in range(count)]
    for name, _, _, _, place, size in sections:
        at, end = sections[names][4] + name, place + size
        if data[at : data.index(0, at)] != b".nv_fatbin":
            continue
        while place + 16 <= end:
            magic, _, header, length = struct.unpack_from("<IHHQ", data, place)
            if magic != MAGIC:
                place += 8
                continue
            yield place + header, place + header + length
            place = (place + header + length + 7) & ~7


def _modules(data: bytearray, place: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Place, size, kind and architecture of each."""
    while place + 64 <= end:
        kind, _, header, payload = struct.unpack_from("<HHIQ", data, place)
        (arch,) = struct.unpack_from("<I", data, place + 28)
        yield place, header + payload, kind, arch
        place += header + payload
