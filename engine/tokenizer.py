"""A bundle's tokenizer: the core's (tokenizer.h), read as data, bounded, and only then built."""

from __future__ import annotations

from flagdit.cpp_ext import Tokenizer

__all__ = ["MAX_BYTES", "Tokenizer"]

MAX_BYTES = 64 << 20
"""Of the file: those of vocabularies of 250000 words take 17 MB."""
