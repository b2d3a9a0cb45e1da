"""Flag-DiT for the exporter: one layout, the official names, which are the model's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field

from torch import nn

from flagdit.export.families.family import Config, Facts, Family, Scalars, shapes_of, without_numbers
from flagdit.export.families.flag_dit import graphs
from flagdit.export.families.flag_dit.config import FlagDiTConfig
from flagdit.export.families.flag_dit.infer import infer_config
from flagdit.export.families.flag_dit.model import FlagDiT
from flagdit.export.graph_source import GraphSource
from flagdit.export.parts.layers import MASKED
from flagdit.export.parts.text.encoder import Encoder
from flagdit.export.tensors import Shapes
from flagdit.export.weights import Take

NEEDED = ("dim", "n_layers", "n_heads", "patch_size", "in_channels", "cap_feat_dim")
"""What a configuration has to say: no default is right for two models."""


@dataclass(frozen=True)
class Opened:
    """A Flag-DiT without numbers."""

    shape: FlagDiTConfig
    module: nn.Module = field(compare=False)
    family: str = "flag-dit"

    @classmethod
    def of(cls, shape: FlagDiTConfig) -> Opened:
        return cls(shape, without_numbers(FlagDiT, shape))

    def config(self) -> Scalars:
        return dataclasses.asdict(self.shape)

    def facts(self) -> Facts:
        c = self.shape
        return Facts(
            patch=c.patch_size,
            channels=c.in_channels,
            sizes={
                "width": c.dim,
                "hidden": c.ffn_dim,
                "heads": c.n_heads,
                "kv_heads": c.kv_heads,
                "head": c.head_dim,
            },
            price=c.price(),
            encoders=(Encoder("text", c.cap_feat_dim, max_tokens=128, end=True),),
            closes=("line",),
            guided=(0, 1, 2),  # Lumina guides the first three channels only
            pads={"text_bias": MASKED},
        )

    def without(self, encoders: Collection[str]) -> Opened:
        return self

    def normed_apart(self, ranks: int) -> Opened:
        return Opened.of(dataclasses.replace(self.shape, qk_norm_groups=ranks))

    def graphs(self, size: tuple[int, int]) -> dict[str, GraphSource]:
        assert isinstance(self.module, FlagDiT)
        return graphs.sources(self.module, size)


@dataclass(frozen=True)
class Official:
    """The names of `lumina_t2i`."""

    title: str = "official"

    def recognises(self, names: Collection[str]) -> bool:
        return "eol_token" in names or {"layers.0.attention.wk_y.weight", "layers.0.attention_norm.weight"} <= {*names}

    def open(self, shapes: Shapes, said: Config | None, patch_size: int | None) -> tuple[Opened, dict[str, Take]]:
        model = Opened.of(infer_config(shapes, patch_size) if said is None else configured(said))
        return model, {name: Take(name) for name in shapes_of(model.module)}

    def ignores(self, name: str) -> bool:
        return False


def configured(said: Config) -> FlagDiTConfig:
    """Raises ValueError or TypeError if it is no configuration, or leaves out what no default is right for."""
    fields = {field.name for field in dataclasses.fields(FlagDiTConfig)}
    missing = [name for name in NEEDED if name not in said]
    if missing:
        raise ValueError(f"it does not say {', '.join(missing)}")
    return FlagDiTConfig(**{k: v for k, v in said.items() if k in fields})


FLAG_DIT = Family("flag-dit", "Flag-DiT", (Official(),))
