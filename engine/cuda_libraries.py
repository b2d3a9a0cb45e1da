"""CUDA's libraries, from NVIDIA's Python packages."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

CUDA_LIBRARIES = ("libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcufft.so.12")
"""What ONNX Runtime's CUDA provider looks for, each after those it needs itself."""


@cache
def load_cuda_libraries() -> None:
    """Load what NVIDIA's Python packages have of CUDA: ONNX Runtime finds what is loaded, and does not look there.

    What is not there the system may have; if it has not, ONNX Runtime says so.
    """
    folders = [folder for path in sys.path for folder in sorted(Path(path).glob("nvidia/*/lib"))]
    for name in CUDA_LIBRARIES:
        for folder in folders:
            if (folder / name).is_file():
                with suppress(OSError):
                    ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
                    break
