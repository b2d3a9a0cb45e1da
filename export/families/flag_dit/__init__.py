"""Flag-DiT, the model of Lumina-T2X (Gao et al. 2024, arXiv 2405.05945)."""

from flagdit.export.families.flag_dit.opened import FLAG_DIT

__all__ = ["FLAG_DIT"]
