"""Whether there is a CUDA device, asked of the driver alone.

TensorRT must not be asked first: without a driver it returns pointers that are neither null nor valid.
"""

from __future__ import annotations

import ctypes
import sys

from flagdit.engine.errors import BackendError

MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


def device_architecture(purpose: str, remedy: str) -> int:
    """Compute capability, times ten, of CUDA device 0.

    Raises BackendError if there is none, naming `purpose` and the `remedy`, what to do then.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        raise BackendError(f"{purpose} needs a CUDA device, and no NVIDIA driver is installed here; {remedy}") from None
    try:
        _call(driver, "cuInit", 0)
        count = _ask(driver, "cuDeviceGetCount")
    except _DriverError as error:
        raise BackendError(f"{purpose} needs a CUDA device; the NVIDIA driver says {error}; {remedy}") from None
    if count < 1:
        raise BackendError(f"{purpose} needs a CUDA device, and the NVIDIA driver finds none; {remedy}")
    device = _ask(driver, "cuDeviceGet", 0)
    major, minor = (_ask(driver, "cuDeviceGetAttribute", attribute, device) for attribute in (MAJOR, MINOR))
    return 10 * major + minor


class _DriverError(Exception):
    """A call of the driver failed."""


def _call(driver: ctypes.CDLL, function: str, *args: object) -> None:
    status = getattr(driver, function)(*args)
    if status:
        raise _DriverError(f"{function}: error {status}")


def _ask(driver: ctypes.CDLL, function: str, *args: object) -> int:
    """The integer that a driver function writes to its first argument."""
    value = ctypes.c_int()
    _call(driver, function, ctypes.byref(value), *args)
    return value.value
