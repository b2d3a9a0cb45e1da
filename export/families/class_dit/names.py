"""The one layout of models of classes: the official names, which are the model's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field

from torch import nn

from flagdit.export.families.class_dit.config import ClassDiTConfig
from flagdit.export.families.class_dit.graphs import sources
from flagdit.export.families.class_dit.model import ClassDiT
from flagdit.export.families.family import Config, Facts, Scalars, blocks_of, shapes_of, without_numbers
from flagdit.export.graph_source import GraphSource
from flagdit.export.parts.names import first, number, patch, shape_of
from flagdit.export.tensors import Shapes
from flagdit.export.weights import Take

TABLE = "y_embedder.embedding_table.weight"
FIRST = "layers.0."
HEADS = 32
"""Of every release, where no configuration says it: the tensors do not."""


@dataclass(frozen=True)
class OpenedClasses:
    """A model of classes without numbers."""

    shape: ClassDiTConfig
    module: nn.Module = field(compare=False)
    family: str = "class-dit"

    @classmethod
    def of(cls, shape: ClassDiTConfig) -> OpenedClasses:
        return cls(shape, without_numbers(ClassDiT, shape))

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
            encoders=(),
            classes=c.classes,
            guided=(0, 1, 2),  # the official code guides the first three channels only
        )

    def without(self, encoders: Collection[str]) -> OpenedClasses:
        return self

    def normed_apart(self, ranks: int) -> OpenedClasses:
        return self.of(dataclasses.replace(self.shape, qk_norm_groups=ranks))

    def graphs(self, size: tuple[int, int]) -> dict[str, GraphSource]:
        assert isinstance(self.module, ClassDiT)
        return sources(self.module, size)


@dataclass(frozen=True)
class Official:
    """The names of the ImageNet code of Lumina-T2X."""

    title: str = "official"

    def recognises(self, names: Collection[str]) -> bool:
        return {TABLE, f"{FIRST}attention.wq.weight"} <= {*names}

    def ignores(self, name: str) -> bool:
        return False

    def open(
        self, shapes: Shapes, said: Config | None, patch_size: int | None
    ) -> tuple[OpenedClasses, dict[str, Take]]:
        model = OpenedClasses.of(_config(shapes, said, patch_size))
        return model, {name: Take(name) for name in shapes_of(model.module)}


def _config(shapes: Shapes, said: Config | None, patch_size: int | None) -> ClassDiTConfig:
    dim, values = shape_of(shapes, "x_embedder.weight", 2)
    heads = int(number(first(said, ("n_heads",), HEADS), "n_heads"))
    out, size = shape_of(shapes, "final_layer.linear.weight", 2)[0], patch(said, patch_size, values)
    chunks = shape_of(shapes, f"{FIRST}adaLN_modulation.1.weight", 2)[0] / dim
    if out not in (values, 2 * values):
        raise ValueError(f"the last layer makes {out} values of a patch of {values}; allowed are one and two times")
    if chunks not in (4, 6):
        raise ValueError(f"a block has {chunks:g} modulations; allowed are 4 (Next-DiT) and 6 (Flag-DiT)")
    return ClassDiTConfig(
        dim=dim,
        n_layers=blocks_of(shapes, "layers"),
        n_heads=heads,
        n_kv_heads=shape_of(shapes, f"{FIRST}attention.wk.weight", 2)[0] * heads // dim,
        ffn_dim=shape_of(shapes, f"{FIRST}feed_forward.w1.weight", 2)[0],
        classes=shape_of(shapes, TABLE, 2)[0] - 1,
        patch_size=size,
        in_channels=values // size**2,
        sandwich=chunks == 4,
        learn_sigma=out == 2 * values,
        qk_norm=f"{FIRST}attention.q_norm.weight" in shapes,
        qk_norm_groups=int(number(first(said, ("qk_norm_groups",), 1), "qk_norm_groups")),
        norm_eps=number(first(said, ("norm_eps",), 1e-5), "norm_eps"),
        rope_theta=number(first(said, ("rope_theta",), 1e4), "rope_theta"),
    )


OFFICIAL = Official()
