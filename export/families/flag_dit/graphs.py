"""The graphs of a Flag-DiT: `condition`, once per prompt, `place`, once per size, and `denoise`, once per step.

Letters: A active tokens (the head), M cached tokens (the tail), N all of them, R rows (samples x guidance branches),
S steps, T text tokens, P values of a patch, K kinds of special token, L layers, D width, G kv heads, d head size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flagdit.export.families.flag_dit.config import FlagDiTConfig
from flagdit.export.families.flag_dit.model import FlagDiT
from flagdit.export.graph_source import GraphSource, Port
from flagdit.export.parts.layers import rope_table, text_mask_bias
from flagdit.export.parts.patches import attention_scale, to_patches

KV = Sequence[Tensor]
"""By layer, keys and then values: of the text (R, G, T, d), of tokens (M, R, G, d)."""


class Condition(nn.Module):
    """Everything that does not depend on the image: the text's keys and values, all steps' modulations."""

    def __init__(self, model: FlagDiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, t: Tensor, text: Tensor, text_mask: Tensor) -> tuple[Tensor, ...]:
        """t (S,), text (R, T, Y), text_mask (R, T) -> modulations, text bias, then keys and values by layer.

        modulation (S, R, L, 6, D), final_modulation (S, R, 2, D), text_bias (R, 1, 1, T).
        """
        model = self.model
        c = model.t_embedder(t)[:, None] + model.pool(text, text_mask)  # (S, R, min(D, 1024))
        modulation = torch.stack([m.adaLN_modulation(c).unflatten(-1, (6, -1)) for m in model.blocks], 2)
        final = model.final_layer.adaLN_modulation(c).unflatten(-1, (2, -1))
        kv = [tensor for layer in model.blocks for tensor in layer.text_kv(text)]
        return modulation, final, text_mask_bias(text_mask, text.dtype), *kv


class Place(nn.Module):
    """What `denoise` takes of the place of every token, and of how many there are. Holds no weights.

    All is made in double and rounded once, so that no library of mathematics decides a bit.
    """

    def __init__(self, config: FlagDiTConfig, base_tokens: int) -> None:
        """base_tokens: those of a picture of the training size, the base of proportional attention.

        The official demo counts every [nextline] twice there: 4224 for 1024 pixels, whose sequence has 4160. So its
        softmax scale is .9991 of the plain one at the training size, where this base changes nothing.
        """
        super().__init__()
        self.config, self.base_tokens = config, base_tokens

    def forward(self, place: Tensor, ntk: Tensor, proportional: Tensor) -> tuple[Tensor, ...]:
        """cos and sin (N, d/2), special (N, 1), attention_scale (1,) of places (N, 4): index, frame, line, column.

        ntk (1,): factor on theta (NTK-aware scaling, Lumina's demo). proportional (1,): whether the softmax scale is
        sqrt(log_base(N) / d) for sqrt(1 / d) (Lumina-T2X). A [nextline] has no column: -1.
        """
        c = self.config
        cos, sin = rope_table(place[:, 0], c.head_dim, c.rope_theta * ntk.double())
        scale = attention_scale(place, proportional, self.base_tokens, c.head_dim)
        return cos[:, 0], sin[:, 0], (place[:, 3:] < 0).float(), scale


class Denoise(nn.Module):
    """One step on the active tokens, which attend to themselves, to the cached tokens and to the text.

    The tokens come in slot order, active ones first, so nothing is gathered or scattered: the caches are the
    tail of the keys and values, and what the active tokens add to them is returned. M = 0 is a dense step.
    """

    def __init__(self, model: FlagDiT) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: Tensor,
        special: Tensor,
        rope_cos: Tensor,
        rope_sin: Tensor,
        attention_scale: Tensor,
        modulation: Tensor,
        final_modulation: Tensor,
        text_bias: Tensor,
        text_kv: KV,
        tail: KV,
    ) -> tuple[Tensor, ...]:
        """Velocity (A, R, P) and, by layer, the keys and values (A, R, G, d) of the active tokens.

        tokens (A, R, P): patch vectors (channel, ph, pw), zeros for special tokens; special (A, K): one-hot,
        which special token it is; rope_cos, rope_sin (A, R, d/2); attention_scale (1,); modulation
        (R, L, 6, D); final_modulation (R, 2, D); text_bias (R, 1, 1, T); tail: (M, R, G, d) by layer.
        """
        model = self.model
        x = self.embed(tokens, special)
        out: list[Tensor] = []
        layers = zip(model.blocks, pairs(text_kv), pairs(tail), modulation.unbind(1), strict=True)
        for layer, text, cached, mod in layers:
            rope = (rope_cos, rope_sin)
            x, head = layer(x, mod, rope, text, attention_scale, text_bias, tail=cached)
            out += head
        x = model.final_layer.normalise(x, final_modulation)
        return self.velocity(x), *out

    def embed(self, tokens: Tensor, special: Tensor) -> Tensor:
        """(A, R, D); a special token replaces the embedding of its (zero) patch."""
        embedder = self.model.x_embedder
        replacement = self.model.eol_token - embedder.bias  # K = 1: [nextline]
        out: Tensor = embedder(tokens) + (special @ replacement[None])[:, None]
        return out

    def velocity(self, x: Tensor) -> Tensor:
        """(A, R, P) in the order of the input patches: the model's own is (ph, pw, channel), with unused ones."""
        c = self.model.config
        return to_patches(x, self.model.final_layer.linear, c.patch_size, c.out_channels, c.in_channels)


def pairs(kv: KV) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of each layer."""
    return list(zip(kv[::2], kv[1::2], strict=True))


def kv_names(kind: str, layers: int) -> list[str]:
    """Tensor names of one kind of keys and values, in the order the graphs list them."""
    where = {"text": ("text_key", "text_value"), "tail": ("key_tail", "value_tail")}
    names = where.get(kind, (f"key_{kind}", f"value_{kind}"))
    return [f"{name}.{layer}" for layer in range(layers) for name in names]


PLACE_OUTPUTS = ("rope_cos", "rope_sin", "special", "attention_scale")


def sources(model: FlagDiT, size: tuple[int, int]) -> dict[str, GraphSource]:
    """The three graphs; size (width, height) is that of the training, in latents."""
    c = model.config
    names = ["modulation", "final_modulation", "text_bias", *kv_names("text", c.n_layers)]
    inputs = Port("t", ("S",)), Port("text", ("R", "T", c.cap_feat_dim)), Port("text_mask", ("R", "T"), torch.bool)
    place = Port("place", ("N", 4), torch.int64), Port("ntk", (1,)), Port("proportional", (1,), torch.bool)
    return {
        "condition": GraphSource(Condition(model), inputs, tuple(names)),
        "place": GraphSource(Place(c, c.tokens(size)), place, PLACE_OUTPUTS),
        "denoise": denoise_source(model),
    }


def denoise_source(model: FlagDiT) -> GraphSource:
    """The graph that runs once per step."""
    c = model.config
    kv = c.kv_heads, c.head_dim
    inputs: tuple[Port | tuple[Port, ...], ...] = (
        Port("tokens", ("A", "R", c.patch_size**2 * c.in_channels)),
        Port("special", ("A", 1)),
        *(Port(name, ("A", "R", c.head_dim // 2)) for name in ("rope_cos", "rope_sin")),
        Port("attention_scale", (1,)),
        Port("modulation", ("R", c.n_layers, 6, c.dim)),
        Port("final_modulation", ("R", 2, c.dim)),
        Port("text_bias", ("R", 1, 1, "T")),
        tuple(Port(name, ("R", kv[0], "T", kv[1])) for name in kv_names("text", c.n_layers)),
        tuple(Port(name, ("M", "R", *kv)) for name in kv_names("tail", c.n_layers)),
    )
    return GraphSource(Denoise(model), inputs, ("velocity", *kv_names("head", c.n_layers)))
