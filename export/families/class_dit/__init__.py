"""Flag-DiT and Next-DiT of classes (ImageNet) of Lumina-T2X (arXiv 2405.05945, 2406.18583)."""

from flagdit.export.families.class_dit.names import OFFICIAL
from flagdit.export.families.family import Family

CLASS_DIT = Family("class-dit", "Flag-DiT and Next-DiT of classes (ImageNet)", (OFFICIAL,))

__all__ = ["CLASS_DIT"]
