"""The graphs of a model of one stream.

Text tokens are no slots: they have no latent. A step computes all of them, behind the active tokens, or none; then what
attends to them finds their keys and values behind those of the cached tokens. What is constant, two blocks on the text
alone included, `condition` makes. RoPE is relative, so the image is at (0, line, column) and the text at
(j - length, 0, 0): the image's angles are then the same for texts of all lengths.

Letters: A active tokens, M cached, N all, R rows, S steps, T text tokens, P values of a patch, D width, G kv heads,
d head size, L layers, C refiners.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flagdit.export.graph_source import GraphSource, Port
from flagdit.export.onnx_graph import MAY_REST
from flagdit.export.parts.joint.config import JointConfig
from flagdit.export.parts.joint.model import Joint
from flagdit.export.parts.layers import MASKED
from flagdit.export.parts.patches import to_patches
from flagdit.export.parts.rope import axes_rope


class JointCondition(nn.Module):
    """The text as the layers take it, and all steps' modulations."""

    def __init__(self, model: Joint) -> None:
        super().__init__()
        self.model = model

    def forward(self, t: Tensor, text: Tensor) -> tuple[Tensor, ...]:
        """t (S,), text (R, T, Y), all of it real -> modulation (S, R, C + L, 4, D), final_modulation (S, R, D),
        text_start (R, T, D), text_cos and text_sin (R, T, d/2), text_bias (R, 1, 1, T); and where images are filled
        up, pad_cos and pad_sin (R, d/2).
        """
        model, c = self.model, self.model.config
        time = model.t_embedder(t * c.time_scale)
        modulation = torch.stack([torch.unflatten(b.adaLN_modulation(time), -1, (4, -1)) for b in model.modulated], 1)
        final = model.final_layer.adaLN_modulation(time)
        ones = torch.ones_like(text[:, 0, 0])  # (R,)
        modulation, final = modulation[:, None] * ones[:, None, None, None], final[:, None] * ones[:, None]
        x = model.cap_embedder(text.transpose(0, 1))  # (T, R, D)
        if c.multiple > 1:
            x = self._fill(x)
        place = torch.arange(x.shape[0], device=text.device) - x.shape[0]
        cos, sin = axes_rope([place, place * 0, place * 0], c.axes, c.rope_theta)
        cos, sin = (angle[:, None] * ones[:, None] for angle in (cos, sin))  # (T, R, d/2)
        for block in model.context_refiner:
            x, _ = block(x, (cos, sin))
        start, cos, sin = (y.transpose(0, 1) for y in (x, cos, sin))
        out = [modulation, final, start, cos, sin, torch.zeros_like(start[:, None, None, :, 0])]
        if c.multiple > 1:  # the pads of an image are at (0, 0, 0), where it is at (T + 1, 0, 0) and the text from 1 on
            pad = (-1 - x.shape[0]) * torch.ones_like(place[:1])
            out += [angle * ones[:, None] for angle in axes_rope([pad, pad * 0, pad * 0], c.axes, c.rope_theta)]
        return tuple(out)

    def _fill(self, x: Tensor) -> Tensor:
        """Text (T, R, D) with the learned token behind it, up to a multiple of tokens."""
        many, model = self.model.config.multiple, self.model
        whole = torch.cat([x, model.cap_pad_token.expand(many - 1, x.shape[1], -1)])
        return whole[: (x.shape[0] + many - 1) // many * many]


class JointPlace(nn.Module):
    """Angles of image tokens by line and column. Holds no weights."""

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, place: Tensor, ntk: Tensor) -> tuple[Tensor, ...]:
        """rope_cos, rope_sin (N, d/2) of places (N, 4): index, frame, line, column; special (N, 1) where images are
        filled up: 1 of a token without a place. ntk (1,): factor on theta.
        """
        c = self.config
        line, column = place[:, 2].clamp(min=0), place[:, 3].clamp(min=0)
        cos, sin = axes_rope([line * 0, line, column], c.axes, c.rope_theta * ntk.double())
        return (cos, sin, (place[:, 3:] < 0).float()) if c.multiple > 1 else (cos, sin)


class JointDenoise(nn.Module):
    """One step: refiners on the active tokens, then the layers on active tokens and text together.

    text_start, text_cos and text_sin have no token in a step whose text rests; text_bias is of all its tokens always.
    """

    def __init__(self, model: Joint) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: Tensor,
        rope_cos: Tensor,
        rope_sin: Tensor,
        modulation: Tensor,
        final_modulation: Tensor,
        text_start: Tensor,
        text_cos: Tensor,
        text_sin: Tensor,
        text_bias: Tensor,
        rest: list[Tensor],
    ) -> tuple[Tensor, ...]:
        """Velocity (A, R, P) and, by block, the keys and values (A, R, G, d) of the active tokens; then by layer those
        of the text, (T, R, G, d).

        rest: keys and values (M, R, G, d) by block; and where images are filled up special (A, 1), pad_cos and pad_sin
        (R, d/2). They are one list, since torch's exporter loses all names of axes to an empty one.
        """
        model, rope = self.model, (rope_cos, rope_sin)
        end = 2 * len(model.modulated)
        tail, pads = rest[:end], rest[end:]
        x = self._embed(tokens, pads)
        if pads:  # angles of a pad are those of its row; `place` has none for it
            cos, sin = (r + pads[0][:, None] * (pad - r) for r, pad in zip(rope, pads[1:], strict=True))
            rope = cos, sin
        scales, caches = modulation.unbind(1), list(zip(tail[::2], tail[1::2], strict=True))
        first, heads, texts = len(model.noise_refiner), list[Tensor](), list[Tensor]()
        for block, scale, cached in zip(model.modulated[:first], scales[:first], caches[:first], strict=True):
            x, head = block(x, rope, scale, cached)
            heads += head
        own = tokens.shape[0]
        x = torch.cat([x, text_start.transpose(0, 1)])
        rope = torch.cat([rope[0], text_cos.transpose(0, 1)]), torch.cat([rope[1], text_sin.transpose(0, 1)])
        bias = _bias(text_bias, own, text_start.shape[1], tail[-1].shape[0])
        for block, scale, cached in zip(model.modulated[first:], scales[first:], caches[first:], strict=True):
            x, (k, v) = block(x, rope, scale, cached, bias)
            heads += [k[:own], v[:own]]
            texts += [k[own:], v[own:]]
        return self._velocity(x[:own], final_modulation), *heads, *texts

    def _embed(self, tokens: Tensor, pads: list[Tensor]) -> Tensor:
        """(A, R, D) of patches (channel, ph, pw), where the model's own are (ph, pw, channel)."""
        c, embedder = self.model.config, self.model.x_embedder
        own = torch.unflatten(embedder.weight, 1, (c.patch_size, c.patch_size, c.in_channels))
        x = nn.functional.linear(tokens, own.permute(0, 3, 1, 2).flatten(1), embedder.bias)
        if pads:
            x = x + pads[0][:, None] * (self.model.x_pad_token - embedder.bias)
        return x

    def _velocity(self, x: Tensor, scale: Tensor) -> Tensor:
        """(A, R, P) in the order of the patches, data minus noise: diffusers' pipeline negates what the model gives."""
        c, final = self.model.config, self.model.final_layer
        y = final.norm_final(x) * (1 + scale)
        return to_patches(y, final.linear, c.patch_size, c.in_channels, c.in_channels)


def _bias(text_bias: Tensor, active: int, now: int, cached: int) -> Tensor:
    """(R, 1, A + now, A + now + cached) of text_bias (R, 1, 1, T): keys lie as active tokens, text that is computed
    now, and what is cached, text that rests last.
    """
    rows, rests = text_bias.shape[0], text_bias.shape[3] - now
    before, between = (text_bias.new_zeros(rows, 1, 1, many) for many in (active, cached - rests))
    parts = [before, text_bias.narrow(-1, 0, now), between, text_bias.narrow(-1, now, rests)]
    return torch.cat(parts, -1).expand(-1, -1, active + now, -1)


def cache_names(c: JointConfig, kind: str) -> list[str]:
    """Keys and values by refiner, where there is no text, and then by layer."""
    of_refiners = [("refiner_", block) for block in range(c.n_refiners)] if kind != "text" else []
    blocks = [*of_refiners, *(("", layer) for layer in range(c.n_layers))]
    return [f"{prefix}{what}_{kind}.{number}" for prefix, number in blocks for what in ("key", "value")]


def tails(c: JointConfig) -> tuple[Port, ...]:
    """The caches (M, R, G, d): a text that rests is behind the tokens of the layers', and not of the refiners'."""
    return tuple(
        Port(name, ("M_own" if name.startswith("refiner_") else "M", "R", c.n_kv_heads, c.head_dim))
        for name in cache_names(c, "tail")
    )


def joint_sources(model: Joint) -> dict[str, GraphSource]:
    """The three graphs."""
    c = model.config
    fill = c.multiple > 1
    d, blocks = c.head_dim // 2, c.n_refiners + c.n_layers
    made = ["modulation", "final_modulation", "text_start", "text_cos", "text_sin", "text_bias"]
    pads = (Port("special", ("A", 1)), Port("pad_cos", ("R", d)), Port("pad_sin", ("R", d))) if fill else ()
    denoise: tuple[Port | tuple[Port, ...], ...] = (
        Port("tokens", ("A", "R", c.patch_values)),
        Port("rope_cos", ("A", "R", d)),
        Port("rope_sin", ("A", "R", d)),
        Port("modulation", ("R", blocks, 4, c.dim)),
        Port("final_modulation", ("R", c.dim)),
        Port("text_start", ("R", MAY_REST, c.dim)),
        Port("text_cos", ("R", MAY_REST, d)),
        Port("text_sin", ("R", MAY_REST, d)),
        Port("text_bias", ("R", 1, 1, "T")),
        (*tails(c), *pads),
    )
    return {
        "condition": GraphSource(
            JointCondition(model),
            (Port("t", ("S",)), Port("text", ("R", "T", c.cap_feat_dim))),
            (*made, *(("pad_cos", "pad_sin") if fill else ())),
            lengthened={"text_start": 1, "text_cos": 1, "text_sin": 1, "text_bias": 3} if fill else {},
        ),
        "place": GraphSource(
            JointPlace(c),
            (Port("place", ("N", 4), torch.int64), Port("ntk", (1,))),
            ("rope_cos", "rope_sin", *(("special",) if fill else ())),
        ),
        "denoise": GraphSource(
            JointDenoise(model), denoise, ("velocity", *cache_names(c, "head"), *cache_names(c, "text"))
        ),
    }


PADS = {"text_bias": MASKED}
"""What fills an output of `condition` behind a shorter text."""
