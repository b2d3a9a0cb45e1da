"""Next-DiT, the model of Lumina-Next (Zhuo et al. 2024, arXiv 2406.18583), under the official names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flagdit.export.families.next_dit.config import NextDiTConfig
from flagdit.export.parts.layers import FeedForward, RMSNorm, Rope, TimestepEmbedder, masked_mean
from flagdit.export.parts.text_attention import Attention


class NextBlock(nn.Module):
    """Attention and SwiGLU, each between two norms, with a scale and a gate through tanh; text as in Flag-DiT."""

    before, behind = ("attention_norm1", "ffn_norm1"), ("attention_norm2", "ffn_norm2")

    def __init__(self, c: NextDiTConfig) -> None:
        super().__init__()
        self.attention = Attention(c)
        self.feed_forward = FeedForward(c.dim, c.ffn_dim)
        self.attention_norm1, self.attention_norm2 = RMSNorm(c.dim, c.norm_eps), RMSNorm(c.dim, c.norm_eps)
        self.ffn_norm1, self.ffn_norm2 = RMSNorm(c.dim, c.norm_eps), RMSNorm(c.dim, c.norm_eps)
        self.attention_y_norm = RMSNorm(c.cap_feat_dim, c.norm_eps)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c.condition_dim, 4 * c.dim))

    def text_kv(self, text: Tensor) -> tuple[Tensor, Tensor]:
        return self.attention.text_kv(self.attention_y_norm(text))

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        rope: Rope,
        text_kv: tuple[Tensor, Tensor],
        scale: Tensor,
        text_bias: Tensor,
        tail: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """New x (A, R, D) and the keys and values (A, R, G, d) of its tokens, which come before `tail`.

        modulation (R, 4, D): scale and gate of the attention, scale and gate of the feed-forward layer.
        """
        scale_msa, gate_msa, scale_mlp, gate_mlp = modulation.unbind(1)
        q, k, v = self.attention.qkv(self.attention_norm1(x) * (1 + scale_msa), rope)
        kv = torch.cat([k, tail[0]]), torch.cat([v, tail[1]])
        mixed = self.attention.mix(q, kv, text_kv, scale=scale, bias=None, text_bias=text_bias)
        x = x + gate_msa.tanh() * self.attention_norm2(mixed)
        made = self.feed_forward(self.ffn_norm1(x) * (1 + scale_mlp))
        return x + gate_mlp.tanh() * self.ffn_norm2(made), (k, v)


class NextFinal(nn.Module):
    """LayerNorm with a scale and the projection to patches, in the order (ph, pw, channel)."""

    def __init__(self, c: NextDiTConfig) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(c.dim, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(c.dim, c.patch_size**2 * c.out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c.condition_dim, c.dim))


class NextDiT(nn.Module):
    """Weights of a Next-DiT. `pad_token`, which fills up batches of several sizes, is not kept."""

    def __init__(self, config: NextDiTConfig) -> None:
        super().__init__()
        self.config = c = config
        self.x_embedder = nn.Linear(c.patch_size**2 * c.in_channels, c.dim)
        self.t_embedder = TimestepEmbedder(c.condition_dim)
        self.cap_embedder = nn.Sequential(nn.LayerNorm(c.cap_feat_dim), nn.Linear(c.cap_feat_dim, c.condition_dim))
        self.layers = nn.ModuleList(NextBlock(c) for _ in range(c.n_layers))
        self.final_layer = NextFinal(c)

    @property
    def blocks(self) -> list[NextBlock]:
        """The layers, by their type."""
        return [layer for layer in self.layers if isinstance(layer, NextBlock)]

    def pool(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """Masked mean of the text features, embedded."""
        out: Tensor = self.cap_embedder(masked_mean(text, text_mask))
        return out
