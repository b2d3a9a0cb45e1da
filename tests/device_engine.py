"""An engine on a device that is the emulator's, whose memory is the host's: it computes where the CPU's does."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from emulated import DlTensor

from flagdit.cpp_ext import Session, _ext
from flagdit.engine.session import Array

Callback = ctypes.CFUNCTYPE(None)
CODES = {0: "i", 1: "u", 2: "f", 4: "u", 6: "b"}  # DLPack's kinds of values; bits of bfloat16

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def host_view(array: Any) -> np.ndarray:
    """NumPy's view of an array that says it is on a GPU; the caller keeps its memory."""
    capsule = array.__dlpack__()  # keeps what it describes
    tensor = DlTensor.from_address(_pointer(capsule, b"dltensor"))
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    dtype = np.dtype(f"{CODES[tensor.dtype.code]}{tensor.dtype.bits // 8}")
    size = int(np.prod(shape)) * dtype.itemsize
    if size == 0:
        return np.empty(shape, dtype)
    memory = (ctypes.c_char * size).from_address(tensor.data)
    return np.frombuffer(memory, dtype).reshape(shape)


class DeviceEngine:
    """A session of the CPU as one of a GPU: its calls are enqueued, and captured with what is around them."""

    device, stream, backend, lengths = "cuda", 0x100, "emulated", 16

    def __init__(self, session: Session) -> None:
        self.session, self.ports = session, session.ports
        self.name, self.precision = session.name, session.precision
        self.calls = 0

    def bind(self, tensors: Mapping[str, Array]) -> DeviceBinding:
        return DeviceBinding(self, {name: host_view(array) for name, array in tensors.items()})

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        return self.session.run(tensors)


class DeviceBinding:
    def __init__(self, engine: DeviceEngine, tensors: Mapping[str, np.ndarray]) -> None:
        self._engine, self.settled = engine, False
        self._binding = engine.session.bind(tensors)
        self._callback = Callback(self._compute)
        self._enqueue = ctypes.CDLL(_ext.__file__).emulator_call
        self._enqueue.argtypes = (Callback, ctypes.c_void_p)

    def _compute(self) -> None:
        self._engine.calls += 1
        self._binding.run()

    def run(self) -> None:
        """Enqueue the call. It may be captured once it has run."""
        self._enqueue(self._callback, self._engine.stream)
        self.settled = True
