"""The shape of a model of one stream."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class JointConfig:
    """axes: channels of a head for text position, line and column. multiple: of text and of image tokens, which learned
    tokens fill up. adaln_silu: whether a SiLU is before the modulation of a block. time_scale: of the model's time.
    """

    dim: int
    n_layers: int
    n_refiners: int
    n_heads: int
    n_kv_heads: int
    ffn_dim: int
    cap_feat_dim: int
    adaln_dim: int
    patch_size: int
    in_channels: int
    axes: tuple[int, int, int]
    rope_theta: float
    time_dim: int
    time_scale: float = 1.0
    adaln_silu: bool = True
    multiple: int = 1
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Raises ValueError if the numbers do not go with each other."""
        if self.dim % self.n_heads:
            raise ValueError(f"width {self.dim} is not {self.n_heads} heads of one size")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"{self.n_heads} heads do not share {self.n_kv_heads} kv heads evenly")
        if sum(self.axes) != self.head_dim or any(size % 2 or size < 2 for size in self.axes):
            raise ValueError(f"the axes of RoPE {self.axes} are not even sizes that make a head of {self.head_dim}")
        if self.n_layers < 1 or self.n_refiners < 1:
            raise ValueError(f"there are {self.n_layers} layers and {self.n_refiners} refiners; allowed is 1 and more")
        if not 0 < self.norm_eps < 1 or not 1 < self.rope_theta < math.inf:
            raise ValueError(f"epsilon {self.norm_eps} or theta {self.rope_theta} is none")

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def patch_values(self) -> int:
        return self.patch_size**2 * self.in_channels

    def sizes(self) -> dict[str, int]:
        return {
            "width": self.dim,
            "hidden": self.ffn_dim,
            "heads": self.n_heads,
            "kv_heads": self.n_kv_heads,
            "head": self.head_dim,
        }

    def price(self) -> dict[str, int]:
        """FLOPs (2 a multiply-add) of a row; in the refiner there is no text."""
        linear = 2 * self.dim**2 + 2 * self.dim * self.n_kv_heads * self.head_dim + 3 * self.dim * self.ffn_dim
        blocks, ends = self.n_layers + self.n_refiners, 2 * self.patch_values * self.dim
        return {
            "token": 2 * (blocks * linear + ends),
            "pair": 4 * blocks * self.dim,
            "text": 2 * self.n_layers * linear,
            "text_pair": 4 * self.n_layers * self.dim,
        }
