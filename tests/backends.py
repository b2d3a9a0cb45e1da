"""Where a test of the core runs: arrays on a device, in a dtype, compared with a tolerance."""

import os
from dataclasses import dataclass
from typing import Any

import emulated
import numpy as np

from flagdit.cpp_ext import with_cuda

Arrays = dict[str, np.ndarray]

# Set by whoever built the core for the emulator of tests/cuda_emulator.
EMULATED = bool(os.environ.get("FLAGDIT_EMULATOR"))


@dataclass(frozen=True)
class Backend:
    """One (device, dtype) with the tolerance that its arithmetic deserves."""

    device: str
    dtype: str
    rtol: float

    def __str__(self) -> str:
        return f"{self.device}-{self.dtype}"

    def put(self, array: np.ndarray, dtype: str | None = None) -> Any:
        """A copy of the array on the device."""
        if self.device == "cpu":
            return np.array(array, dtype=dtype or array.dtype, order="C")
        if EMULATED:
            return emulated.put(array, dtype)
        import torch

        return torch.from_numpy(np.ascontiguousarray(array)).to("cuda", getattr(torch, dtype or str(array.dtype)))

    def get(self, array: Any) -> np.ndarray:
        """A copy of the array in NumPy, in f32 if it was a half."""
        if self.device == "cpu":
            return np.array(array)
        if EMULATED:
            return emulated.get(array)
        array = array.cpu()
        return array.float().numpy() if array.is_floating_point() else array.numpy()

    def overwrite(self, array: Any, values: np.ndarray) -> None:
        """Give an array on the device other values."""
        if self.device == "cpu" or EMULATED:
            (array.values if EMULATED and self.device == "cuda" else array)[:] = values
        else:
            import torch

            array.copy_(torch.from_numpy(values))
            torch.cuda.synchronize()

    def stream(self) -> int:
        """Of its own, on which a graph can be captured."""
        if EMULATED:
            return 0x100
        import torch

        return int(torch.cuda.Stream().cuda_stream)

    def synchronize(self) -> None:
        """Wait for everything."""
        if not EMULATED:
            import torch

            torch.cuda.synchronize()


def _has_gpu() -> bool:
    if not with_cuda() or EMULATED:
        return with_cuda()
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


CPU = Backend("cpu", "float32", 1e-5)
CUDA = [Backend("cuda", "float32", 1e-5), Backend("cuda", "float16", 2e-3), Backend("cuda", "bfloat16", 2e-2)]
BACKENDS = [CPU, *(CUDA if _has_gpu() else [])]
DEVICES = [CPU, *(CUDA[:1] if _has_gpu() else [])]


def assert_slots(backend: Backend, new: Arrays, old: Arrays, expected: Arrays, pinned: int, tolerance: float) -> None:
    """Every array is as expected behind the pinned slots, and in them as it was."""
    for name, array in expected.items():
        rtol = backend.rtol if name == "tokens" else 1e-5
        np.testing.assert_allclose(new[name][pinned:], array[pinned:], rtol, tolerance, err_msg=name)
        np.testing.assert_array_equal(new[name][:pinned], old[name][:pinned], name)
