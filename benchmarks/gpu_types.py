"""Part of gpu_denoise.py: types of numbers, and what NumPy makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]

TYPES = {"float32": 1, "int32": 6, "float16": 10, "uint64": 13, "bfloat16": 16}
"""ONNX's numbers of the types."""


def host_dtype(dtype: str) -> npt.DTypeLike:
    """What NumPy holds it in, which has no name for bfloat16."""
    return "uint16" if dtype == "bfloat16" else dtype


def to_float(array: Numbers, dtype: str) -> npt.NDArray[np.float32]:
    """fp32 of what an array of `dtype` holds."""
    if dtype != "bfloat16":
        return array.astype(np.float32)
    return (array.astype(np.uint32) << 16).view(np.float32)


def narrowed(array: npt.NDArray[np.float32], dtype: str) -> Numbers:
    """What an array of `dtype` holds of fp32."""
    if dtype != "bfloat16":
        return array.astype(dtype, copy=False)
    bits = np.ascontiguousarray(array).view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)  # to the nearest, ties to even
