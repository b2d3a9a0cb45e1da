"""What people have -> tensors whose names and shapes are known to be a model's, before one number is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from flagdit.export.errors import CheckpointError
from flagdit.export.families.family import Config, Model, NormedApart, shapes_of
from flagdit.export.families.flag_dit.model import FlagDiT
from flagdit.export.families.flag_dit.opened import Opened
from flagdit.export.families.registry import recognise
from flagdit.export.rescale import Powers, of_text, widen_norms
from flagdit.export.sources import CONFIG_FILES, find_tensors
from flagdit.export.tensors import Held, Shapes, Tensors
from flagdit.export.weights import Take, expected

__all__ = ["CONFIG_FILES", "Checkpoint", "load_checkpoint", "open_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """Tensors whose names and shapes are known to be those of a model; no number is read yet.

    layout: what its names are those of. inferred: whether there was no configuration, so that the shapes had to say
    what the model is. ranks, ema: as sources.Found has them. powers: by which an earlier export made its
    matrices smaller.
    """

    weights: Path
    model: Model
    takes: Mapping[str, Take] = field(compare=False)
    tensors: Tensors = field(compare=False)
    layout: str = "official"
    inferred: bool = False
    ranks: int = 1
    ema: bool | None = None
    powers: Powers = field(default_factory=dict)

    @classmethod
    def held(cls, model: FlagDiT) -> Checkpoint:
        """Of a model in memory."""
        opened, state = Opened.of(model.config), model.state_dict()
        return cls(Path("memory"), opened, {name: Take(name) for name in state}, Held(state))

    def load(self) -> FlagDiT:
        """The model, in fp32. Raises CheckpointError if the file cannot be read, or it is no Flag-DiT."""
        if not isinstance(self.model, Opened):
            raise CheckpointError(f"{self.weights}: is no Flag-DiT, so it can be exported and not be loaded into torch")
        with torch.device("meta"):
            model = FlagDiT(self.model.shape)
        state = {name: self.tensors.read(take.name).float() for name, take in self.takes.items()}
        model.load_state_dict(state, strict=True, assign=True)
        return model.eval()


def open_checkpoint(path: Path, patch_size: int | None = None, ema: bool | None = None) -> Checkpoint:
    """Find a file, or those of a directory, and check all that can be known without reading their numbers.

    patch_size: what only a configuration would say. ema: which weights of an official release, as find_release has it.
    Raises CheckpointError if it is of no known family, if a tensor is
    missing or of another shape, if it is a pickle, or if the configuration is not one or says another patch size.
    """
    found_tensors = find_tensors(path, ema)
    weights, tensors = found_tensors.file, found_tensors.tensors
    shapes = tensors.shapes
    family, layout = recognise(shapes.keys(), weights)
    found = next((weights.parent / n for n in CONFIG_FILES if (weights.parent / n).is_file()), None)
    try:
        said = None if found is None else read_config(found)
        model, takes = layout.open(shapes, said, patch_size)
        powers = of_text((said or {}).get("rescaled"))
    except (ValueError, TypeError) as error:
        if found is None:
            raise CheckpointError(f"not a {family.title} checkpoint: {error}") from None
        raise CheckpointError(
            f"{found}: not a {family.title} configuration ({error}); mend it, or move the weights to a directory "
            "without it and give --patch-size"
        ) from None
    if found_tensors.ranks > 1 and isinstance(model, NormedApart):
        model = model.normed_apart(found_tensors.ranks)
    widen_norms(model.module, powers)
    facts = model.facts()
    if patch_size not in (None, facts.patch):
        raise CheckpointError(f"--patch-size {patch_size}: {found} says {facts.patch}; leave the option out")
    known = {name: shape for name, shape in shapes.items() if not layout.ignores(name)}
    source = "its other tensors say" if found is None else f"{found.name} says"
    _check(known, expected(takes, shapes_of(model.module)), weights, source=source)
    origin = layout.title, found is None, found_tensors.ranks, found_tensors.ema, powers
    return Checkpoint(weights, model, takes, tensors, *origin)


def load_checkpoint(path: Path, patch_size: int | None = None) -> FlagDiT:
    """The Flag-DiT of a file or a directory (open_checkpoint)."""
    return open_checkpoint(path, patch_size).load()


def read_config(path: Path) -> Config:
    """The configuration of a checkpoint, a model directory or a bundle. Raises ValueError if it is none."""
    try:
        values: Any = json.loads(path.read_text())
        values = values.get("model", values)
        values = values.get("config", values)
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(values, dict):
        raise ValueError("it holds no fields")
    return values


def _check(shapes: Shapes, wanted: Shapes, path: Path, *, source: str) -> None:
    missing, extra = sorted(wanted.keys() - shapes.keys()), sorted(shapes.keys() - wanted.keys())
    if missing or extra:
        raise CheckpointError(f"{path}: missing {missing[:3] or 'nothing'}, unknown {extra[:3] or 'nothing'}")
    for name, shape in shapes.items():
        if shape != wanted[name]:
            raise CheckpointError(f"{path}: {name} is {shape}, {source} {wanted[name]}")
