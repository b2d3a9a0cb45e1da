"""The graphs of an MMDiT.

Text tokens are no slots: a step computes all of them, or none. What attends to them then finds their keys and values
behind those of the cached image tokens. A layer with two attentions has two caches, the second of image tokens alone.
Letters: A active tokens, M cached, N all, R rows, S steps, T text tokens, P values of a patch, K modulations,
D width, H heads, d head size.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flagdit.export.families.mmdit.config import MMDiTConfig
from flagdit.export.families.mmdit.encoders import Encoders
from flagdit.export.families.mmdit.model import QKV, MMDiT, MMDiTFinal, Stream, normalised
from flagdit.export.families.mmdit.one_encoder import OneEncoder
from flagdit.export.graph_source import GraphSource, Port
from flagdit.export.onnx_graph import MAY_REST
from flagdit.export.parts.layers import attend


class Condition(nn.Module):
    """The start of the text's stream, and all steps' modulations packed."""

    def __init__(self, model: MMDiT, encoders: Encoders | OneEncoder) -> None:
        super().__init__()
        self.model, self.encoders = model, encoders

    def forward(self, t: Tensor, features: list[Tensor], layers: Tensor) -> tuple[Tensor, Tensor]:
        """t (S,), features of the encoders, layers (L,) -> modulation (S, R, K, D), text_start (R, T, D).

        layers: 1, or 0 of those that are skipped, whose gates are closed. The model's own time is 1000 at noise; it is
        made in double, for t is near 1 where 1 - t is small.
        """
        model = self.model
        text, pooled = self.encoders.join(features, model.config.joint_dim)
        time = (1000 * (1 - t.double())).float()
        c = model.t_embedder(time)[:, None] + model.y_embedder(pooled)  # (S, R, D)
        made = []
        for block, opened in zip(model.blocks, layers.unbind(), strict=True):
            made += [gated(self._made(stream, c), opened) for stream in (block.x_block, block.context_block)]
        made.append(self._made(model.final_layer, c))
        return torch.cat(made, 2), model.context_embedder(text)

    def _made(self, of: Stream | MMDiTFinal, c: Tensor) -> Tensor:
        """Its modulations (S, R, n, D)."""
        return torch.unflatten(of.adaLN_modulation(c), -1, (-1, self.model.config.dim))


class Place(nn.Module):
    """Entries of the tables of positions: the middle of them for every size. Holds no weights."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.table = config.table

    def forward(self, place: Tensor, extent: Tensor) -> Tensor:
        """position (N, 2) int64, line and column, of places (N, 4): index, frame, line, column."""
        return place[:, 2:] + torch.div(self.table - extent[1:], 2, rounding_mode="floor")


class Denoise(nn.Module):
    """One step on the active tokens and the text, which attend to each other and to the cached tokens.

    T is 0 in a step whose text rests: then M counts the text's cached keys and values, too.
    """

    def __init__(self, model: MMDiT) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: Tensor, position: Tensor, modulation: Tensor, text_start: Tensor, tail: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Velocity (A, R, P), by layer the keys and values (A, R, H, d) of the active tokens, and those of the text.

        position (A, R, 2), modulation (R, K, D), text_start (R, T, D); tail: (M, R, H, d) keys and values by layer, of
        its second attention after those of its first.
        """
        model, caches = self.model, iter(zip(tail[::2], tail[1::2], strict=True))
        x, text = self._embed(tokens, position), text_start.transpose(0, 1)
        scales = self._scales(modulation)
        heads: list[Tensor] = []
        texts: list[Tensor] = []
        for layer, block in enumerate(model.blocks):
            image, words, of_image, of_words = block.x_block, block.context_block, *scales[2 * layer : 2 * layer + 2]
            own = image.attention.qkv(normalised(x, *of_image[:2]))
            other = words.attention.qkv(normalised(text, *of_words[:2]))
            mixed = mix(own, next(caches), other)
            heads += own[1:]
            texts += other[1:]
            second = None
            if len(of_image) == 9:
                alone = image.attention2.qkv(normalised(x, *of_image[6:8]))
                second = mix(alone, next(caches))
                heads += alone[1:]
            x = image.finish(x, mixed[: x.shape[0]], of_image, second)
            if layer < len(model.blocks) - 1:
                text = words.finish(text, mixed[tokens.shape[0] :], of_words)
        return self._velocity(normalised(x, *scales[-1])), *heads, *texts

    def _scales(self, modulation: Tensor) -> list[tuple[Tensor, ...]]:
        """Vectors (R, D) by layer, of image and text in turn, and two of the end, of modulation (R, K, D)."""
        chunks = [count for pair in self.model.config.chunks() for count in pair] + [2]
        parts = [part.unbind(1) for part in cuts(modulation, chunks)]
        return [*parts[:-1], parts[-1][1:]]

    def _embed(self, tokens: Tensor, position: Tensor) -> Tensor:
        """(A, R, D): of the patch, and of its column and its line."""
        model = self.model
        line, column = position.unbind(-1)
        at = torch.cat([F.embedding(column, model.position_columns), F.embedding(line, model.position_lines)], -1)
        out: Tensor = model.x_embedder(tokens) + at
        return out

    def _velocity(self, x: Tensor) -> Tensor:
        """(A, R, P) in the order of the patches, data minus noise: the model itself says noise minus data."""
        c, linear = self.model.config, self.model.final_layer.linear
        patch = c.patch_size, c.patch_size, c.in_channels

        def reorder(parameter: Tensor) -> Tensor:
            whole = torch.unflatten(parameter, 0, patch)
            return -whole.permute(2, 0, 1, *range(3, whole.dim())).flatten(0, 2)

        return F.linear(x, reorder(linear.weight), reorder(linear.bias))


def gated(modulation: Tensor, opened: Tensor) -> Tensor:
    """(S, R, n, D) of shift, scale and gate, again and again, with the gates times `opened` (): 0 closes them.

    What a layer makes is then added nowhere, so it is skipped. Text of the last layer has two and no gate.
    """
    if modulation.shape[2] == 2:
        return modulation
    threes = torch.unflatten(modulation, 2, (-1, 3))
    return torch.cat([threes[:, :, :, :2], threes[:, :, :, 2:] * opened], 3).flatten(2, 3)


def cuts(modulation: Tensor, chunks: list[int]) -> list[Tensor]:
    """(R, n, D) of modulation (R, K, D) for each of `chunks`, of which the last has one vector before its own.

    ONNX Runtime makes one Split of cuts that are all there is of a tensor. On a GPU, unequal parts have their sizes
    copied there in every call, from memory that a captured graph would find used again; so these overlap.
    """
    ends = list(accumulate(chunks))
    starts = [0, *ends[:-2], ends[-2] - 1]
    return [modulation[:, start:end] for start, end in zip(starts, ends, strict=True)]


def mix(own: QKV, tail: tuple[Tensor, Tensor], text: QKV | None = None) -> Tensor:
    """Attention (A [+ T], R, D) of image tokens, and of text behind them, to themselves and to cached tokens."""
    parts = [own] if text is None else [own, text]
    q = torch.cat([part[0] for part in parts]) if text is not None else own[0]
    k, v = (torch.cat([part[i] for part in parts] + [tail[i - 1]]).permute(1, 2, 0, 3) for i in (1, 2))
    return attend(q, k, v, scale=q.shape[-1] ** -0.5)


def cache_names(c: MMDiTConfig, kind: str) -> list[str]:
    """Keys and values by layer, of the second attention behind those of the first, which alone is to the text."""
    groups = [(layer, at) for layer in range(c.n_layers) for at in ("", "2")[: 2 if layer < c.dual else 1]]
    return [
        f"{what}{at}_{kind}.{layer}" for layer, at in groups for what in ("key", "value") if kind != "text" or not at
    ]


def tails(c: MMDiTConfig) -> tuple[Port, ...]:
    """The caches (M, R, H, d): a text that rests is behind the tokens of those that attend to it, and of no others."""
    return tuple(
        Port(name, ("M_own" if name.split("_")[0].endswith("2") else "M", "R", c.n_heads, c.head_dim))
        for name in cache_names(c, "tail")
    )


def sources(model: MMDiT, encoders: Encoders | OneEncoder) -> dict[str, GraphSource]:
    """The three graphs."""
    c = model.config
    count = sum(map(sum, c.chunks())) + 2
    denoise = (
        Port("tokens", ("A", "R", c.patch_values)),
        Port("position", ("A", "R", 2), torch.int64),
        Port("modulation", ("R", count, c.dim)),
        Port("text_start", ("R", MAY_REST, c.dim)),
        tails(c),
    )
    place = Port("place", ("N", 4), torch.int64), Port("extent", (3,), torch.int64)
    return {
        "condition": GraphSource(
            Condition(model, encoders),
            (Port("t", ("S",)), encoders.ports(), Port("layers", (c.n_layers,))),
            ("modulation", "text_start"),
            lengthened={"text_start": 1} if isinstance(encoders.text_axis, str) else {},
        ),
        "place": GraphSource(Place(c), place, ("position",)),
        "denoise": GraphSource(Denoise(model), denoise, ("velocity", *cache_names(c, "head"), *cache_names(c, "text"))),
    }
