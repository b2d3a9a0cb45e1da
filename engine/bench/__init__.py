"""Measuring a bundle: what each setting costs, and how near it comes to the exact picture."""

from flagdit.engine.bench.exact import ExactPictures
from flagdit.engine.bench.grids import best_shifts
from flagdit.engine.bench.measure import Entry, check, measure
from flagdit.engine.bench.record import Record
from flagdit.engine.bench.samples import Samples, here
from flagdit.engine.bench.settings import FAMILIES, Setting, settings

__all__ = [
    "FAMILIES",
    "Entry",
    "ExactPictures",
    "Record",
    "Samples",
    "Setting",
    "best_shifts",
    "check",
    "here",
    "measure",
    "settings",
]
