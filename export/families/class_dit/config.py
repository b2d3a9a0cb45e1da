"""The shape of a model of classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flagdit.export.parts.patches import PatchShape


@dataclass(frozen=True)
class ClassDiTConfig(PatchShape):
    """sandwich: a Next-DiT's blocks and positions, a Flag-DiT's if not. classes: without that of no class, whose row of
    the table is the last. qk_norm_groups: as in FlagDiTConfig.
    """

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    ffn_dim: int
    classes: int
    patch_size: int
    in_channels: int
    sandwich: bool
    learn_sigma: bool = True
    qk_norm: bool = True
    qk_norm_groups: int = 1
    norm_eps: float = 1e-5
    rope_theta: float = 1e4

    def __post_init__(self) -> None:
        """Raises ValueError if the numbers do not go with each other."""
        if self.n_heads < 1 or self.dim % self.n_heads or self.head_dim % (4 if self.sandwich else 2):
            raise ValueError(
                f"width {self.dim} is not {self.n_heads} heads of an even size; its tensors do not say how many "
                "heads it has, so write n_heads to a config.json beside it"
            )
        if self.n_kv_heads < 1 or self.n_heads % self.n_kv_heads:
            raise ValueError(f"{self.n_heads} heads do not share {self.n_kv_heads} kv heads evenly")
        if self.qk_norm_groups < 1 or self.n_kv_heads % self.qk_norm_groups:
            raise ValueError(f"{self.n_kv_heads} kv heads are not {self.qk_norm_groups} groups")
        if self.n_layers < 1 or self.classes < 1 or not 0 < self.norm_eps < 1 or not 1 < self.rope_theta < math.inf:
            raise ValueError(
                f"{self.n_layers} layers, {self.classes} classes, epsilon {self.norm_eps} or theta is none"
            )

    @property
    def kv_heads(self) -> int:
        return self.n_kv_heads

    @property
    def chunks(self) -> int:
        """Modulations of a block."""
        return 4 if self.sandwich else 6

    def price(self) -> dict[str, int]:
        return self.priced(self.kv_heads, self.ffn_dim)
