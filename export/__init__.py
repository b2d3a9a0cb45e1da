"""From a torch checkpoint to a model directory. Imports torch; never imports `flagdit.engine`."""

from flagdit.export.checkpoint import load_checkpoint
from flagdit.export.errors import CheckpointError, ExportError
from flagdit.export.exporter import ExportOptions, export_model
from flagdit.export.flag_dit import FlagDiT, FlagDiTConfig

__all__ = [
    "CheckpointError",
    "ExportError",
    "ExportOptions",
    "FlagDiT",
    "FlagDiTConfig",
    "export_model",
    "load_checkpoint",
]
