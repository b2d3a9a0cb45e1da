"""What all transformers over patches do alike: the projection to patches, the softmax scale, and what shapes imply."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PatchShape:
    """What follows from the shape of a model, for configurations that have these fields."""

    dim: int
    n_layers: int
    n_heads: int
    patch_size: int
    in_channels: int
    learn_sigma: bool

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def condition_dim(self) -> int:
        return min(self.dim, 1024)

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learn_sigma else 1)

    def priced(self, kv_heads: int, ffn_dim: int) -> dict[str, int]:
        """FLOPs (2 a multiply-add) of a row of one evaluation: of a token, and of a token and a key."""
        linear = 2 * self.dim**2 + 2 * self.dim * kv_heads * self.head_dim + 3 * self.dim * ffn_dim
        ends = 2 * self.patch_size**2 * self.in_channels * self.dim  # the patch in, the velocity out
        pair = 4 * self.n_layers * self.dim
        return {"token": 2 * (self.n_layers * linear + ends), "pair": pair, "text": 0, "text_pair": 0}


def to_patches(x: Tensor, linear: nn.Linear, patch_size: int, made: int, kept: int) -> Tensor:
    """(A, R, P) of x (A, R, D), in the order of the input patches: the model's own is (ph, pw, channel).

    made: channels that `linear` makes of a pixel; kept: the first ones, which somebody reads.
    """

    def reorder(parameter: Tensor) -> Tensor:
        read = torch.unflatten(parameter, 0, (patch_size, patch_size, made))[:, :, :kept]
        return read.permute(2, 0, 1, *range(3, read.dim())).flatten(0, 2)

    return nn.functional.linear(x, reorder(linear.weight), reorder(linear.bias))


def attention_scale(place: Tensor, proportional: Tensor, base_tokens: int, head_dim: int) -> Tensor:
    """The softmax scale (1,) for as many tokens as there are places (N, 4): sqrt(1 / d), or if `proportional` (1,)
    sqrt(log_base(N) / d) (Lumina-T2X). In double, rounded once.
    """
    tokens = torch.ones_like(place[:, 0], dtype=torch.float64).sum()
    growth = torch.where(proportional, torch.log(tokens) / math.log(base_tokens), 1.0)
    return torch.sqrt(growth / head_dim).float()
