"""Layouts of MMDiT: the original names, diffusers', our own."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from flagdit.export.errors import CheckpointError
from flagdit.export.families.family import Config, Facts, Scalars, blocks_of, shapes_of, without_numbers
from flagdit.export.families.mmdit.config import MMDiTConfig
from flagdit.export.families.mmdit.encoders import Encoders
from flagdit.export.families.mmdit.graphs import sources
from flagdit.export.families.mmdit.model import MMDiT
from flagdit.export.families.mmdit.one_encoder import OneEncoder
from flagdit.export.graph_source import GraphSource
from flagdit.export.parts.names import Rules, first, renamed, said_class, shape_of
from flagdit.export.tensors import Shapes
from flagdit.export.weights import Take, frequencies

HEAD = 64
"""Size of a head of Stable Diffusion 3 and 3.5, where nothing says it."""

MEDIUM = 24, 13
"""Layers of Stable Diffusion 3.5 medium, and how many of them have two attentions."""

SKIPPED = 7, 8, 9
"""What its own programs skip in guidance; of the other releases nobody says any."""

FUSED = re.compile(r"(.*\.attention2?\.)w([qkv])\.(weight|bias)")


@dataclass(frozen=True)
class OpenedMMDiT:
    """An MMDiT without numbers."""

    shape: MMDiTConfig
    module: nn.Module = field(compare=False)
    family: str = "mmdit"
    t5: bool = True

    @property
    def encoders(self) -> Encoders | OneEncoder:
        """One, where pooled features are as wide as those of tokens: those of the releases are half of it."""
        c = self.shape
        if c.pooled_dim == c.joint_dim:
            return OneEncoder(c.joint_dim)
        return Encoders.fitting(c.pooled_dim, c.joint_dim, t5=self.t5)

    def without(self, encoders: Collection[str]) -> OpenedMMDiT:
        return dataclasses.replace(self, t5=self.t5 and "t5" not in encoders)

    def config(self) -> Scalars:
        return dataclasses.asdict(self.shape)

    def facts(self) -> Facts:
        c = self.shape
        heads = {"heads": c.n_heads, "kv_heads": c.n_heads, "head": c.head_dim}
        return Facts(
            patch=c.patch_size,
            channels=c.in_channels,
            sizes={"width": c.dim, "hidden": c.ffn_dim, **heads, "text": self.encoders.tokens},
            price=c.price(),
            encoders=self.encoders.wanted(),
            shift=3.0,
            guidance=7.0,
            skip_layers=SKIPPED if (c.n_layers, c.dual) == MEDIUM else (),
        )

    def graphs(self, size: tuple[int, int]) -> dict[str, GraphSource]:
        assert isinstance(self.module, MMDiT)
        return sources(self.module, self.encoders)


@dataclass(frozen=True)
class MMDiTLayout:
    """rules: from our names to these. swapped: tensors whose (shift, scale) are (scale, shift) here."""

    title: str
    mark: str
    also: str
    rules: Rules
    blocks: str
    fused: bool = False
    swapped: bool = False
    table: str | None = None

    def recognises(self, names: Collection[str]) -> bool:
        return self.mark in names and self.also in names

    def ignores(self, name: str) -> bool:
        return False

    def open(self, shapes: Shapes, said: Config | None, patch_size: int | None) -> tuple[OpenedMMDiT, dict[str, Take]]:
        if said is not None:
            said_class(said, "SD3Transformer2DModel")
        shape = self._config(shapes, said)
        opened = OpenedMMDiT(shape, without_numbers(MMDiT, shape))
        return opened, {name: self._take(name, shape) for name in shapes_of(opened.module)}

    def _take(self, name: str, c: MMDiTConfig) -> Take:
        if name == "t_embedder.frequencies" and self.title != "own":
            return frequencies()
        if self.table is not None and name.startswith("position_"):
            return Take(self.table, None, (1, c.table**2, c.dim), _part(name == "position_columns", c.table))
        theirs = renamed(name, self.rules)
        if name == "x_embedder.weight" and self.table is not None:
            kernel = (c.dim, c.in_channels, c.patch_size, c.patch_size)
            return Take(theirs, None, kernel, lambda weight: weight.flatten(1))
        last = f"joint_blocks.{c.n_layers - 1}.context_block.adaLN_modulation.1"
        if self.swapped and name.rpartition(".")[0] in (last, "final_layer.adaLN_modulation.1"):
            return Take(theirs, change=lambda parameter: torch.cat(parameter.chunk(2)[::-1]))
        found = FUSED.fullmatch(name)
        if found is None or not self.fused:
            return Take(theirs)
        at = "qkv".index(found[2]) * c.dim
        whole = renamed(f"{found[1]}qkv.{found[3]}", self.rules)
        return Take(whole, (at, at + c.dim), (3 * c.dim, c.dim) if found[3] == "weight" else (3 * c.dim,))

    def _config(self, shapes: Shapes, said: Config | None) -> MMDiTConfig:
        shape = partial(shape_of, shapes, rules=self.rules)
        if self.table is None:
            dim, values = shape("x_embedder.weight", 2)
            size = int(str(first(said, ("patch_size",), 2)))
            table = shape("position_lines", 2)[0]
        else:
            dim, channels, size, _ = shape("x_embedder.weight", 4)
            values = channels * size**2
            table = round(shape_of(shapes, self.table, 3)[1] ** 0.5)
        norm = shapes.get(renamed("joint_blocks.0.x_block.attention.q_norm.weight", self.rules))
        heads = first(said, ("num_attention_heads", "n_heads"), dim // (norm[0] if norm else HEAD))
        if not isinstance(heads, int):
            raise ValueError(f"the number of heads is {heads!r}")
        layers = blocks_of(shapes, self.blocks)
        second = [renamed(f"joint_blocks.{i}.x_block.attention2.q_norm.weight", self.rules) for i in range(layers)]
        return MMDiTConfig(
            dim=dim,
            n_layers=layers,
            n_heads=heads,
            ffn_dim=shape("joint_blocks.0.x_block.feed_forward.w1.weight", 2)[0],
            joint_dim=shape("context_embedder.weight", 2)[1],
            pooled_dim=shape("y_embedder.mlp.0.weight", 2)[1],
            patch_size=size,
            in_channels=values // size**2,
            table=table,
            dual=sum(name in shapes for name in second),
            qk_norm=norm is not None,
        )


def _part(columns: bool, side: int) -> Callable[[Tensor], Tensor]:
    """What makes the half of a table of positions (1, side^2, D) that is of columns, or that of lines (side, D / 2).

    Raises CheckpointError if it is not made of two: what a place adds then depends on line and column together.
    """

    def part(table: Tensor) -> Tensor:
        whole = table.reshape(side, side, -1)
        by_column, by_line = whole[0, :, : whole.shape[2] // 2], whole[:, 0, whole.shape[2] // 2 :]
        for line, made in enumerate(whole):
            if not (
                torch.equal(made[:, : whole.shape[2] // 2], by_column)
                and (made[:, whole.shape[2] // 2 :] == by_line[line]).all()
            ):
                raise CheckpointError(
                    "the table of positions is not one of columns beside one of lines; not exported yet"
                )
        return (by_column if columns else by_line).contiguous()

    return part


OFFICIAL = MMDiTLayout(
    "official",
    "joint_blocks.0.context_block.attn.qkv.weight",
    "x_embedder.proj.weight",
    (
        (r"^x_embedder\.", "x_embedder.proj."),
        (r"\.attention(2?)\.wo\.", r".attn\1.proj."),
        (r"\.attention(2?)\.([qk])_norm\.", r".attn\1.ln_\2."),
        (r"\.attention(2?)\.", r".attn\1."),
        (r"\.feed_forward\.w([12])\.", r".mlp.fc\1."),
    ),
    "joint_blocks",
    fused=True,
    table="pos_embed",
)

DIFFUSERS = MMDiTLayout(
    "diffusers",
    "transformer_blocks.0.attn.add_k_proj.weight",
    "pos_embed.proj.weight",
    (
        (r"^x_embedder\.", "pos_embed.proj."),
        (r"^t_embedder\.mlp\.0\.", "time_text_embed.timestep_embedder.linear_1."),
        (r"^t_embedder\.mlp\.2\.", "time_text_embed.timestep_embedder.linear_2."),
        (r"^y_embedder\.mlp\.0\.", "time_text_embed.text_embedder.linear_1."),
        (r"^y_embedder\.mlp\.2\.", "time_text_embed.text_embedder.linear_2."),
        (r"^final_layer\.linear\.", "proj_out."),
        (r"^final_layer\.adaLN_modulation\.1\.", "norm_out.linear."),
        (r"^joint_blocks\.", "transformer_blocks."),
        (r"\.x_block\.adaLN_modulation\.1\.", ".norm1.linear."),
        (r"\.context_block\.adaLN_modulation\.1\.", ".norm1_context.linear."),
        (r"\.x_block\.attention(2?)\.wo\.", r".attn\1.to_out.0."),
        (r"\.context_block\.attention\.wo\.", ".attn.to_add_out."),
        (r"\.x_block\.attention(2?)\.w([qkv])\.", r".attn\1.to_\2."),
        (r"\.context_block\.attention\.w([qkv])\.", r".attn.add_\1_proj."),
        (r"\.x_block\.attention(2?)\.([qk])_norm\.", r".attn\1.norm_\2."),
        (r"\.context_block\.attention\.([qk])_norm\.", r".attn.norm_added_\1."),
        (r"\.x_block\.feed_forward\.w1\.", ".ff.net.0.proj."),
        (r"\.x_block\.feed_forward\.w2\.", ".ff.net.2."),
        (r"\.context_block\.feed_forward\.w1\.", ".ff_context.net.0.proj."),
        (r"\.context_block\.feed_forward\.w2\.", ".ff_context.net.2."),
    ),
    "transformer_blocks",
    swapped=True,
    table="pos_embed.pos_embed",
)

OWN = MMDiTLayout("own", "joint_blocks.0.x_block.attention.wq.weight", "position_lines", (), "joint_blocks")
