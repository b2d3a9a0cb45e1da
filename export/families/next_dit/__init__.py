"""Next-DiT, the model of Lumina-Next (Zhuo et al. 2024, arXiv 2406.18583)."""

from flagdit.export.families.family import Family
from flagdit.export.families.next_dit.names import DIFFUSERS, OFFICIAL

NEXT_DIT = Family("next-dit", "Next-DiT (Lumina-Next)", (OFFICIAL, DIFFUSERS))

__all__ = ["NEXT_DIT"]
