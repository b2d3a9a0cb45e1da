"""The shape of a Flag-DiT."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flagdit.export.parts.patches import PatchShape

MOST = {
    "dim": 1 << 20,
    "n_layers": 1024,
    "n_heads": 1 << 12,
    "patch_size": 64,
    "in_channels": 64,
    "cap_feat_dim": 1 << 20,
    "multiple_of": 1 << 20,
    "qk_norm_groups": 1 << 12,
}
"""Whole numbers of a configuration, and the largest that each may be."""


@dataclass(frozen=True)
class FlagDiTConfig(PatchShape):
    """Shape of a Flag-DiT. The defaults are Lumina-T2I 5B.

    qk_norm_groups: of heads, each with a norm of its own: the ranks of tensor parallelism in training.
    """

    dim: int = 3072
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int | None = None
    patch_size: int = 2
    in_channels: int = 4
    learn_sigma: bool = True
    cap_feat_dim: int = 4096
    qk_norm: bool = True
    qk_norm_groups: int = 1
    norm_eps: float = 1e-5
    multiple_of: int = 256
    ffn_dim_multiplier: float | None = None
    rope_theta: float = 1e4

    def __post_init__(self) -> None:
        """Raises ValueError if a number is none, or out of bounds, or does not go with another."""
        for name, most in MOST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ValueError(f"{name} is {value!r}; allowed are whole numbers of 1 to {most}")
        if self.n_kv_heads is not None and (not isinstance(self.n_kv_heads, int) or self.n_kv_heads < 1):
            raise ValueError(f"n_kv_heads is {self.n_kv_heads!r}; allowed are 1 to {self.n_heads}, or none")
        for name in ("norm_eps", "rope_theta", "ffn_dim_multiplier"):
            value = getattr(self, name)
            if value is None and name == "ffn_dim_multiplier":
                continue
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}; allowed are numbers above 0")
        for name in ("learn_sigma", "qk_norm"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed are true and false")
        if self.dim % self.n_heads or (self.dim // self.n_heads) % 2:
            raise ValueError(f"dim {self.dim} is not {self.n_heads} heads of an even size")
        if self.n_heads % self.kv_heads:
            raise ValueError(f"{self.n_heads} heads do not share {self.kv_heads} kv heads evenly")
        if self.kv_heads % self.qk_norm_groups:
            raise ValueError(f"{self.kv_heads} kv heads are not {self.qk_norm_groups} groups")

    @property
    def kv_heads(self) -> int:
        return self.n_kv_heads or self.n_heads

    @property
    def ffn_dim(self) -> int:
        hidden = int(2 * 4 * self.dim / 3)
        if self.ffn_dim_multiplier is not None:
            hidden = int(self.ffn_dim_multiplier * hidden)
        return -(-hidden // self.multiple_of) * self.multiple_of

    def tokens(self, size: tuple[int, int]) -> int:
        """Tokens of latents of that size (width, height), [nextline] included."""
        columns, lines = (n // self.patch_size for n in size)
        return lines * (columns + 1)

    def price(self) -> dict[str, int]:
        return self.priced(self.kv_heads, self.ffn_dim)
