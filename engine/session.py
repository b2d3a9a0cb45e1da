"""Graphs that can run: the core's sessions (flagdit.cpp_ext.Session), from files of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import OnnxRuntime, Port, Session, TensorRt, external_files, with_tensorrt
from flagdit.engine.bundle import Engine, Tensor
from flagdit.engine.cpu import Precision, checked_threads
from flagdit.engine.cuda_libraries import load_cuda_libraries
from flagdit.engine.errors import BackendError
from flagdit.engine.tensorrt.package import Target
from flagdit.engine.tensorrt.session import TensorRtSession

Array = npt.NDArray[Any]
Bytes = bytes | memoryview
LIBRARIES = ("libonnxruntime.so*", "libonnxruntime*.dylib", "onnxruntime.dll")
"""What the library is called in its package, on one system or another."""


@dataclass(frozen=True)
class GraphFile:
    """A graph and the files that its weights are in, as bytes: the runtime reads no file by itself.

    data: by the names that the graph calls them.
    """

    name: str
    content: Bytes
    data: Mapping[str, Bytes]

    @classmethod
    def beside(cls, path: Path) -> GraphFile:
        """A graph of a directory that is trusted. Raises BundleError if its weights are in no file beside it."""
        content = path.read_bytes()
        sizes = {file.name: file.stat().st_size for file in path.parent.iterdir()}
        names = external_files(path.name, content, sizes)
        return cls(path.name, content, {name: (path.parent / name).read_bytes() for name in names})


@cache
def onnxruntime() -> OnnxRuntime:
    """ONNX Runtime, from the library of its installed package: loaded once. Raises BackendError if there is none."""
    spec = find_spec("onnxruntime")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        for pattern in LIBRARIES:
            for library in sorted(Path(folder, "capi").glob(pattern)):
                return OnnxRuntime(str(library))
    raise BackendError("the package onnxruntime is not installed, or has no library; next: pip install onnxruntime")


def open_session(
    graph: GraphFile,
    threads: int | None = None,
    precision: Precision = "float32",
    *,
    lean: bool = False,
    device: str = "cpu",
) -> Session:
    """Load a graph that multiplies in `precision`, on the CPU or with "cuda"; `threads` defaults to all cores.

    lean: for `denoise`: attention takes some queries at a time, so that its scores do not take memory that grows
    with the square of the tokens (cpp_ext/onnxruntime/blocked_attention.cpp), and no block of memory is kept for
    each shape beside what the first run took. The results are the same to the bit.
    The bytes need not be kept. Raises BundleError if they are no graph, BackendError if it cannot run here.
    """
    count = None if threads is None else checked_threads(threads)
    if device == "cuda":
        load_cuda_libraries()
    return onnxruntime().open(graph.name, graph.content, graph.data, count, precision, lean, device)


def open_plan(engine: Engine, content: Bytes) -> Session:
    """Load an engine of TensorRT or TensorRT-RTX, which must be for this GPU and version.

    By the C++ backend, where this build has it, or by NVIDIA's Python package. Raises BackendError if it is not to be
    had, or not for this GPU.
    """
    ports = ports_of(engine.inputs, engine.outputs)
    if not runs_in_python(engine.target):
        return TensorRt().open(engine.file, content, ports, engine.precision)
    return cast(Session, TensorRtSession(cast(Target, engine.target), engine, content, ports))


def runs_in_python(backend: str) -> bool:
    """Whether engines of a backend run by a Python package of NVIDIA's: all of TensorRT that this build has not."""
    return backend == "tensorrt-rtx" or (backend == "tensorrt" and not with_tensorrt())


def ports_of(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Port]:
    """What a graph takes and gives, as a manifest says it."""
    return [
        Port(tensor.name, tensor.dtype, list(tensor.shape), output)
        for tensors, output in ((inputs, False), (outputs, True))
        for tensor in tensors
    ]


def dtype_of(session: Session, name: str) -> npt.DTypeLike:
    """What arrays of an input or output hold; bits of bfloat16 are in uint16."""
    said = next(port.dtype for port in session.ports if port.name == name)
    return np.dtype("uint16" if said == "bfloat16" else said)
