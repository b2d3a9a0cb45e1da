"""Lumina-Image 2.0 (Qin et al. 2025, arXiv 2503.21758): one stream, text beside the slots, three axes of RoPE."""

from flagdit.export.families.family import Family
from flagdit.export.families.lumina2.names import DIFFUSERS, OFFICIAL, OWN

LUMINA2 = Family("lumina2", "Lumina-Image 2.0", (OFFICIAL, DIFFUSERS, OWN))

__all__ = ["LUMINA2"]
