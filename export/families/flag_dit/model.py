"""Flag-DiT, the flow-based diffusion transformer of Lumina-T2X (Gao et al. 2024, arXiv 2405.05945).

Module and parameter names are those of the official `lumina_t2i` code: a released checkpoint loads strictly.
Letters: B batch, N tokens, T text tokens, D width, Y text width, p patch size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flagdit.export.families.flag_dit.block import Block, FinalLayer
from flagdit.export.families.flag_dit.config import FlagDiTConfig
from flagdit.export.parts.layers import MASKED, Rope, TimestepEmbedder, masked_mean, rope_table, text_mask_bias


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
        out: Tensor = self.cap_embedder(masked_mean(text, text_mask))
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
        rope = rope_table(positions, self.config.head_dim, theta, scaling=rope_scaling)
        x = self.run(x, self.condition(t, text, text_mask), rope, text, text_mask, scale, bias)
        if isinstance(image, Tensor):
            return self.unpatchify(x, *image.shape[-2:])
        return [self._cut(x[:, i : i + 1], item) for i, item in enumerate(images)]

    def run(
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
