"""MMDiT, the model of Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206).

Names are those of the original code, but for queries, keys and values apart, `w1`, `w2` of the feed-forward layers and
two tables of positions. Letters: A image tokens at hand, R rows, D width, H heads, d head size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flagdit.export.families.mmdit.config import MMDiTConfig
from flagdit.export.parts.layers import RMSNorm, TimestepEmbedder

EPS = 1e-6
QKV = tuple[Tensor, Tensor, Tensor]


def normalised(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without weights of x (A, R, D), modulated by (R, D) each."""
    return F.layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale) + shift


class Projections(nn.Module):
    """Queries, keys and values of one kind of tokens, normalised head by head or not; and what is made of them."""

    def __init__(self, c: MMDiTConfig, *, out: bool) -> None:
        super().__init__()
        self.heads = c.n_heads
        self.wq, self.wk, self.wv = (nn.Linear(c.dim, c.dim) for _ in range(3))
        if out:
            self.wo = nn.Linear(c.dim, c.dim)
        norm = (lambda: RMSNorm(c.head_dim, EPS)) if c.qk_norm else nn.Identity
        self.q_norm, self.k_norm = norm(), norm()

    def qkv(self, x: Tensor) -> QKV:
        """(A, R, H, d) each of x (A, R, D)."""
        q, k, v = (torch.unflatten(w(x), -1, (self.heads, -1)) for w in (self.wq, self.wk, self.wv))
        return self.q_norm(q), self.k_norm(k), v


class GELUFeedForward(nn.Module):
    """w2(gelu(w1 x)), gelu by tanh."""

    def __init__(self, c: MMDiTConfig) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(c.dim, c.ffn_dim), nn.Linear(c.ffn_dim, c.dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w2(F.gelu(self.w1(x), approximate="tanh"))
        return out


class Stream(nn.Module):
    """Image or text of a layer; the text of the last layer ends with its keys and values."""

    def __init__(self, c: MMDiTConfig, *, chunks: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c.dim, chunks * c.dim))
        self.attention = Projections(c, out=chunks > 2)
        if chunks > 2:
            self.feed_forward = GELUFeedForward(c)
        if chunks == 9:
            self.attention2 = Projections(c, out=True)

    def finish(self, x: Tensor, mixed: Tensor, modulation: tuple[Tensor, ...], second: Tensor | None = None) -> Tensor:
        """Take in what the attention made, (A, R, D), and what a second one did."""
        x = x + modulation[2] * self.attention.wo(mixed)
        if second is not None:
            x = x + modulation[8] * self.attention2.wo(second)
        made: Tensor = self.feed_forward(normalised(x, modulation[3], modulation[4]))
        return x + modulation[5] * made


class JointBlock(nn.Module):
    """A layer: attention over image and text at once."""

    def __init__(self, c: MMDiTConfig, image: int, text: int) -> None:
        super().__init__()
        self.x_block, self.context_block = Stream(c, chunks=image), Stream(c, chunks=text)


class MMDiTFinal(nn.Module):
    """Modulated LayerNorm and the projection to patches, in the order (ph, pw, channel); shift, then scale."""

    def __init__(self, c: MMDiTConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(c.dim, c.patch_values)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c.dim, 2 * c.dim))


class PooledEmbedder(nn.Module):
    """Of the pooled text."""

    def __init__(self, c: MMDiTConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(c.pooled_dim, c.dim), nn.SiLU(), nn.Linear(c.dim, c.dim))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(x)
        return out


class MMDiT(nn.Module):
    """Weights of an MMDiT."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.config = c = config
        self.x_embedder = nn.Linear(c.patch_values, c.dim)
        self.position_columns = nn.Parameter(torch.empty(c.table, c.dim // 2))
        self.position_lines = nn.Parameter(torch.empty(c.table, c.dim // 2))
        self.t_embedder = TimestepEmbedder(c.dim, stored=True)
        self.y_embedder = PooledEmbedder(c)
        self.context_embedder = nn.Linear(c.joint_dim, c.dim)
        self.joint_blocks = nn.ModuleList(JointBlock(c, *chunks) for chunks in c.chunks())
        self.final_layer = MMDiTFinal(c)

    @property
    def blocks(self) -> list[JointBlock]:
        """The layers, by their type."""
        return [block for block in self.joint_blocks if isinstance(block, JointBlock)]
