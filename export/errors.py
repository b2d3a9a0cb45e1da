"""What can go wrong while exporting.

FlagditError
├── ExportError          an option or a part of the model is not what it should be
│   └── CheckpointError  the checkpoint cannot be read, or is not of this family
└── OutputError          the model directory cannot be written; of flagdit.files, as the base is
"""

from flagdit.files.errors import FlagditError, OutputError

__all__ = ["CheckpointError", "ExportError", "FlagditError", "OutputError"]


class ExportError(FlagditError):
    """The model cannot be exported; the message says why and what to do."""


class CheckpointError(ExportError):
    """The checkpoint cannot be read, or is not what it should be."""
