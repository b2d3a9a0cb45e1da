"""The shape of an MMDiT."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MMDiTConfig:
    """dual: how many of the first layers have a second attention, over image tokens alone. table: lines and columns of
    the table of positions. joint_dim: width of the text features.
    """

    dim: int
    n_layers: int
    n_heads: int
    ffn_dim: int
    joint_dim: int
    pooled_dim: int
    patch_size: int
    in_channels: int
    table: int
    dual: int = 0
    qk_norm: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError if the numbers do not go with each other."""
        if self.n_heads < 1 or self.dim % self.n_heads:
            raise ValueError(f"width {self.dim} is not {self.n_heads} heads of one size")
        if self.dim % 4:
            raise ValueError(f"width {self.dim} is not that of positions by line and column, which 4 divides")
        if self.n_layers < 2 or self.dual >= self.n_layers:
            raise ValueError(f"{self.n_layers} layers, {self.dual} with two attentions; the last one has none")

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def patch_values(self) -> int:
        return self.patch_size**2 * self.in_channels

    def chunks(self) -> list[tuple[int, int]]:
        """By layer, how many modulations the image tokens have and the text."""
        last = self.n_layers - 1
        return [(9 if layer < self.dual else 6, 2 if layer == last else 6) for layer in range(self.n_layers)]

    def price(self) -> dict[str, int]:
        """FLOPs (2 a multiply-add) of a row of one evaluation."""
        linear = 4 * self.dim**2 + 2 * self.dim * self.ffn_dim
        second, ends = 4 * self.dim**2 * self.dual, 2 * self.patch_values * self.dim
        last = 3 * self.dim**2  # of the text, which the last layer makes nothing of but keys, values and queries
        return {
            "token": 2 * (self.n_layers * linear + second + ends),
            "pair": 4 * (self.n_layers + self.dual) * self.dim,
            "text": 2 * ((self.n_layers - 1) * linear + last),
            "text_pair": 4 * self.n_layers * self.dim,
        }
