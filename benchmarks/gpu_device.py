"""Where a benchmark of whole steps has its arrays: CUDA through ONNX Runtime and CUDA's own runtime, or NumPy.

The CUDA side asks for no torch, so that it can be tried with a stand-in for libcudart. If torch is there it has to be
imported first: it brings the libraries that ONNX Runtime looks for.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

with suppress(ImportError):
    import torch  # noqa: F401

import numpy as np
import onnxruntime as ort

from gpu_types import TYPES, Numbers, host_dtype, narrowed

VERSION = str(ort.__version__)
Axes = tuple[int | str, ...]
Ports = dict[str, tuple[str, Axes]]

ORT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(bfloat16)": "bfloat16"}


@dataclass(frozen=True)
class Place:
    """Contiguous memory of an array or of its last or first rows."""

    dtype: str
    shape: tuple[int, ...]
    pointer: int


@dataclass(frozen=True)
class Buffer:
    """An array on the device; `array` is what the core takes."""

    array: Any
    dtype: str
    shape: tuple[int, ...]
    pointer: int

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * np.dtype(host_dtype(self.dtype)).itemsize

    @property
    def bytes(self) -> int:
        return self.shape[0] * self.row_bytes

    def rows(self, begin: int, end: int) -> Place:
        """Its rows from `begin` to before `end`."""
        return Place(self.dtype, (end - begin, *self.shape[1:]), self.pointer + begin * self.row_bytes)

    @property
    def all(self) -> Place:
        return self.rows(0, self.shape[0])


class Bound:
    """An engine call whose inputs and outputs have their places, whose owner keeps them."""

    def __init__(self, session: ort.InferenceSession, device: str, options: ort.RunOptions | None) -> None:
        self._session, self._device, self._options, self._io = session, device, options, session.io_binding()

    def place(self, inputs: Mapping[str, Place], outputs: Mapping[str, Place]) -> Bound:
        for name, p in inputs.items():
            self._io.bind_input(name, self._device, 0, TYPES[p.dtype], p.shape, p.pointer)
        for name, p in outputs.items():
            self._io.bind_output(name, self._device, 0, TYPES[p.dtype], p.shape, p.pointer)
        return self

    def run(self) -> None:
        """Enqueue it; on a CPU, run it."""
        self._session.run_with_iobinding(self._io, self._options)


class Graph:
    """A graph file that is loaded on a device, with the types and axes of its inputs and outputs."""

    def __init__(self, session: ort.InferenceSession, device: str, options: ort.RunOptions | None) -> None:
        self._session, self._device, self._options = session, device, options
        self.inputs: Ports = {i.name: (ORT_TYPES[i.type], tuple(i.shape)) for i in session.get_inputs()}
        self.outputs: Ports = {o.name: (ORT_TYPES[o.type], tuple(o.shape)) for o in session.get_outputs()}

    def bind(self, inputs: Mapping[str, Place], outputs: Mapping[str, Place]) -> Bound:
        return Bound(self._session, self._device, self._options).place(inputs, outputs)


class Device(Protocol):
    """Arrays, graphs and time on a device, all on one stream."""

    name: str
    stream: int  # 0 where there is none

    def empty(self, shape: tuple[int, ...], dtype: str = "float32") -> Buffer: ...
    def write(self, buffer: Buffer, array: Numbers) -> None: ...
    def read(self, buffer: Buffer) -> Numbers: ...
    def copy(self, target: int, source: int, size: int) -> None: ...
    def load(self, path: Path) -> Graph: ...
    def milliseconds(self, work: Callable[[], object], repeats: int) -> float: ...


def put(device: Device, array: Numbers, dtype: str | None = None) -> Buffer:
    """A copy on the device; `dtype` if it is to be narrower than fp32."""
    kind = dtype or array.dtype.name
    buffer = device.empty(array.shape, kind)
    device.write(buffer, narrowed(array, kind))
    return buffer


class Cpu:
    """NumPy, and ONNX Runtime on the CPU; bounds and times are the host's."""

    name, stream = "cpu", 0

    def __init__(self, threads: int = 0) -> None:
        self._threads = threads

    def empty(self, shape: tuple[int, ...], dtype: str = "float32") -> Buffer:
        array = np.zeros(shape, host_dtype(dtype))
        return Buffer(array, dtype, shape, array.ctypes.data)

    def write(self, buffer: Buffer, array: Numbers) -> None:
        buffer.array[...] = array

    def read(self, buffer: Buffer) -> Numbers:
        return np.array(buffer.array)

    def copy(self, target: int, source: int, size: int) -> None:
        ctypes.memmove(target, source, size)

    def load(self, path: Path) -> Graph:
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, self._threads
        return Graph(ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]), "cpu", None)

    def milliseconds(self, work: Callable[[], object], repeats: int) -> float:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return median(times) * 1e3


class Cuda:
    """The first GPU: a stream of ours that ONNX Runtime computes on without ever waiting for it."""

    name = "cuda"

    def __init__(self) -> None:
        self._cudart = ctypes.CDLL("libcudart.so.13")
        self._call("cudaSetDevice", 0)
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(stream), 1)  # non-blocking
        self.stream = int(stream.value or 0)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._cudart, function)(*arguments)
        if status:
            raise RuntimeError(f"{function}: CUDA error {status}")

    def synchronise(self) -> None:
        self._call("cudaDeviceSynchronize")

    def empty(self, shape: tuple[int, ...], dtype: str = "float32") -> Buffer:
        """Zeros."""
        value = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), TYPES[dtype], "cuda", 0)
        buffer = Buffer(value, dtype, shape, value.data_ptr())
        self.synchronise()
        self._call("cudaMemset", ctypes.c_void_p(buffer.pointer), 0, ctypes.c_size_t(buffer.bytes))
        self.synchronise()
        return buffer

    def _copy(self, target: int, source: int, size: int, kind: int) -> None:
        self.synchronise()
        self._call("cudaMemcpy", ctypes.c_void_p(target), ctypes.c_void_p(source), ctypes.c_size_t(size), kind)
        self.synchronise()

    def write(self, buffer: Buffer, array: Numbers) -> None:
        host = np.ascontiguousarray(array, host_dtype(buffer.dtype))
        assert host.nbytes == buffer.bytes
        self._copy(buffer.pointer, host.ctypes.data, buffer.bytes, 1)

    def read(self, buffer: Buffer) -> Numbers:
        out = np.empty(buffer.shape, host_dtype(buffer.dtype))
        self._copy(out.ctypes.data, buffer.pointer, buffer.bytes, 2)
        return out

    def copy(self, target: int, source: int, size: int) -> None:
        """Enqueue a copy from the device to itself."""
        where = ctypes.c_void_p(target), ctypes.c_void_p(source), ctypes.c_size_t(size)
        self._call("cudaMemcpyAsync", *where, 3, ctypes.c_void_p(self.stream))

    def load(self, path: Path) -> Graph:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        provider = {
            "user_compute_stream": str(self.stream),
            "enable_cudnn": "0",
            "arena_extend_strategy": "kSameAsRequested",
        }
        session = ort.InferenceSession(str(path), options, providers=[("CUDAExecutionProvider", provider)])
        if session.get_providers()[0] != "CUDAExecutionProvider":  # it falls back without a word
            raise RuntimeError("ONNX Runtime cannot start its CUDA provider")
        return Graph(session, "cuda", self._options)

    def milliseconds(self, work: Callable[[], object], repeats: int) -> float:
        """Median between two events around what `work` enqueues."""
        begin, end = ctypes.c_void_p(), ctypes.c_void_p()
        taken, times = ctypes.c_float(), []
        for event in (begin, end):
            self._call("cudaEventCreate", ctypes.byref(event))
        for _ in range(repeats):
            self.synchronise()
            self._call("cudaEventRecord", begin, ctypes.c_void_p(self.stream))
            work()
            self._call("cudaEventRecord", end, ctypes.c_void_p(self.stream))
            self._call("cudaEventSynchronize", end)
            self._call("cudaEventElapsedTime", ctypes.byref(taken), begin, end)
            times.append(taken.value)
        for event in (begin, end):
            self._call("cudaEventDestroy", event)
        return float(median(times))
