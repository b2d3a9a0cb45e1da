"""What the weights of text encoders are stored in: what can be asked for, and what is chosen where nobody asks."""

from __future__ import annotations

from flagdit.export.errors import ExportError

AUTO = "auto"
BITS = {"int8": 8, "int4": 4}
"""Precisions in blocks (flagdit.export.blocks)."""
PRECISIONS = (AUTO, "float32", "float16", "bfloat16", *BITS)

LARGE = 2 << 30
"""Bytes of an encoder's files from which on it is stored in 8 bits: of halves ONNX Runtime makes fp32 in memory."""


def check_precision(wanted: str) -> None:
    """Raise ExportError for what is none."""
    if wanted not in PRECISIONS:
        raise ExportError(f"text_encoder_weights {wanted!r} is not one of {', '.join(PRECISIONS)}")


def precision_of(wanted: str, size: int, otherwise: str) -> str:
    """What an encoder of so many bytes is stored in. otherwise: where it is small, and nobody asks.

    4 bits are never chosen: what they cost depends on the encoder (docs/models.md).
    """
    if wanted != AUTO:
        return wanted
    return "int8" if size >= LARGE else otherwise


def said(label: str, wanted: str, chosen: str, size: int) -> str:
    """A sentence for the user."""
    how = {"int8": "as int8 in blocks of 32", "int4": "in 4 bits, in blocks of 32, and its table of tokens as int8"}
    why = f" (auto: {size / 1e9:.1f} GB; --text-encoder-weights float16 for all of it)" if wanted == AUTO else ""
    return f"the {label} is stored {how.get(chosen, f'as {chosen}')}{why if chosen in BITS else ''}"
