"""What can go wrong while exporting.

ExportError              the model directory cannot be written
└── CheckpointError      the checkpoint cannot be read, or is not of this family
"""


class ExportError(Exception):
    """The model cannot be exported; the message says why and what to do."""


class CheckpointError(ExportError):
    """The checkpoint cannot be read, or is not what it should be."""
