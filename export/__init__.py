"""From a torch checkpoint to a model directory. Imports torch; never imports `flagdit.engine`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flagdit.export.checkpoint import Checkpoint, load_checkpoint, open_checkpoint
    from flagdit.export.errors import CheckpointError, ExportError
    from flagdit.export.exporter import export_model
    from flagdit.export.families.flag_dit.config import FlagDiTConfig
    from flagdit.export.families.flag_dit.model import FlagDiT
    from flagdit.export.options import ExportOptions

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ExportError",
    "ExportOptions",
    "FlagDiT",
    "FlagDiTConfig",
    "export_model",
    "load_checkpoint",
    "open_checkpoint",
]

_HOMES = {
    "Checkpoint": "checkpoint",
    "CheckpointError": "errors",
    "ExportError": "errors",
    "ExportOptions": "options",
    "export_model": "exporter",
    "FlagDiT": "families.flag_dit.model",
    "FlagDiTConfig": "families.flag_dit.config",
    "load_checkpoint": "checkpoint",
    "open_checkpoint": "checkpoint",
}


def __getattr__(name: str) -> Any:
    """Load on first use: the command line lists `export` without waiting seconds for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
