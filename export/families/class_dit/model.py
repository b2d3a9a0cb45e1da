"""Flag-DiT and Next-DiT of classes, under the official names.

What is called `attention_norm` and `ffn_norm` is before a layer in Flag-DiT, and behind it in Next-DiT, whose norms
before it have no weights. Letters: A tokens at hand, R rows, D width, G kv heads, d head size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flagdit.export.families.class_dit.config import ClassDiTConfig
from flagdit.export.parts.layers import FeedForward, RMSNorm, Rope, TimestepEmbedder
from flagdit.export.parts.text_attention import OwnAttention

KV = tuple[Tensor, Tensor]


class ClassBlock(nn.Module):
    """Attention and SwiGLU, modulated by the time and the class."""

    before = (None, None)  # of Next-DiT: norms without weights

    def __init__(self, c: ClassDiTConfig) -> None:
        super().__init__()
        self.behind = ("attention_norm", "ffn_norm") if c.sandwich else None
        self.sandwich, self.eps = c.sandwich, c.norm_eps
        self.attention = OwnAttention(c)
        self.feed_forward = FeedForward(c.dim, c.ffn_dim)
        self.attention_norm, self.ffn_norm = RMSNorm(c.dim, c.norm_eps), RMSNorm(c.dim, c.norm_eps)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c.condition_dim, c.chunks * c.dim))

    def forward(self, x: Tensor, modulation: Tensor, rope: Rope, scale: Tensor, tail: KV) -> tuple[Tensor, KV]:
        """New x (A, R, D) and the keys and values (A, R, G, d) of its tokens, which come before `tail`.

        modulation (R, 6, D): shift, scale and gate of the attention, then of the feed-forward layer; in Next-DiT (R, 4,
        D), without shifts.
        """
        parts = modulation.unbind(1)
        attention, feed = parts[: len(parts) // 2], parts[len(parts) // 2 :]
        q, k, v = self.attention.qkv(self._before(x, attention, self.attention_norm), rope)
        mixed = self.attention.mix(q, (torch.cat([k, tail[0]]), torch.cat([v, tail[1]])), scale=scale)
        x = x + self._behind(mixed, attention[-1], self.attention_norm)
        made = self.feed_forward(self._before(x, feed, self.ffn_norm))
        return x + self._behind(made, feed[-1], self.ffn_norm), (k, v)

    def _before(self, x: Tensor, parts: tuple[Tensor, ...], norm: RMSNorm) -> Tensor:
        if self.sandwich:
            return F.rms_norm(x, x.shape[-1:], eps=self.eps) * (1 + parts[0])
        out: Tensor = norm(x) * (1 + parts[1]) + parts[0]
        return out

    def _behind(self, made: Tensor, gate: Tensor, norm: RMSNorm) -> Tensor:
        out: Tensor = gate.tanh() * norm(made) if self.sandwich else gate * made
        return out


class ClassFinal(nn.Module):
    """Modulated LayerNorm and the projection to patches, in the order (ph, pw, channel); shift, then scale."""

    def __init__(self, c: ClassDiTConfig) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(c.dim, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(c.dim, c.patch_size**2 * c.out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c.condition_dim, 2 * c.dim))


class LabelEmbedder(nn.Module):
    """The table of classes, that of none last. No graph of the model reads it: it is its text encoder's."""

    def __init__(self, c: ClassDiTConfig) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(c.classes + 1, c.condition_dim)


class ClassDiT(nn.Module):
    """Weights of a model of classes."""

    def __init__(self, config: ClassDiTConfig) -> None:
        super().__init__()
        self.config = c = config
        self.x_embedder = nn.Linear(c.patch_size**2 * c.in_channels, c.dim)
        self.t_embedder = TimestepEmbedder(c.condition_dim)
        self.y_embedder = LabelEmbedder(c)
        self.layers = nn.ModuleList(ClassBlock(c) for _ in range(c.n_layers))
        self.final_layer = ClassFinal(c)

    @property
    def blocks(self) -> list[ClassBlock]:
        """The layers, by their type."""
        return [layer for layer in self.layers if isinstance(layer, ClassBlock)]
