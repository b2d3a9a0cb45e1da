"""The parts of a Flag-DiT block that know nothing of images.

Everything here is sequence-first, (N, B, D): a modulation (B, D) then broadcasts by itself, and a prefix of
the sequence is contiguous, which is what the head/tail contract of the exported graph needs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Rope = tuple[Tensor, Tensor]
"""cos and sin of every token's angles, (N, B, d/2) each; B may be 1."""


MASKED = -1e4
"""Added to the scores of absent keys: exp() of it is 0 in fp32 and in fp16, and it is finite in both."""


def masked_mean(text: Tensor, text_mask: Tensor) -> Tensor:
    """Mean (B, Y) of the features (B, T, Y) of the tokens that the mask (B, T) has."""
    weights = text_mask.to(text.dtype)[..., None]
    return (text * weights).sum(1) / weights.sum(1)


class RMSNorm(nn.Module):
    """x / rms(x) * weight, normalised in fp32 (Zhang & Sennrich 2019)."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x), without biases."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)
        self.w3 = nn.Linear(dim, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return out


class TimestepEmbedder(nn.Module):
    """Sinusoid of the time through a two-layer MLP.

    stored: whether the frequencies are weights. Where the model's time goes to 1000, their last bit shows in the fifth
    digit of a velocity, and another library's exp() has other last bits than the one that the model was trained with.
    """

    FREQUENCIES = 128

    def __init__(self, width: int, middle: int | None = None, *, stored: bool = False) -> None:
        super().__init__()
        middle = middle or width
        self.mlp = nn.Sequential(nn.Linear(2 * self.FREQUENCIES, middle), nn.SiLU(), nn.Linear(middle, width))
        if stored:
            self.register_buffer("frequencies", self.made(torch.get_default_device()))

    @classmethod
    def made(cls, device: torch.device) -> Tensor:
        """The frequencies, (128,)."""
        steps = torch.arange(cls.FREQUENCIES, dtype=torch.float32, device=device)
        return torch.exp(-math.log(1e4) / cls.FREQUENCIES * steps)

    def forward(self, t: Tensor) -> Tensor:
        """Embed t (S,) as (S, width)."""
        stored = self.get_buffer("frequencies") if hasattr(self, "frequencies") else self.made(t.device)
        angles = t.float()[:, None] * stored
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)  # (S, 256)
        out: Tensor = self.mlp(waves.to(next(self.mlp.parameters()).dtype))
        return out


def rope_table(positions: Tensor, head_dim: int, theta: float | Tensor, *, scaling: float = 1.0) -> Rope:
    """cos and sin of the angles of 1-D positions (N,): (N, 1, d/2) each, made in double and rounded once to fp32.

    `theta` already holds the NTK factor; `scaling` divides the positions (position interpolation).
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64, device=positions.device) / head_dim
    angles = positions.double()[:, None] / scaling * theta**-exponents  # (N, d/2)
    cos = 1 - 2 * (angles / 2).sin() ** 2  # ONNX Runtime 1.25 has a sine in double, and no cosine
    return cos.float()[:, None], angles.sin().float()[:, None]


def rotate(x: Tensor, rope: Rope, heads: int) -> Tensor:
    """Rotate adjacent channel pairs (2i, 2i+1) of every head of x (N, B, heads*d)."""
    cos, sin = rope
    if torch.onnx.is_in_onnx_export():
        # One RotaryEmbedding node. It rotates each (row, column) of its first two axes on its own, so it
        # does not mind that they are (sequence, batch) here.
        out: Tensor = torch.onnx.ops.rotary_embedding(x, cos, sin, interleaved=True, num_heads=heads)
        return out
    n, b, width = x.shape
    even, odd = x.float().view(n, b, heads, width // heads // 2, 2).unbind(-1)
    cos, sin = cos[:, :, None], sin[:, :, None]  # (N, B, 1, d/2)
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.view(n, b, width).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, *, scale: float, bias: Tensor | None = None) -> Tensor:
    """Softmax attention of q (A, R, H, d) over batch-first k, v (R, G, N, d) -> (A, R, H*d)."""
    out = F.scaled_dot_product_attention(
        q.permute(1, 2, 0, 3), k, v, attn_mask=bias, scale=scale, enable_gqa=q.shape[2] != k.shape[1]
    )
    return out.permute(2, 0, 1, 3).flatten(2)


def text_mask_bias(text_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive bias (B, 1, 1, T) of a text mask (B, T): 0 where there is text."""
    return (~text_mask).to(dtype)[:, None, None] * MASKED
