"""Measuring a bundle: what each setting costs, and how near it comes to the exact picture."""

from flagdit.engine.bench.measure import Row, measure
from flagdit.engine.bench.settings import FAMILIES, Setting, settings

__all__ = ["FAMILIES", "Row", "Setting", "measure", "settings"]
