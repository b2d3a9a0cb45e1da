"""Where a run computes: on the CPU or a GPU, in which backend, in which of a bundle's engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from flagdit.cpp_ext import Gpu, choose_device, choose_on_gpu
from flagdit.engine import cpu, session
from flagdit.engine.bundle import Engine, Manifest
from flagdit.engine.cpu import Precision
from flagdit.engine.errors import BackendError
from flagdit.engine.tensorrt.driver import device_architecture
from flagdit.engine.tensorrt.package import NAMES, Target, installed, require
from flagdit.files.printable import printable

Backend = Literal["onnxruntime", "tensorrt", "tensorrt-rtx"]


NO_GPU = "use --backend onnxruntime, which also runs on a CPU"


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
    if backend in NAMES and device in ("auto", "cuda") and not gpu.kernels:
        device_architecture(NAMES[backend], NO_GPU)  # what is missing first: a GPU, and then kernels for it
    where = choose_device(device, backend, gpu, bool(gpu.name) and has_provider())
    if where == "cpu":
        return Chosen("cpu", "onnxruntime", cpu.choose(manifest, cast(Precision | None, precision)))
    if session.runs_in_python(backend):
        require(cast(Target, backend))
    number = choose_on_gpu(cpu.facts(manifest.engines), manifest.model.name, backend, precision, gpu)
    return Chosen("cuda", cast(Backend, backend), None if number is None else manifest.engines[number])


def runs_on(gpu: Gpu, engine: Engine) -> bool:
    """Whether a GPU runs an engine: one of `denoise`, for it, by a backend that is here."""
    if not gpu.name or engine.graph != "denoise" or engine.target == "onnxruntime":
        return False
    if engine.target == "onnxruntime-cuda":
        return has_provider()
    if session.runs_in_python(engine.target) and installed(engine.target) is None:
        return False
    return not engine.architectures or gpu.architecture in engine.architectures


def _name(option: str, said: object) -> str:
    """What was said for an option that takes a name, for the core to know or to refuse."""
    if not isinstance(said, str):
        raise BackendError(f"{option} is {said!r}, of type {type(said).__name__}; allowed are names in quotes")
    return printable(said)


def has_provider() -> bool:
    """Whether the installed ONNX Runtime has its CUDA provider."""
    return session.onnxruntime().has_cuda
