"""The shape of a Next-DiT."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flagdit.export.parts.patches import PatchShape


@dataclass(frozen=True)
class NextDiTConfig(PatchShape):
    """Shape of a Next-DiT. That of Lumina-Next 2B is 2304 wide, 24 layers, 32 heads on 8 kv heads, 6144, 2048.

    qk_norm_groups: of heads, each with a norm of its own: the ranks of tensor parallelism in training.
    """

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    ffn_dim: int
    cap_feat_dim: int
    patch_size: int
    in_channels: int
    learn_sigma: bool = True
    qk_norm: bool = True
    qk_norm_groups: int = 1
    norm_eps: float = 1e-5
    rope_theta: float = 1e4

    def __post_init__(self) -> None:
        """Raises ValueError if the numbers do not go with each other."""
        if self.dim % self.n_heads or self.head_dim % 4:
            raise ValueError(f"width {self.dim} is not {self.n_heads} heads of a size that 4 divides")
        if self.n_kv_heads < 1 or self.n_heads % self.n_kv_heads:
            raise ValueError(f"{self.n_heads} heads do not share {self.n_kv_heads} kv heads evenly")
        if self.qk_norm_groups < 1 or self.n_kv_heads % self.qk_norm_groups:
            raise ValueError(f"{self.n_kv_heads} kv heads are not {self.qk_norm_groups} groups")
        if self.n_layers < 1 or not 0 < self.norm_eps < 1 or not 1 < self.rope_theta < math.inf:
            raise ValueError(f"{self.n_layers} layers, epsilon {self.norm_eps} or theta {self.rope_theta} is none")

    @property
    def kv_heads(self) -> int:
        return self.n_kv_heads

    def price(self) -> dict[str, int]:
        return self.priced(self.kv_heads, self.ffn_dim)
