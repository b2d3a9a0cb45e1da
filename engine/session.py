"""One graph that can run: ONNX Runtime on the CPU, bound to memory that the caller owns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from flagdit.cpp_ext import OPERATORS
from flagdit.engine.cpu import Precision
from flagdit.engine.errors import BackendError, BundleError

Array = npt.NDArray[Any]

BF16 = 16
"""ONNX's number of bfloat16, which NumPy has no name for: its bits are in uint16 arrays."""

BLOCKS = "flagdit.blocked_attention"
"""The entry of a session's configuration that `OPERATORS` looks for: it then brings an Attention of its own."""

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(bfloat16)": np.uint16}


class Binding:
    """Inputs and outputs of a session at fixed addresses: running it copies nothing. Keeps the arrays alive."""

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        types: Mapping[str, str],
    ) -> None:
        """types: ONNX Runtime's names of the types of all inputs and outputs."""
        self._session, self._types, self._io = session, types, session.io_binding()
        self._arrays: dict[str, Array] = {}
        for name, array in inputs.items():
            self._io.bind_input(name, "cpu", 0, *self._place(name, array))
        for name, array in outputs.items():
            self._io.bind_output(name, "cpu", 0, *self._place(name, array))

    def run(self) -> None:
        """Run the graph once; the outputs are in the arrays they were bound to."""
        self._session.run_with_iobinding(self._io)

    def _place(self, name: str, array: Array) -> tuple[type | int, tuple[int, ...], int]:
        if not array.flags.c_contiguous:
            raise BackendError(f"{name}: strides {array.strides} are not those of a contiguous {array.shape} array")
        self._arrays[name] = array
        kind = BF16 if self._types[name] == "tensor(bfloat16)" else array.dtype.type
        return kind, array.shape, array.ctypes.data


class OnnxSession:
    """A graph file loaded into ONNX Runtime. Safe to share between threads: a run's state is its binding's."""

    backend = "onnxruntime-cpu"

    def __init__(
        self, path: Path, threads: int | None = None, precision: Precision = "float32", lean: bool = False
    ) -> None:
        """Load `path`, which multiplies in `precision`; `threads` defaults to all cores.

        lean: for `denoise`: attention takes some queries at a time, so that its scores do not take memory that grows
        with the square of the tokens (cpp_ext/onnxruntime/blocked_attention.cpp), and no block of memory is kept for
        each shape beside what the first run took. The results are the same to the bit.
        Raises BundleError if the file is no graph.
        """
        self.precision = precision
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            if threads < 1:
                raise BackendError(f"threads is {threads}; at least 1 is needed")
            options.intra_op_num_threads = threads
        try:
            if lean:
                options.enable_mem_pattern = False
                options.add_session_config_entry(BLOCKS, "1")
            if lean or precision == "int8-bf16":
                options.register_custom_ops_library(OPERATORS)
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a dozen types of its own
            reason = str(error).splitlines()[0]
            raise BundleError(f"{path.name}: ONNX Runtime cannot load it ({reason})") from None
        borders = (*self._session.get_inputs(), *self._session.get_outputs())
        self._types = {border.name: border.type for border in borders}

    def dtype(self, name: str) -> npt.DTypeLike:
        """What arrays of an input or output hold; bfloat16 is in uint16."""
        return DTYPES[self._types[name]]

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Binding:
        return Binding(self._session, inputs, outputs, self._types)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once on copies; returns the outputs by name."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))


def as_dtype(x: npt.NDArray[np.float32], dtype: npt.DTypeLike) -> Array:
    """fp32 values as an input holds them (OnnxSession.dtype): as they are, as fp16, or rounded to bfloat16's bits."""
    if np.dtype(dtype) != np.uint16:
        return x.astype(dtype, copy=False)
    bits = np.ascontiguousarray(x).view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)  # to the nearest, ties to even


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
    """An uninitialised array, aligned to 64 bytes for vector loads."""
    return _aligned(np.empty, shape, dtype)


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
    """The same of zeros, which cost nothing until they are touched."""
    return _aligned(np.zeros, shape, dtype)


def _aligned(make: Callable[..., Array], shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    bytes_ = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    raw = make(bytes_ + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + bytes_].view(dtype).reshape(shape)
