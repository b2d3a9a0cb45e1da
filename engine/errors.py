"""What can go wrong, as a tree. Every message says what, got, allowed, and the next command where there is one.

FlagditError
├── RequestError         a prompt, size, step count or ratio that cannot be served
├── BundleError          the bundle is missing, damaged or of another version
├── BuildError           an engine cannot be built
├── BackendError         a backend is not installed, or cannot run here
├── NumberError          a run came to values that are no numbers
└── OutputError          a result cannot be written; of flagdit.files, as the base is
"""

from flagdit.cpp_ext import raise_as
from flagdit.files.errors import FlagditError, OutputError

__all__ = ["BackendError", "BuildError", "BundleError", "FlagditError", "NumberError", "OutputError", "RequestError"]


class RequestError(FlagditError, ValueError):
    """The request cannot be served: a prompt, size, step count or ratio is out of bounds."""


class BundleError(FlagditError):
    """The bundle or model directory is missing, damaged, or of another schema version."""


class BuildError(FlagditError):
    """An engine cannot be built for this target."""


class BackendError(FlagditError):
    """A backend is not installed, or cannot run on this machine."""


class NumberError(FlagditError):
    """A run came to NaNs or infinities: the message names the step and the engine, and there is no picture."""


raise_as(
    {
        "request": RequestError,
        "bundle": BundleError,
        "backend": BackendError,
        "number": NumberError,
        "output": OutputError,
    }
)
