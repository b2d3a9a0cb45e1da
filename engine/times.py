"""The times that the steps of a run lie between."""

from __future__ import annotations

from flagdit.cpp_ext import MAX_STEPS, times_of

__all__ = ["MAX_STEPS", "RUN", "Span", "times_of"]

Span = tuple[float, float]
"""Times that a run begins and ends at: from 0 (noise) to 1 (data), or a part of that beside a coarse picture."""
RUN: Span = (0.0, 1.0)
"""Noise to data."""
