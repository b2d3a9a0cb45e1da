"""The transformer block of Flag-DiT: attention over tokens and text, SwiGLU, both modulated by adaLN-zero.

Letters: A tokens at hand, M cached tokens, N all of them, R rows, T text tokens, D width, H heads, G kv heads,
d head size, Y text width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flagdit.export.families.flag_dit.config import FlagDiTConfig
from flagdit.export.parts.layers import FeedForward, RMSNorm, Rope
from flagdit.export.parts.text_attention import Attention


class Block(nn.Module):
    """One transformer block, modulated by adaLN-zero."""

    def __init__(self, c: FlagDiTConfig) -> None:
        super().__init__()
        self.attention = Attention(c)
        self.feed_forward = FeedForward(c.dim, c.ffn_dim)
        self.attention_norm = RMSNorm(c.dim, c.norm_eps)
        self.ffn_norm = RMSNorm(c.dim, c.norm_eps)
        self.attention_y_norm = RMSNorm(c.cap_feat_dim, c.norm_eps)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c.condition_dim, 6 * c.dim))

    def text_kv(self, text: Tensor) -> tuple[Tensor, Tensor]:
        return self.attention.text_kv(self.attention_y_norm(text))

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        rope: Rope,
        text_kv: tuple[Tensor, Tensor],
        scale: Tensor | float,
        text_bias: Tensor,
        bias: Tensor | None = None,
        tail: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run the block on x (A, R, D) with modulation (R, 6, D).

        `tail` holds cached keys and values (M, R, G, d), which follow those of x. Returns the new x and the
        keys and values of its own tokens (A, R, G, d).
        """
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = modulation.unbind(1)
        q, *head = self.attention.qkv(self.attention_norm(x) * (1 + scale_msa) + shift_msa, rope)
        kv = head if tail is None else [torch.cat(pair) for pair in zip(head, tail, strict=True)]
        x = x + gate_msa * self.attention.mix(q, (kv[0], kv[1]), text_kv, scale=scale, bias=bias, text_bias=text_bias)
        x = x + gate_mlp * self.feed_forward(self.ffn_norm(x) * (1 + scale_mlp) + shift_mlp)
        return x, (head[0], head[1])


class FinalLayer(nn.Module):
    """Modulated LayerNorm and the projection to patches, in the order (ph, pw, channel)."""

    def __init__(self, c: FlagDiTConfig) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(c.dim, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(c.dim, c.patch_size**2 * c.out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c.condition_dim, 2 * c.dim))

    def normalise(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x (A, R, D) under modulation (R, 2, D)."""
        shift, scale = modulation.unbind(1)
        out: Tensor = self.norm_final(x) * (1 + scale) + shift
        return out
