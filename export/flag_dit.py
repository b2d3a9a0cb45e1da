"""Flag-DiT, the flow-based diffusion transformer of Lumina-T2X (Gao et al. 2024, arXiv 2405.05945).

Module and parameter names are those of the official `lumina_t2i` code: a released checkpoint loads strictly.
Letters: B batch, N tokens, T text tokens, L layers, D width, H heads, G kv heads, d head size, Y text width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flagdit.export.layers import FeedForward, RMSNorm, Rope, TimestepEmbedder, attend, rope_table, rotate

MASKED = -1e4
"""Added to the scores of absent keys: exp() of it is 0 in fp32 and in fp16, and it is finite in both."""


@dataclass(frozen=True)
class FlagDiTConfig:
    """Shape of a Flag-DiT. The defaults are Lumina-T2I 5B."""

    dim: int = 3072
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int | None = None
    patch_size: int = 2
    in_channels: int = 4
    learn_sigma: bool = True
    cap_feat_dim: int = 4096
    qk_norm: bool = True
    norm_eps: float = 1e-5
    multiple_of: int = 256
    ffn_dim_multiplier: float | None = None
    rope_theta: float = 1e4

    def __post_init__(self) -> None:
        if self.dim % self.n_heads or (self.dim // self.n_heads) % 2:
            raise ValueError(f"dim {self.dim} is not {self.n_heads} heads of an even size")
        if self.n_heads % self.kv_heads:
            raise ValueError(f"{self.n_heads} heads do not share {self.kv_heads} kv heads evenly")

    @property
    def kv_heads(self) -> int:
        return self.n_kv_heads or self.n_heads

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learn_sigma else 1)

    @property
    def condition_dim(self) -> int:
        return min(self.dim, 1024)

    @property
    def ffn_dim(self) -> int:
        hidden = int(2 * 4 * self.dim / 3)
        if self.ffn_dim_multiplier is not None:
            hidden = int(self.ffn_dim_multiplier * hidden)
        return -(-hidden // self.multiple_of) * self.multiple_of


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
        scale: Tensor | float,
        bias: Tensor | None,
        text_bias: Tensor,
    ) -> Tensor:
        """Attend from q to every key of kv (N, R, G, d) and to the text; both share the projection wo."""
        k, v = (x.permute(1, 2, 0, 3) for x in kv)
        # The softmax scale is multiplied into q: it may change per run (proportional attention), and two
        # attention nodes with the same q and the same scale crash TensorRT-RTX's builder.
        out = attend(q * scale, k, v, 1.0, bias)
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
        x = x + gate_msa * self.attention.mix(q, (kv[0], kv[1]), text_kv, scale, bias, text_bias)
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


class FlagDiT(nn.Module):
    """Velocity of the flow from noise (t = 0) to data (t = 1), given text features."""

    def __init__(self, config: FlagDiTConfig) -> None:
        super().__init__()
        self.config = c = config
        self.x_embedder = nn.Linear(c.patch_size**2 * c.in_channels, c.dim)
        self.t_embedder = TimestepEmbedder(c.condition_dim)
        self.cap_embedder = nn.Sequential(nn.LayerNorm(c.cap_feat_dim), nn.Linear(c.cap_feat_dim, c.condition_dim))
        self.layers = nn.ModuleList(Block(c) for _ in range(c.n_layers))
        self.final_layer = FinalLayer(c)
        self.eol_token = nn.Parameter(torch.empty(c.dim))
        self.pad_token = nn.Parameter(torch.empty(c.dim))
        self.initialise()

    def initialise(self) -> None:
        """The official initialisation: every block starts as the identity, the output as zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, parameter in self.t_embedder.named_parameters():
            if name.endswith("weight"):
                nn.init.normal_(parameter, std=0.02)
        modulations = [block.adaLN_modulation for block in self.blocks]
        for module in (self.cap_embedder[1], self.final_layer, *modulations):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
        nn.init.normal_(self.eol_token, std=0.02)
        nn.init.normal_(self.pad_token, std=0.02)

    @property
    def blocks(self) -> list[Block]:
        """The layers, by their type."""
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def condition(self, t: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """What adaLN sees, (B, min(D, 1024)), from times (B,) and text (B, T, Y) with mask (B, T)."""
        out: Tensor = self.t_embedder(t) + self.pool(text, text_mask)
        return out

    def pool(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """Masked mean of the text features, embedded."""
        weights = text_mask.to(text.dtype)[..., None]
        out: Tensor = self.cap_embedder((text * weights).sum(1) / weights.sum(1))
        return out

    def patchify(self, image: Tensor) -> Tensor:
        """Tokens (N, B, D) of images (B, C, H, W): rows of patches, each closed by the [nextline] token."""
        p = self.config.patch_size
        b, c, height, width = image.shape
        if height % p or width % p:
            raise ValueError(f"image of {width}x{height} does not tile into {p}x{p} patches")
        patches = image.view(b, c, height // p, p, width // p, p).permute(2, 4, 0, 1, 3, 5)
        x = self.x_embedder(patches.flatten(3))  # (h, w, B, D) from patch vectors (C, ph, pw)
        eol = self.eol_token.to(x.dtype).expand(x.shape[0], 1, b, -1)
        return torch.cat([x, eol], dim=1).flatten(0, 1)

    def unpatchify(self, x: Tensor, height: int, width: int) -> Tensor:
        """Images (B, C, H, W) of the final layer's tokens (N, B, p*p*C_out), without [nextline]."""
        p, c = self.config.patch_size, self.config
        h, w = height // p, width // p
        x = x.view(h, w + 1, -1, p, p, c.out_channels)[:, :-1, ..., : c.in_channels]
        return x.permute(2, 5, 0, 3, 1, 4).reshape(-1, c.in_channels, height, width)

    def forward(
        self,
        image: Tensor | Sequence[Tensor],
        t: Tensor,
        text: Tensor,
        text_mask: Tensor,
        *,
        ntk_factor: float = 1.0,
        rope_scaling: float = 1.0,
        base_tokens: int | None = None,
    ) -> Tensor | list[Tensor]:
        """Velocity of images (B, C, H, W), or of a list of images (C, H, W) of different sizes.

        t: (B,) in [0, 1]; text: (B, T, Y) features; text_mask: (B, T) bool, True where there is text.
        base_tokens: training length of proportional attention, which scales the softmax by sqrt(log_base N).
        """
        images = list(image) if not isinstance(image, Tensor) else [image]
        if isinstance(image, Tensor):
            x, bias = self.patchify(image), None
        else:
            x, bias = self._pad([self.patchify(item[None]) for item in images])
        scale = self._attention_scale(x.shape[0], base_tokens)
        theta = self.config.rope_theta * ntk_factor
        positions = torch.arange(x.shape[0], device=x.device)
        rope = rope_table(positions, self.config.head_dim, theta, rope_scaling)
        x = self._run(x, self.condition(t, text, text_mask), rope, text, text_mask, scale, bias)
        if isinstance(image, Tensor):
            return self.unpatchify(x, *image.shape[-2:])
        return [self._cut(x[:, i : i + 1], item) for i, item in enumerate(images)]

    def _run(
        self,
        x: Tensor,
        c: Tensor,
        rope: Rope,
        text: Tensor,
        text_mask: Tensor,
        scale: float,
        bias: Tensor | None,
    ) -> Tensor:
        """The blocks and the final layer: x (N, B, D) -> (N, B, p*p*C_out)."""
        text_bias = text_mask_bias(text_mask, x.dtype)
        for layer in self.blocks:
            modulation = layer.adaLN_modulation(c).unflatten(-1, (6, -1))
            x, _ = layer(x, modulation, rope, layer.text_kv(text), scale, text_bias, bias)
        final = self.final_layer
        x = final.normalise(x, final.adaLN_modulation(c).unflatten(-1, (2, -1)))
        out: Tensor = final.linear(x)
        return out

    def _attention_scale(self, tokens: int, base_tokens: int | None) -> float:
        growth = 1.0 if base_tokens is None else math.log(tokens) / math.log(base_tokens)
        return math.sqrt(growth / self.config.head_dim)

    def _pad(self, sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Stack sequences (N_i, 1, D) to (N, B, D) with pad_token; bias (B, 1, 1, N) hides the padding."""
        longest = max(len(s) for s in sequences)
        x = self.pad_token.expand(longest, len(sequences), -1).clone().to(sequences[0].dtype)
        bias = x.new_full((len(sequences), 1, 1, longest), MASKED)
        for i, sequence in enumerate(sequences):
            x[: len(sequence), i] = sequence[:, 0]
            bias[i, ..., : len(sequence)] = 0
        return x, bias

    def _cut(self, x: Tensor, image: Tensor) -> Tensor:
        """The image (C, H, W) that the first tokens of x (N, 1, P) make."""
        height, width = image.shape[-2:]
        p = self.config.patch_size
        return self.unpatchify(x[: (height // p) * (width // p + 1)], height, width)[0]


def text_mask_bias(text_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive bias (B, 1, 1, T) of a text mask (B, T): 0 where there is text."""
    return (~text_mask).to(dtype)[:, None, None] * MASKED
