"""NVIDIA's Python packages of TensorRT and TensorRT-RTX: what they are called, and whether they are here."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, Literal

from flagdit.engine.errors import BackendError

Target = Literal["tensorrt-rtx", "tensorrt"]

MODULES = {"tensorrt-rtx": ("tensorrt_rtx_bindings",), "tensorrt": ("tensorrt", "tensorrt_bindings")}
"""Import names of a target's bindings: the wheels', and for TensorRT the one that JetPack installs."""

EXTRAS = {"tensorrt-rtx": "rtx", "tensorrt": "tensorrt"}
NAMES = {"tensorrt-rtx": "TensorRT-RTX", "tensorrt": "TensorRT"}


def installed(target: Target) -> str | None:
    """Import name of the target's bindings, None if they are not installed."""
    specs = {name: importlib.util.find_spec(name) for name in MODULES[target]}
    # A folder of that name beside a program, in which models may lie, is found as well, and has no origin.
    return next((name for name, spec in specs.items() if spec is not None and spec.origin is not None), None)


def require(target: Target) -> None:
    """Raise BackendError unless the target's bindings are installed."""
    if installed(target) is None:
        raise BackendError(f"{NAMES[target]} is not installed; next: pip install 'flagdit[{EXTRAS[target]}]'")


def import_trt(target: Target) -> Any:
    """The target's bindings. Raises BackendError if they are not installed or cannot be loaded."""
    require(target)
    try:
        return importlib.import_module(installed(target) or "")
    except (ImportError, OSError) as error:
        raise BackendError(f"{NAMES[target]} is installed but cannot be loaded ({error})") from None
