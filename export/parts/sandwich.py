"""The block of Next-DiT's descendants (Lumina-Image 2.0, Z-Image): norms before and after, gates through tanh.

Sequence-first, as parts.layers. Letters: A tokens at hand, N keys, R rows, D width, H heads, G kv heads, d head size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flagdit.export.parts.layers import FeedForward, RMSNorm, Rope, attend, rotate

QK_EPS = 1e-5
KV = tuple[Tensor, Tensor]


class HeadAttention(nn.Module):
    """Attention whose queries and keys are normalised head by head."""

    def __init__(self, dim: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, dim // heads
        self.wq = nn.Linear(dim, dim, bias=False)
        self.wk = nn.Linear(dim, kv_heads * self.head_dim, bias=False)
        self.wv = nn.Linear(dim, kv_heads * self.head_dim, bias=False)
        self.wo = nn.Linear(dim, dim, bias=False)
        self.q_norm, self.k_norm = RMSNorm(self.head_dim, QK_EPS), RMSNorm(self.head_dim, QK_EPS)

    def qkv(self, x: Tensor, rope: Rope) -> tuple[Tensor, Tensor, Tensor]:
        """Query (A, R, H, d), key and value (A, R, G, d) of tokens x (A, R, D)."""
        q, k, v = (torch.unflatten(w(x), -1, (-1, self.head_dim)) for w in (self.wq, self.wk, self.wv))
        q = rotate(self.q_norm(q).flatten(2), rope, self.heads)
        k = rotate(self.k_norm(k).flatten(2), rope, self.kv_heads)
        return torch.unflatten(q, -1, (self.heads, -1)), torch.unflatten(k, -1, (self.kv_heads, -1)), v

    def mix(self, q: Tensor, kv: KV, bias: Tensor | None) -> Tensor:
        """Attend from q to keys and values (N, R, G, d); bias (R, 1, A, N)."""
        k, v = (x.permute(1, 2, 0, 3) for x in kv)
        out: Tensor = self.wo(attend(q, k, v, scale=self.head_dim**-0.5, bias=bias))
        return out


class SandwichBlock(nn.Module):
    """Attention and SwiGLU, each between two norms; modulated by a scale and a gate each, or not at all."""

    before, behind = ("attention_norm1", "ffn_norm1"), ("attention_norm2", "ffn_norm2")

    def __init__(self, dim: int, heads: int, kv_heads: int, hidden: int, eps: float, adaln: nn.Module | None) -> None:
        super().__init__()
        self.attention = HeadAttention(dim, heads, kv_heads)
        self.feed_forward = FeedForward(dim, hidden)
        self.attention_norm1, self.attention_norm2 = RMSNorm(dim, eps), RMSNorm(dim, eps)
        self.ffn_norm1, self.ffn_norm2 = RMSNorm(dim, eps), RMSNorm(dim, eps)
        if adaln is not None:
            self.adaLN_modulation = adaln

    def forward(
        self,
        x: Tensor,
        rope: Rope,
        modulation: Tensor | None = None,
        tail: KV | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, KV]:
        """New x (A, R, D), and keys and values (A, R, G, d) of its tokens, which come before those of `tail`.

        modulation (R, 4, D): scale and gate of the attention, scale and gate of the feed-forward layer.
        """
        u = self.attention_norm1(x)
        scales = None if modulation is None else modulation.unbind(1)
        q, k, v = self.attention.qkv(u if scales is None else u * (1 + scales[0]), rope)
        keys = (k, v) if tail is None else (torch.cat([k, tail[0]]), torch.cat([v, tail[1]]))
        mixed = self.attention_norm2(self.attention.mix(q, keys, bias))
        x = x + (mixed if scales is None else scales[1].tanh() * mixed)
        f = self.ffn_norm1(x)
        made = self.ffn_norm2(self.feed_forward(f if scales is None else f * (1 + scales[2])))
        return x + (made if scales is None else scales[3].tanh() * made), (k, v)
