"""Attention of Flag-DiT and Next-DiT: over tokens and text at once, through one projection.

Letters: A tokens at hand, N all of them, R rows, T text tokens, D width, H heads, G kv heads, d head size, Y text
width.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from flagdit.export.parts.layers import Rope, attend, rotate


class Shape(Protocol):
    """What a configuration says of it."""

    @property
    def dim(self) -> int: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def qk_norm(self) -> bool: ...
    @property
    def qk_norm_groups(self) -> int: ...


class TextShape(Shape, Protocol):
    """The same of a model that attends to a text."""

    @property
    def cap_feat_dim(self) -> int: ...


class HeadsNorm(nn.LayerNorm):
    """LayerNorm over all heads together, or over each of several groups of them."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__(width)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        if self.groups == 1:
            return super().forward(x)
        parts = torch.unflatten(x, -1, (self.groups, -1))
        normed = nn.functional.layer_norm(parts, parts.shape[-1:], eps=self.eps)
        return normed.flatten(-2) * self.weight + self.bias


class SelfAttention(nn.Module):
    """Attention over tokens. y_dim: width of the text, for which there are weights too; 0 is none."""

    def __init__(self, c: Shape, y_dim: int = 0) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = c.n_heads, c.kv_heads, c.head_dim
        kv = c.kv_heads * c.head_dim
        self.wq = nn.Linear(c.dim, c.dim, bias=False)
        self.wk = nn.Linear(c.dim, kv, bias=False)
        self.wv = nn.Linear(c.dim, kv, bias=False)
        if y_dim:
            self.wk_y = nn.Linear(y_dim, kv, bias=False)
            self.wv_y = nn.Linear(y_dim, kv, bias=False)
            self.gate = nn.Parameter(torch.zeros(c.n_heads))
        self.wo = nn.Linear(c.dim, c.dim, bias=False)
        # QK norm is one LayerNorm over all heads of a rank together, not one per head.
        norm = HeadsNorm if c.qk_norm else nn.Identity
        self.q_norm, self.k_norm = (norm(width, c.qk_norm_groups) for width in (c.dim, kv))
        if y_dim:
            self.ky_norm = norm(kv, c.qk_norm_groups)

    def qkv(self, x: Tensor, rope: Rope) -> tuple[Tensor, Tensor, Tensor]:
        """Query (A, R, H, d), key and value (A, R, G, d) of the tokens x (A, R, D)."""
        q = torch.unflatten(rotate(self.q_norm(self.wq(x)), rope, self.heads), -1, (self.heads, -1))
        k = torch.unflatten(rotate(self.k_norm(self.wk(x)), rope, self.kv_heads), -1, (self.kv_heads, -1))
        return q, k, torch.unflatten(self.wv(x), -1, (self.kv_heads, -1))

    def over(self, q: Tensor, kv: tuple[Tensor, Tensor], scale: Tensor | float, bias: Tensor | None = None) -> Tensor:
        """(A, R, D) of q to every key of kv (N, R, G, d), before the projection."""
        k, v = (x.permute(1, 2, 0, 3) for x in kv)
        # The softmax scale is multiplied into q: it may change per run (proportional attention), and two
        # attention nodes with the same q and the same scale crash TensorRT-RTX's builder.
        return attend(q * scale, k, v, scale=1.0, bias=bias)


class OwnAttention(SelfAttention):
    """Attention over tokens alone."""

    def mix(self, q: Tensor, kv: tuple[Tensor, Tensor], *, scale: Tensor) -> Tensor:
        """Attend from q to every key of kv (N, R, G, d)."""
        mixed: Tensor = self.wo(self.over(q, kv, scale))
        return mixed


class Attention(SelfAttention):
    """Self-attention plus zero-initialised, tanh-gated attention to the text, through one projection."""

    def __init__(self, c: TextShape) -> None:
        super().__init__(c, c.cap_feat_dim)

    def text_kv(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the text y (R, T, Y): (R, G, T, d) each. They do not depend on time."""
        shape = (self.kv_heads, self.head_dim)
        key = torch.unflatten(self.ky_norm(self.wk_y(y)), -1, shape)
        return key.transpose(1, 2), torch.unflatten(self.wv_y(y), -1, shape).transpose(1, 2)

    def mix(
        self,
        q: Tensor,
        kv: tuple[Tensor, Tensor],
        text_kv: tuple[Tensor, Tensor],
        *,
        scale: Tensor | float,
        bias: Tensor | None,
        text_bias: Tensor,
    ) -> Tensor:
        """Attend from q to every key of kv (N, R, G, d) and to the text; both share the projection wo."""
        out = self.over(q, kv, scale, bias)
        text_bias = text_bias.expand(-1, 1, q.shape[0], -1)
        text = attend(q, *text_kv, scale=self.head_dim**-0.5, bias=text_bias)
        gate = self.gate.tanh().repeat_interleave(self.head_dim)  # (D,)
        mixed: Tensor = self.wo(out + gate * text)
        return mixed
