"""Layouts of models of one stream: what their tensors are called, and what their shapes say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial

from torch import nn

from flagdit.export.families.family import Config, Facts, Scalars, blocks_of, shapes_of, without_numbers
from flagdit.export.graph_source import GraphSource
from flagdit.export.parts.joint.config import JointConfig
from flagdit.export.parts.joint.graphs import PADS, joint_sources
from flagdit.export.parts.joint.model import Joint
from flagdit.export.parts.names import Rules, first, number, patch, renamed, said_class, shape_of
from flagdit.export.parts.text.encoder import Encoder
from flagdit.export.tensors import Shapes
from flagdit.export.weights import Take, frequencies

FUSED = re.compile(r"(.*\.attention\.)w([qkv])\.weight")


@dataclass(frozen=True)
class Kind:
    """What two families of this kind differ in.

    theta, axes, time_scale: as JointConfig has them. shift, guidance, renormalise: as Facts has them.
    """

    family: str
    class_name: str
    theta: float
    axes: tuple[int, int, int]
    time_scale: float
    adaln_silu: bool
    multiple: int
    shift: float
    guidance: float
    renormalise: str
    encoder: Encoder


@dataclass(frozen=True)
class OpenedJoint:
    """A model of one stream without numbers."""

    kind: Kind
    shape: JointConfig
    module: nn.Module = field(compare=False)

    @property
    def family(self) -> str:
        return self.kind.family

    def config(self) -> Scalars:
        values = dataclasses.asdict(self.shape)
        return {**values, "axes": ",".join(map(str, self.shape.axes))}

    def facts(self) -> Facts:
        c, kind = self.shape, self.kind
        return Facts(
            patch=c.patch_size,
            channels=c.in_channels,
            sizes=c.sizes(),
            price=c.price(),
            encoders=(replace(kind.encoder, width=c.cap_feat_dim),),
            pads=PADS,
            shift=kind.shift,
            guidance=kind.guidance,
            renormalise=kind.renormalise,
            multiple=c.multiple,
        )

    def without(self, encoders: Collection[str]) -> OpenedJoint:
        return self

    def graphs(self, size: tuple[int, int]) -> dict[str, GraphSource]:
        assert isinstance(self.module, Joint)
        return joint_sources(self.module)


@dataclass(frozen=True)
class JointLayout:
    """rules: from our names to these. fused: whether queries, keys and values are one matrix. mark: a tensor that only
    this layout has; without: one that it has not.
    """

    title: str
    kind: Kind
    rules: Rules
    mark: str
    fused: bool = False
    without: str | None = None
    ignored: tuple[str, ...] = ()

    def recognises(self, names: Collection[str]) -> bool:
        return self.mark in names and self.without not in names

    def ignores(self, name: str) -> bool:
        return name in self.ignored

    def open(self, shapes: Shapes, said: Config | None, patch_size: int | None) -> tuple[OpenedJoint, dict[str, Take]]:
        if said is not None:
            said_class(said, self.kind.class_name)
        shape = self._config(shapes, said, patch_size)
        opened = OpenedJoint(self.kind, shape, without_numbers(Joint, shape))
        return opened, {name: self._take(name, shape) for name in shapes_of(opened.module)}

    def _take(self, name: str, c: JointConfig) -> Take:
        if name == "t_embedder.frequencies" and self.title != "own":
            return frequencies()
        found = FUSED.fullmatch(name)
        if found is None or not self.fused:
            return Take(renamed(name, self.rules))
        kv = c.n_kv_heads * c.head_dim
        rows = {"q": (0, c.dim), "k": (c.dim, c.dim + kv), "v": (c.dim + kv, c.dim + 2 * kv)}[found[2]]
        return Take(renamed(f"{found[1]}qkv.weight", self.rules), rows, (c.dim + 2 * kv, c.dim))

    def _config(self, shapes: Shapes, said: Config | None, patch_size: int | None) -> JointConfig:
        kind, block = self.kind, "layers.0."
        shape = partial(shape_of, shapes, rules=self.rules)
        dim, values = shape("x_embedder.weight", 2)
        size = patch(said, patch_size, values)
        (head,) = shape(block + "attention.q_norm.weight", 1)
        if self.fused:
            kv = (shape(block + "attention.qkv.weight", 2)[0] - dim) // 2
        else:
            kv = shape(block + "attention.wk.weight", 2)[0]
        time, _ = shape("t_embedder.mlp.0.weight", 2)
        adaln, _ = shape("t_embedder.mlp.2.weight", 2)
        return JointConfig(
            dim=dim,
            n_layers=blocks_of(shapes, "layers"),
            n_refiners=blocks_of(shapes, "noise_refiner"),
            n_heads=dim // head,
            n_kv_heads=kv // head,
            ffn_dim=shape(block + "feed_forward.w1.weight", 2)[0],
            cap_feat_dim=shape("cap_embedder.1.weight", 2)[1],
            adaln_dim=adaln,
            time_dim=time,
            patch_size=size,
            in_channels=values // size**2,
            axes=_axes(first(said, ("axes", "axes_dims", "axes_dim_rope"), kind.axes), head),
            rope_theta=number(first(said, ("rope_theta",), kind.theta), "rope_theta"),
            time_scale=number(first(said, ("time_scale", "t_scale"), kind.time_scale), "t_scale"),
            norm_eps=number(first(said, ("norm_eps",), 1e-5), "norm_eps"),
            adaln_silu=kind.adaln_silu,
            multiple=kind.multiple,
        )


def _axes(said: object, head: int) -> tuple[int, int, int]:
    values = said.split(",") if isinstance(said, str) else said
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise ValueError(f"the axes of RoPE are {said!r}; allowed are three sizes")
    sizes = tuple(int(value) for value in values)
    return sizes[0], sizes[1], sizes[2]
