"""Layouts of Next-DiT: the official names, which are the model's own, and diffusers'."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial

from torch import nn

from flagdit.export.families.family import Config, Facts, Scalars, blocks_of, shapes_of, without_numbers
from flagdit.export.families.next_dit.config import NextDiTConfig
from flagdit.export.families.next_dit.graphs import sources
from flagdit.export.families.next_dit.model import NextDiT
from flagdit.export.graph_source import GraphSource
from flagdit.export.parts.layers import MASKED
from flagdit.export.parts.names import Rules, first, number, patch, renamed, said_class, shape_of
from flagdit.export.parts.text.encoder import Encoder
from flagdit.export.tensors import Shapes
from flagdit.export.weights import Take

FIRST = "layers.0.attention."


@dataclass(frozen=True)
class OpenedNext:
    """A Next-DiT without numbers."""

    shape: NextDiTConfig
    module: nn.Module = field(compare=False)
    family: str = "next-dit"

    def config(self) -> Scalars:
        return dataclasses.asdict(self.shape)

    def facts(self) -> Facts:
        c = self.shape
        heads = {"heads": c.n_heads, "kv_heads": c.n_kv_heads, "head": c.head_dim}
        return Facts(
            patch=c.patch_size,
            channels=c.in_channels,
            sizes={"width": c.dim, "hidden": c.ffn_dim, **heads},
            price=c.price(),
            encoders=(Encoder("text", c.cap_feat_dim, layer=-2),),
            guided=(0, 1, 2),  # Lumina guides the first three channels only
            pads={"text_bias": MASKED},
            phases=(0.0, 0.3),  # Lumina-Next's watershed
            ntk_power=0.5,  # and its factor: of a side, not of the area
        )

    def without(self, encoders: Collection[str]) -> OpenedNext:
        return self

    def normed_apart(self, ranks: int) -> OpenedNext:
        shape = dataclasses.replace(self.shape, qk_norm_groups=ranks)
        return OpenedNext(shape, without_numbers(NextDiT, shape))

    def graphs(self, size: tuple[int, int]) -> dict[str, GraphSource]:
        assert isinstance(self.module, NextDiT)
        return sources(self.module, size)


@dataclass(frozen=True)
class NextLayout:
    """rules: from our names to these. mark: a tensor that only this layout has. twins: of diffusers, which holds the
    queries of both attentions, though they are one.
    """

    title: str
    mark: str
    rules: Rules = ()
    twins: Rules = ()

    def recognises(self, names: Collection[str]) -> bool:
        return self.mark in names

    def ignores(self, name: str) -> bool:
        return name == "pad_token"

    def open(self, shapes: Shapes, said: Config | None, patch_size: int | None) -> tuple[OpenedNext, dict[str, Take]]:
        if said is not None:
            said_class(said, "LuminaNextDiT2DModel")
        shape = self._config(shapes, said, patch_size)
        opened = OpenedNext(shape, without_numbers(NextDiT, shape))
        return opened, {name: self._take(name) for name in shapes_of(opened.module)}

    def _take(self, name: str) -> Take:
        theirs = renamed(name, self.rules)
        twin = renamed(theirs, self.twins)
        return Take(theirs, twins=() if twin == theirs else (twin,))

    def _config(self, shapes: Shapes, said: Config | None, patch_size: int | None) -> NextDiTConfig:
        shape = partial(shape_of, shapes, rules=self.rules)
        dim, values = shape("x_embedder.weight", 2)
        (heads,), kv = shape(FIRST + "gate", 1), shape(FIRST + "wk.weight", 2)[0]
        out, size = shape("final_layer.linear.weight", 2)[0], patch(said, patch_size, values)
        if out not in (values, 2 * values):
            raise ValueError(f"the last layer makes {out} values of a patch of {values}; allowed are one and two times")
        return NextDiTConfig(
            dim=dim,
            n_layers=blocks_of(shapes, "layers"),
            n_heads=heads,
            n_kv_heads=kv * heads // dim,
            ffn_dim=shape("layers.0.feed_forward.w1.weight", 2)[0],
            cap_feat_dim=shape(FIRST + "wk_y.weight", 2)[1],
            patch_size=size,
            in_channels=values // size**2,
            learn_sigma=out == 2 * values,
            qk_norm=renamed(FIRST + "q_norm.weight", self.rules) in shapes,
            qk_norm_groups=int(number(first(said, ("qk_norm_groups",), 1), "qk_norm_groups")),
            norm_eps=number(first(said, ("norm_eps",), 1e-5), "norm_eps"),
            rope_theta=number(first(said, ("rope_theta",), 1e4), "rope_theta"),
        )


OFFICIAL = NextLayout("official", "layers.0.attention.wk_y.weight")

DIFFUSERS = NextLayout(
    "diffusers",
    "patch_embedder.proj.weight",
    rules=(
        (r"^x_embedder\.", "patch_embedder.proj."),
        (r"^t_embedder\.mlp\.0\.", "time_caption_embed.timestep_embedder.linear_1."),
        (r"^t_embedder\.mlp\.2\.", "time_caption_embed.timestep_embedder.linear_2."),
        (r"^cap_embedder\.", "time_caption_embed.caption_embedder."),
        (r"\.attention\.gate$", ".gate"),
        (r"\.attention\.w([kv])_y\.", r".attn2.to_\1."),
        (r"\.attention\.w([qkv])\.", r".attn1.to_\1."),
        (r"\.attention\.wo\.", ".attn2.to_out.0."),
        (r"\.attention\.ky_norm\.", ".attn2.norm_k."),
        (r"\.attention\.([qk])_norm\.", r".attn1.norm_\1."),
        (r"\.feed_forward\.w", ".feed_forward.linear_"),
        (r"\.attention_norm1\.", ".norm1.norm."),
        (r"\.attention_norm2\.", ".norm2."),
        (r"\.attention_y_norm\.", ".norm1_context."),
        (r"^final_layer\.adaLN_modulation\.1\.", "norm_out.linear_1."),
        (r"^final_layer\.linear\.", "norm_out.linear_2."),
        (r"\.adaLN_modulation\.1\.", ".norm1.linear."),
    ),
    twins=((r"\.attn1\.(to_q|norm_q)\.", r".attn2.\1."),),
)
