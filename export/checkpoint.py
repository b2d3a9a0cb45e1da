"""Checkpoints -> FlagDiT. Only safetensors are read: a pickle could run anything."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flagdit.export.config import FlagDiTConfig
from flagdit.export.errors import CheckpointError
from flagdit.export.flag_dit import FlagDiT
from flagdit.export.infer import Shapes, infer_config
from flagdit.export.storage import SCALE, widen

WEIGHT_FILES = (
    "model.safetensors",
    "weights.safetensors",
    "consolidated_ema.00-of-01.safetensors",
    "consolidated.00-of-01.safetensors",
)
CONFIG_FILES = ("config.json", "model.json", "manifest.json")
NEEDED = ("dim", "n_layers", "n_heads", "patch_size", "in_channels", "cap_feat_dim")
"""What a configuration has to say: no default is right for two models."""
PICKLES = {".pth", ".pt", ".bin", ".ckpt", ".pkl"}


@dataclass(frozen=True)
class Checkpoint:
    """A safetensors file whose names and shapes are known to be those of its configuration; no number is read yet.

    inferred: whether there was no configuration, so that the shapes had to say what the model is.
    """

    weights: Path
    config: FlagDiTConfig
    inferred: bool = False

    def load(self) -> FlagDiT:
        """The model, in fp32. Raises CheckpointError if the file cannot be read."""
        with torch.device("meta"):
            model = FlagDiT(self.config)
        model.load_state_dict(read_tensors(self.weights), strict=True, assign=True)
        return model.eval()


def open_checkpoint(path: Path, patch_size: int | None = None) -> Checkpoint:
    """Find a file, or that of a directory, and check all that can be known without reading its numbers.

    patch_size: what only a configuration would say. Raises CheckpointError if it is no Flag-DiT, if a tensor is missing
    or of another shape, if it is a pickle, or if the configuration is not one or says another patch size.
    """
    weights = find_weights(path)
    shapes = read_shapes(weights)
    found = next((weights.parent / n for n in CONFIG_FILES if (weights.parent / n).is_file()), None)
    config = infer_config(shapes, patch_size) if found is None else read_config(found)
    if patch_size not in (None, config.patch_size):
        raise CheckpointError(f"--patch-size {patch_size}: {found} says {config.patch_size}; leave the option out")
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in FlagDiT(config).state_dict().items()}
    _check(shapes, expected, weights, source="its other tensors say" if found is None else f"{found.name} says")
    return Checkpoint(weights, config, found is None)


def load_checkpoint(path: Path, patch_size: int | None = None) -> FlagDiT:
    """The model of a file or a directory (open_checkpoint)."""
    return open_checkpoint(path, patch_size).load()


def find_weights(path: Path) -> Path:
    """The safetensors file that `path` is or holds."""
    if path.is_dir():
        found = next((path / name for name in WEIGHT_FILES if (path / name).is_file()), None)
        if found is None:
            raise CheckpointError(f"{path}: holds none of {', '.join(WEIGHT_FILES)}")
        return found
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or directory; give a .safetensors file or its directory")
    if path.suffix in PICKLES:
        raise CheckpointError(
            f"{path}: {path.suffix} files are pickles, which can run code, and are not read; "
            "save the state dict with safetensors.torch.save_file first"
        )
    return path


def read_shapes(path: Path) -> Shapes:
    """Names and shapes of a safetensors file's tensors, but for the scales of int8 ones; reads its header alone."""
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if not name.endswith(SCALE)]  # noqa: SIM118
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, in fp32."""
    try:
        with safe_open(path, framework="pt") as file:
            return widen({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None


def read_config(path: Path) -> FlagDiTConfig:
    """The configuration of a checkpoint, a model directory or a bundle.

    Raises CheckpointError if it is none, or leaves out what no default is right for.
    """
    fields = {field.name for field in dataclasses.fields(FlagDiTConfig)}
    try:
        values = json.loads(path.read_text())
        values = values.get("model", values)
        values = values.get("config", values)
        missing = [name for name in NEEDED if name not in values]
        if missing:
            raise ValueError(f"it does not say {', '.join(missing)}")
        return FlagDiTConfig(**{k: v for k, v in values.items() if k in fields})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: not a Flag-DiT configuration ({error}); mend it, or move the weights to a directory without it "
            "and give --patch-size"
        ) from None


def _check(shapes: Shapes, expected: Mapping[str, tuple[int, ...]], path: Path, *, source: str) -> None:
    missing, extra = sorted(expected.keys() - shapes.keys()), sorted(shapes.keys() - expected.keys())
    if missing or extra:
        raise CheckpointError(f"{path}: missing {missing[:3] or 'nothing'}, unknown {extra[:3] or 'nothing'}")
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise CheckpointError(f"{path}: {name} is {shape}, {source} {expected[name]}")
