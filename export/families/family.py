"""What a family of models is to the exporter: layouts of its checkpoints, graphs, and what `model.json` says of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from flagdit.export.graph_source import GraphSource
from flagdit.export.parts.text.encoder import Encoder
from flagdit.export.tensors import Shapes
from flagdit.export.weights import Take

Config = Mapping[str, Any]
Scalars = dict[str, int | float | bool | str | None]


@dataclass(frozen=True)
class Facts:
    """What `model.json` says of a model that its graphs do not.

    encoders: the text encoders whose features `condition` takes. shift, guidance: those that suit the model, where
    nobody says others. renormalise: what guidance does with the norm of a velocity. multiple: of tokens, up to which
    specials fill a picture. classes: that a prompt is one of; 0 where prompts are texts. phases: times from which on
    `place` places tokens anew, where a picture is larger than the training's. ntk_power: of the growth of its area,
    which is the factor that `place` is given. skip_layers: those that skip-layer guidance leaves out, where `condition`
    takes `layers` and they are known.
    """

    patch: int
    channels: int
    sizes: dict[str, int]
    price: dict[str, int]
    encoders: tuple[Encoder, ...]
    closes: tuple[str, ...] = ()
    guided: tuple[int, ...] = ()
    pads: dict[str, float] = field(default_factory=dict)
    shift: float = 1.0
    guidance: float = 4.0
    renormalise: str = "none"
    multiple: int = 1
    phases: tuple[float, ...] = (0.0,)
    classes: int = 0
    ntk_power: float = 1.0
    skip_layers: tuple[int, ...] = ()


class Model(Protocol):
    """A model without numbers: its module has shapes alone (torch's meta device)."""

    @property
    def family(self) -> str: ...

    @property
    def module(self) -> nn.Module: ...

    def config(self) -> Scalars: ...

    def facts(self) -> Facts: ...

    def without(self, encoders: Collection[str]) -> Model:
        """The same for which these text encoders are left out, of those that may be."""
        ...

    def graphs(self, size: tuple[int, int]) -> dict[str, GraphSource]:
        """`condition`, `place` and `denoise`; size (width, height) in latents is that of the training."""
        ...


@runtime_checkable
class NormedApart(Protocol):
    """A model whose queries and keys are normalised rank by rank, where it was trained with tensor parallelism."""

    def normed_apart(self, ranks: int) -> Model: ...


class Layout(Protocol):
    """Names that a family's tensors have in one kind of checkpoint."""

    @property
    def title(self) -> str: ...

    def recognises(self, names: Collection[str]) -> bool: ...

    def open(self, shapes: Shapes, said: Config | None, patch_size: int | None) -> tuple[Model, dict[str, Take]]:
        """The model that the shapes, and a configuration beside them, are of; where each of its tensors is.

        Raises ValueError if they are of none.
        """
        ...

    def ignores(self, name: str) -> bool:
        """Whether a tensor is of no use to a picture."""
        ...


@dataclass(frozen=True)
class Family:
    """A family: its name in `model.json`, what people call it, and the layouts that are taken."""

    name: str
    title: str
    layouts: tuple[Layout, ...]


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a module's tensors."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def count(module: nn.Module) -> int:
    """How many parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def without_numbers(kind: type[nn.Module], config: object) -> nn.Module:
    """A module with shapes alone."""
    with torch.device("meta"):
        return kind(config).eval()


def blocks_of(names: Collection[str], group: str) -> int:
    """How many numbered modules there are in a group: one more than the largest number."""
    prefix = f"{group}."
    numbers = [name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)]
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)
