"""The transformer block of Flag-DiT: attention over tokens and text, SwiGLU, both modulated by adaLN-zero.

Letters: A tokens at hand, M cached tokens, N all of them, R rows, T text tokens, D width, H heads, G kv heads,
d head size, Y text width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flagdit.export.config import FlagDiTConfig
from flagdit.export.layers import FeedForward, RMSNorm, Rope, attend, rotate


class Attention(nn.Module):
    """Self-attention plus zero-initialised, tanh-gated attention to the text, through one projection."""

    def __init__(self, c: FlagDiTConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = c.n_heads, c.kv_heads, c.head_dim
        kv = c.kv_heads * c.head_dim
        self.wq = nn.Linear(c.dim, c.dim, bias=False)
        self.wk = nn.Linear(c.dim, kv, bias=False)
        self.wv = nn.Linear(c.dim, kv, bias=False)
        self.wk_y = nn.Linear(c.cap_feat_dim, kv, bias=False)
        self.wv_y = nn.Linear(c.cap_feat_dim, kv, bias=False)
        self.wo = nn.Linear(c.dim, c.dim, bias=False)
        self.gate = nn.Parameter(torch.zeros(c.n_heads))
        # QK norm is one LayerNorm over all heads together, not one per head.
        norm = nn.LayerNorm if c.qk_norm else nn.Identity
        self.q_norm, self.k_norm, self.ky_norm = norm(c.dim), norm(kv), norm(kv)

    def text_kv(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the text y (R, T, Y): (R, G, T, d) each. They do not depend on time."""
        shape = (self.kv_heads, self.head_dim)
        key = torch.unflatten(self.ky_norm(self.wk_y(y)), -1, shape)
        return key.transpose(1, 2), torch.unflatten(self.wv_y(y), -1, shape).transpose(1, 2)

    def qkv(self, x: Tensor, rope: Rope) -> tuple[Tensor, Tensor, Tensor]:
        """Query (A, R, H, d), key and value (A, R, G, d) of the tokens x (A, R, D)."""
        q = torch.unflatten(rotate(self.q_norm(self.wq(x)), rope, self.heads), -1, (self.heads, -1))
        k = torch.unflatten(rotate(self.k_norm(self.wk(x)), rope, self.kv_heads), -1, (self.kv_heads, -1))
        return q, k, torch.unflatten(self.wv(x), -1, (self.kv_heads, -1))

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
        k, v = (x.permute(1, 2, 0, 3) for x in kv)
        # The softmax scale is multiplied into q: it may change per run (proportional attention), and two
        # attention nodes with the same q and the same scale crash TensorRT-RTX's builder.
        out = attend(q * scale, k, v, scale=1.0, bias=bias)
        text_bias = text_bias.expand(-1, 1, q.shape[0], -1)
        text = attend(q, *text_kv, scale=self.head_dim**-0.5, bias=text_bias)
        gate = self.gate.tanh().repeat_interleave(self.head_dim)  # (D,)
        mixed: Tensor = self.wo(out + gate * text)
        return mixed


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
