"""Where a run computes: on the CPU or a GPU, in which backend, in which of a bundle's engines."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast, get_args

from flagdit.cpp_ext import Gpu, choose_device, choose_on_gpu
from flagdit.engine import cpu
from flagdit.engine.bundle import Engine, Manifest
from flagdit.engine.cpu import Precision

Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["onnxruntime", "tensorrt"]

DEVICES: tuple[Device, ...] = get_args(Device)
BACKENDS: tuple[Backend, ...] = get_args(Backend)

CUDA_LIBRARIES = ("libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcufft.so.12")
"""What ONNX Runtime's CUDA provider looks for, each after those it needs itself."""


@dataclass(frozen=True)
class Chosen:
    """engine: of `denoise`, None for the model's own graph in fp32."""

    device: Literal["cpu", "cuda"]
    backend: Backend
    engine: Engine | None

    @property
    def precision(self) -> Precision:
        """What `denoise` computes in."""
        return "float32" if self.engine is None else self.engine.precision


def choose(
    manifest: Manifest, *, device: str = "auto", backend: str = "onnxruntime", precision: str | None = None
) -> Chosen:
    """device: "auto" is a GPU if one can be used. Raises BackendError with what is missing, and the next command."""
    gpu = Gpu() if device == "cpu" else Gpu.here()
    where = choose_device(device, backend, gpu, bool(gpu.name) and has_provider())
    if where == "cpu":
        return Chosen("cpu", "onnxruntime", cpu.choose(manifest, cast(Precision | None, precision)))
    engines = [(e.graph, e.target, e.precision, e.architectures) for e in manifest.engines]
    number = choose_on_gpu(engines, manifest.model.name, backend, precision, gpu)
    return Chosen("cuda", cast(Backend, backend), None if number is None else manifest.engines[number])


def has_provider() -> bool:
    """Whether the installed ONNX Runtime has its CUDA provider."""
    from flagdit.engine.session import onnxruntime  # which needs what is above

    return onnxruntime().has_cuda


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
