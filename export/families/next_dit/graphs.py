"""The graphs of a Next-DiT. Letters as in families.flag_dit.graphs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flagdit.export.families.flag_dit.graphs import kv_names, pairs
from flagdit.export.families.next_dit.config import NextDiTConfig
from flagdit.export.families.next_dit.model import NextDiT
from flagdit.export.graph_source import GraphSource, Port
from flagdit.export.parts.layers import text_mask_bias
from flagdit.export.parts.patches import attention_scale, to_patches
from flagdit.export.parts.rope import alternating_rope


class Condition(nn.Module):
    """The text's keys and values, and all steps' modulations."""

    def __init__(self, model: NextDiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, t: Tensor, text: Tensor, text_mask: Tensor) -> tuple[Tensor, ...]:
        """t (S,), text (R, T, Y), text_mask (R, T) -> modulation (S, R, L, 4, D), final_modulation (S, R, D), text_bias
        (R, 1, 1, T), then keys and values (R, G, T, d) by layer.
        """
        model = self.model
        c = model.t_embedder(t)[:, None] + model.pool(text, text_mask)  # (S, R, min(D, 1024))
        modulation = torch.stack([torch.unflatten(m.adaLN_modulation(c), -1, (4, -1)) for m in model.blocks], 2)
        kv = [tensor for layer in model.blocks for tensor in layer.text_kv(text)]
        return modulation, model.final_layer.adaLN_modulation(c), text_mask_bias(text_mask, text.dtype), *kv


class Place(nn.Module):
    """Angles by line and column, and the softmax scale. Holds no weights."""

    def __init__(self, config: NextDiTConfig, base_tokens: int) -> None:
        """base_tokens: those of a picture of the training size, the base of proportional attention."""
        super().__init__()
        self.config, self.base_tokens = config, base_tokens

    def forward(self, place: Tensor, ntk: Tensor, proportional: Tensor, phase: Tensor) -> tuple[Tensor, ...]:
        """rope_cos, rope_sin (N, d/2) and attention_scale (1,) of places (N, 4): index, frame, line, column.

        ntk (1,): what positions are divided by in phase 0, and theta is multiplied by in phase 1 (Lumina-Next, section
        2.3: large structures first). proportional (1,): whether the softmax scale is sqrt(log_base(N) / d). phase (1,).
        """
        c, factor, first = self.config, ntk.double(), phase == 0
        theta, linear = torch.where(first, 1.0, factor), torch.where(first, factor, 1.0)
        lines, columns = place[:, 2].double() / linear, place[:, 3].double() / linear
        cos, sin = alternating_rope(lines, columns, c.head_dim, c.rope_theta * theta)
        return cos, sin, attention_scale(place, proportional, self.base_tokens, c.head_dim)


class Denoise(nn.Module):
    """One step on the active tokens, which attend to themselves, to the cached tokens and to the text."""

    def __init__(self, model: NextDiT) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: Tensor,
        rope_cos: Tensor,
        rope_sin: Tensor,
        attention_scale: Tensor,
        modulation: Tensor,
        final_modulation: Tensor,
        text_bias: Tensor,
        text_kv: list[Tensor],
        tail: list[Tensor],
    ) -> tuple[Tensor, ...]:
        """Velocity (A, R, P) and, by layer, the keys and values (A, R, G, d) of the active tokens."""
        model, x = self.model, self.model.x_embedder(tokens)
        out: list[Tensor] = []
        layers = zip(model.blocks, pairs(text_kv), pairs(tail), modulation.unbind(1), strict=True)
        for layer, text, cached, scales in layers:
            x, head = layer(x, scales, (rope_cos, rope_sin), text, attention_scale, text_bias, cached)
            out += head
        return self._velocity(model.final_layer.norm_final(x) * (1 + final_modulation)), *out

    def _velocity(self, x: Tensor) -> Tensor:
        """(A, R, P) in the order of the input patches, without the channels that nobody reads."""
        c = self.model.config
        return to_patches(x, self.model.final_layer.linear, c.patch_size, c.out_channels, c.in_channels)


def sources(model: NextDiT, size: tuple[int, int]) -> dict[str, GraphSource]:
    """The three graphs; size (width, height) is that of the training, in latents."""
    c = model.config
    kv, text = (c.kv_heads, c.head_dim), ("R", "T", c.cap_feat_dim)
    condition = Port("t", ("S",)), Port("text", text), Port("text_mask", ("R", "T"), torch.bool)
    place = (
        *(Port("place", ("N", 4), torch.int64), Port("ntk", (1,)), Port("proportional", (1,), torch.bool)),
        Port("phase", (1,), torch.int64),
    )
    denoise: tuple[Port | tuple[Port, ...], ...] = (
        Port("tokens", ("A", "R", c.patch_size**2 * c.in_channels)),
        *(Port(name, ("A", "R", c.head_dim // 2)) for name in ("rope_cos", "rope_sin")),
        Port("attention_scale", (1,)),
        Port("modulation", ("R", c.n_layers, 4, c.dim)),
        Port("final_modulation", ("R", c.dim)),
        Port("text_bias", ("R", 1, 1, "T")),
        tuple(Port(name, ("R", kv[0], "T", kv[1])) for name in kv_names("text", c.n_layers)),
        tuple(Port(name, ("M", "R", *kv)) for name in kv_names("tail", c.n_layers)),
    )
    made = "modulation", "final_modulation", "text_bias", *kv_names("text", c.n_layers)
    tokens = math.prod(side // c.patch_size for side in size)
    return {
        "condition": GraphSource(Condition(model), condition, made),
        "place": GraphSource(Place(c, tokens), place, ("rope_cos", "rope_sin", "attention_scale")),
        "denoise": GraphSource(Denoise(model), denoise, ("velocity", *kv_names("head", c.n_layers))),
    }
