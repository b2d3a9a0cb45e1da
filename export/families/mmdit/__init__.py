"""MMDiT, the model of Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206)."""

from flagdit.export.families.family import Family
from flagdit.export.families.mmdit.names import DIFFUSERS, OFFICIAL, OWN

MMDIT = Family("mmdit", "MMDiT (Stable Diffusion 3)", (OFFICIAL, DIFFUSERS, OWN))

__all__ = ["MMDIT"]
