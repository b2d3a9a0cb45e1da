"""Where a run computes: on the CPU or a GPU, in which backend, in which of a bundle's engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from flagdit.cpp_ext import Gpu, choose_device, choose_on_gpu
from flagdit.engine import cpu, session
from flagdit.engine.bundle import Engine, Manifest
from flagdit.engine.cpu import Precision
from flagdit.engine.errors import BackendError
from flagdit.files.printable import printable

Backend = Literal["onnxruntime", "tensorrt"]


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
    device, backend = _name("device", device), _name("backend", backend)
    precision = None if precision is None else _name("precision", precision)
    gpu = Gpu() if device == "cpu" else Gpu.here()
    where = choose_device(device, backend, gpu, bool(gpu.name) and has_provider())
    if where == "cpu":
        return Chosen("cpu", "onnxruntime", cpu.choose(manifest, cast(Precision | None, precision)))
    number = choose_on_gpu(cpu.facts(manifest.engines), manifest.model.name, backend, precision, gpu)
    return Chosen("cuda", cast(Backend, backend), None if number is None else manifest.engines[number])


def _name(option: str, said: object) -> str:
    """What was said for an option that takes a name, for the core to know or to refuse."""
    if not isinstance(said, str):
        raise BackendError(f"{option} is {said!r}, of type {type(said).__name__}; allowed are names in quotes")
    return printable(said)


def has_provider() -> bool:
    """Whether the installed ONNX Runtime has its CUDA provider."""
    return session.onnxruntime().has_cuda
