"""One graph that can run: ONNX Runtime on the CPU, bound to memory that the caller owns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from flagdit.cpp_ext import BLOCKS, OPERATORS
from flagdit.engine.cpu import Precision, checked_threads
from flagdit.engine.errors import BackendError, BundleError, FlagditError
from flagdit.engine.onnx_file import check_external, external_tensors

Array = npt.NDArray[Any]
Bytes = bytes | memoryview
Borders = Mapping[str, tuple[str, tuple[int | str | None, ...]]]
"""What inputs or outputs a graph has: dtype and shape by name."""

BF16 = 16
"""ONNX's number of bfloat16, which NumPy has no name for: its bits are in uint16 arrays."""

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(bfloat16)": np.uint16}
NAMES = {"tensor(float)": "float32"}
"""Of types that ONNX Runtime has another name for than a manifest."""

NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")
"""How ONNX Runtime says that there is none left."""

NOWHERE = "/nonexistent"
"""Where ONNX Runtime may look for data that it was not given: nowhere."""


@dataclass(frozen=True)
class GraphFile:
    """A graph and the files that its weights are in, as bytes: the runtime reads no file by itself.

    data: by the names that the graph calls them (onnx_file.check_external).
    """

    name: str
    content: Bytes
    data: Mapping[str, Bytes]

    @classmethod
    def beside(cls, path: Path) -> GraphFile:
        """A graph of a directory that is trusted. Raises BundleError if its weights are in no file beside it."""
        content = path.read_bytes()
        tensors = external_tensors(path.name, content)
        sizes = {file.name: file.stat().st_size for file in path.parent.iterdir()}
        names = check_external(path.name, tensors, sizes)
        return cls(path.name, content, {name: (path.parent / name).read_bytes() for name in names})


class Binding:
    """Inputs and outputs of a session at fixed addresses: running it copies nothing. Keeps the arrays alive."""

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        types: Mapping[str, str],
        name: str = "the graph",
    ) -> None:
        """types: ONNX Runtime's names of the types of all inputs and outputs. name: of the graph, for errors."""
        self._session, self._types, self._name, self._io = session, types, name, session.io_binding()
        self._arrays: dict[str, Array] = {}
        for name, array in inputs.items():
            self._io.bind_input(name, "cpu", 0, *self._place(name, array))
        for name, array in outputs.items():
            self._io.bind_output(name, "cpu", 0, *self._place(name, array))

    def run(self) -> None:
        """Run the graph once; the outputs are in the arrays they were bound to. Raises as OnnxSession.run does."""
        try:
            self._session.run_with_iobinding(self._io)
        except Exception as error:  # ONNX Runtime raises a dozen types of its own
            raise _fault(self._name, "run", error) from None

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
        self, graph: GraphFile, threads: int | None = None, precision: Precision = "float32", lean: bool = False
    ) -> None:
        """Load a graph that multiplies in `precision`; `threads` defaults to all cores.

        lean: for `denoise`: attention takes some queries at a time, so that its scores do not take memory that grows
        with the square of the tokens (cpp_ext/onnxruntime/blocked_attention.cpp), and no block of memory is kept for
        each shape beside what the first run took. The results are the same to the bit.
        ONNX Runtime copies what it needs of the bytes, so they need not be kept. Raises BundleError if they are no
        graph, BackendError if it cannot run here.
        """
        self.precision, self.name = precision, graph.name
        options = _options(threads, precision, lean)
        if graph.data:
            buffers = list(graph.data.values())
            sizes = [len(buffer) for buffer in buffers]
            options.add_external_initializers_from_files_in_memory(list(graph.data), buffers, sizes)
        try:
            self._session = ort.InferenceSession(
                bytes(graph.content), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime raises a dozen types of its own
            raise _fault(graph.name, "load", error) from None
        self._session._model_bytes = None  # it would keep them, to load the graph again with another provider
        self.inputs, self.outputs = _borders(self._session.get_inputs()), _borders(self._session.get_outputs())
        self._types = {
            border.name: border.type for border in (*self._session.get_inputs(), *self._session.get_outputs())
        }

    def dtype(self, name: str) -> npt.DTypeLike:
        """What arrays of an input or output hold; bfloat16 is in uint16."""
        return DTYPES[self._types[name]]

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Binding:
        return Binding(self._session, inputs, outputs, self._types, self.name)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once on copies; returns the outputs by name. Raises BundleError if the graph is at fault.

        BackendError if there is not enough memory.
        """
        names = [output.name for output in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
        except Exception as error:  # ONNX Runtime raises a dozen types of its own
            raise _fault(self.name, "run", error) from None


def _borders(borders: Sequence[ort.NodeArg]) -> Borders:
    """Dtype and shape by name, as a manifest writes them; axes of any size have a name or None."""
    return {
        border.name: (
            NAMES.get(border.type, border.type.removeprefix("tensor(").removesuffix(")")),
            tuple(border.shape),
        )
        for border in borders
    }


def _options(threads: int | None, precision: Precision, lean: bool) -> ort.SessionOptions:
    """Raises BackendError if there cannot be such a session."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what it would log comes as an exception, too, and holds names of the graph
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    if threads is not None:
        options.intra_op_num_threads = checked_threads(threads)
    if lean:
        options.enable_mem_pattern = False
        options.add_session_config_entry(BLOCKS, "1")
    if lean or precision == "int8-bf16":
        try:
            options.register_custom_ops_library(OPERATORS)
        except Exception as error:
            raise BackendError(f"ONNX Runtime {ort.__version__} takes no operators of flagdit ({error})") from None
    return options


def _fault(name: str, what: str, error: Exception) -> FlagditError:
    """What became of an exception of ONNX Runtime."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, MemoryError) or any(word in reason for word in NO_MEMORY):
        return BackendError(f"{name}: not enough memory to {what} it ({reason})")
    return BundleError(f"{name}: ONNX Runtime cannot {what} it ({reason})")


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
