"""Arrays that say they are in CUDA's memory, for the emulator, whose device memory is the host's."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

CUDA, CPU = 2, 1  # DLPack's device types
CODES = {"i": 0, "u": 1, "f": 2, "b": 6}  # and its kinds of values
BFLOAT = 4


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class DlTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [("tensor", DlTensor), ("context", ctypes.c_void_p), ("deleter", _Deleter)]
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_alive: dict[int, Any] = {}  # what was handed out, by address, until its taker lets go


@_Deleter
def _let_go(managed: Any) -> None:
    _alive.pop(ctypes.addressof(managed.contents), None)


class EmulatedArray:
    """NumPy's memory as a CUDA array, through DLPack; bfloat16 are its bits in uint16."""

    def __init__(self, values: np.ndarray, dtype: str | None = None) -> None:
        self.values, self.dtype = values, dtype or str(values.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """As NumPy's and torch's."""
        return self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> EmulatedArray:
        return EmulatedArray(self.values[index], self.dtype)

    def __setitem__(self, index: Any, values: EmulatedArray) -> None:
        self.values[index] = values.values

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, 0

    def __dlpack__(self, **_: Any) -> Any:
        values, rank = self.values, self.values.ndim
        shape = (ctypes.c_int64 * rank)(*values.shape)
        strides = (ctypes.c_int64 * rank)(*(stride // values.itemsize for stride in values.strides))
        code = BFLOAT if self.dtype == "bfloat16" else CODES[values.dtype.kind]
        dtype = _Type(code, values.itemsize * 8, 1)
        tensor = DlTensor(values.ctypes.data, _Device(CUDA, 0), rank, dtype, shape, strides, 0)
        managed = _Managed(tensor, None, _let_go)
        address = ctypes.addressof(managed)
        _alive[address] = (managed, shape, strides, values)
        return _new_capsule(address, b"dltensor", None)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """The bits of float32, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def put(array: np.ndarray, dtype: str | None = None) -> EmulatedArray:
    """A copy of the array, in a dtype by PyTorch's names."""
    if dtype == "bfloat16":
        return EmulatedArray(np.array(to_bfloat16(array), order="C"), dtype)
    return EmulatedArray(np.array(array, dtype=dtype or array.dtype, order="C"))


def get(array: EmulatedArray) -> np.ndarray:
    """A copy of the array, in float32 if it was a half."""
    if array.dtype == "bfloat16":
        return (array.values.astype(np.uint32) << 16).view(np.float32)
    return array.values.astype(np.float32) if array.dtype == "float16" else array.values.copy()
