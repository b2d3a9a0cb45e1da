"""The graphs of a model of classes. Letters as in families.flag_dit.graphs; text is what a class is embedded as."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flagdit.export.families.class_dit.config import ClassDiTConfig
from flagdit.export.families.class_dit.model import ClassDiT
from flagdit.export.families.flag_dit.graphs import kv_names, pairs
from flagdit.export.graph_source import GraphSource, Port
from flagdit.export.parts.layers import rope_table
from flagdit.export.parts.patches import attention_scale, to_patches
from flagdit.export.parts.rope import alternating_rope


class Condition(nn.Module):
    """All steps' modulations."""

    def __init__(self, model: ClassDiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, t: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """t (S,), text (R, min(D, 1024)) -> modulation (S, R, L, 6, D), in Next-DiT 4 for 6; and
        final_modulation (S, R, 2, D).
        """
        model = self.model
        c = model.t_embedder(t)[:, None] + text
        chunks = model.config.chunks
        modulation = torch.stack([torch.unflatten(m.adaLN_modulation(c), -1, (chunks, -1)) for m in model.blocks], 2)
        return modulation, torch.unflatten(model.final_layer.adaLN_modulation(c), -1, (2, -1))


class Place(nn.Module):
    """Angles by index, of Next-DiT by line and column; and the softmax scale. Holds no weights."""

    def __init__(self, config: ClassDiTConfig, base_tokens: int) -> None:
        """base_tokens: those of a picture of the training size, the base of proportional attention."""
        super().__init__()
        self.config, self.base_tokens = config, base_tokens

    def forward(self, place: Tensor, ntk: Tensor, proportional: Tensor) -> tuple[Tensor, ...]:
        """rope_cos, rope_sin (N, d/2), attention_scale (1,) of places (N, 4): index, frame, line, column."""
        c = self.config
        theta = c.rope_theta * ntk.double()
        if c.sandwich:
            cos, sin = alternating_rope(place[:, 2], place[:, 3], c.head_dim, theta)
        else:
            cos, sin = (angle[:, 0] for angle in rope_table(place[:, 0], c.head_dim, theta))
        return cos, sin, attention_scale(place, proportional, self.base_tokens, c.head_dim)


class Denoise(nn.Module):
    """One step on the active tokens, which attend to themselves and to the cached tokens."""

    def __init__(self, model: ClassDiT) -> None:
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
        tail: list[Tensor],
    ) -> tuple[Tensor, ...]:
        """Velocity (A, R, P) and, by layer, the keys and values (A, R, G, d) of the active tokens."""
        model, x = self.model, self.model.x_embedder(tokens)
        out: list[Tensor] = []
        for layer, cached, parts in zip(model.blocks, pairs(tail), modulation.unbind(1), strict=True):
            x, head = layer(x, parts, (rope_cos, rope_sin), attention_scale, cached)
            out += head
        shift, scale = final_modulation.unbind(1)
        return self._velocity(model.final_layer.norm_final(x) * (1 + scale) + shift), *out

    def _velocity(self, x: Tensor) -> Tensor:
        """(A, R, P) in the order of the input patches, without the channels that nobody reads."""
        c = self.model.config
        return to_patches(x, self.model.final_layer.linear, c.patch_size, c.out_channels, c.in_channels)


def sources(model: ClassDiT, size: tuple[int, int]) -> dict[str, GraphSource]:
    """The three graphs; size (width, height) is that of the training, in latents."""
    c = model.config
    kv = c.kv_heads, c.head_dim
    place = Port("place", ("N", 4), torch.int64), Port("ntk", (1,)), Port("proportional", (1,), torch.bool)
    denoise: tuple[Port | tuple[Port, ...], ...] = (
        Port("tokens", ("A", "R", c.patch_size**2 * c.in_channels)),
        *(Port(name, ("A", "R", c.head_dim // 2)) for name in ("rope_cos", "rope_sin")),
        Port("attention_scale", (1,)),
        Port("modulation", ("R", c.n_layers, c.chunks, c.dim)),
        Port("final_modulation", ("R", 2, c.dim)),
        tuple(Port(name, ("M", "R", *kv)) for name in kv_names("tail", c.n_layers)),
    )
    tokens = math.prod(side // c.patch_size for side in size)
    inputs = Port("t", ("S",)), Port("text", ("R", c.condition_dim))
    return {
        "condition": GraphSource(Condition(model), inputs, ("modulation", "final_modulation")),
        "place": GraphSource(Place(c, tokens), place, ("rope_cos", "rope_sin", "attention_scale")),
        "denoise": GraphSource(Denoise(model), denoise, ("velocity", *kv_names("head", c.n_layers))),
    }
