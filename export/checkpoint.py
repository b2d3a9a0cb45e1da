"""Checkpoints -> FlagDiT. Only safetensors are read: a pickle could run anything."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flagdit.export.config import FlagDiTConfig
from flagdit.export.errors import CheckpointError
from flagdit.export.flag_dit import FlagDiT
from flagdit.export.storage import widen

WEIGHT_FILES = (
    "model.safetensors",
    "weights.safetensors",
    "consolidated_ema.00-of-01.safetensors",
    "consolidated.00-of-01.safetensors",
)
CONFIG_FILES = ("config.json", "model.json", "manifest.json")
PICKLES = {".pth", ".pt", ".bin", ".ckpt", ".pkl"}

Shapes = Mapping[str, tuple[int, ...]]


def load_checkpoint(path: Path, patch_size: int = 2) -> FlagDiT:
    """Load a file or a directory; without a configuration the shapes of the tensors say what the model is.

    Raises CheckpointError if it is no Flag-DiT, if a tensor is missing, or if it is a pickle.
    """
    weights = find_weights(path)
    state = read_tensors(weights)
    config = read_config(weights.parent)
    if config is None:
        config = infer_config({name: tuple(t.shape) for name, t in state.items()}, patch_size)
    with torch.device("meta"):
        model = FlagDiT(config)
    _check(state, model.state_dict(), weights)
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, in fp32."""
    try:
        with safe_open(path, framework="pt") as file:
            return widen({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None


def read_config(directory: Path) -> FlagDiTConfig | None:
    """The configuration beside the weights: of a checkpoint, a model directory or a bundle; None if there is none."""
    path = next((directory / n for n in CONFIG_FILES if (directory / n).is_file()), None)
    if path is None:
        return None
    fields = {field.name for field in dataclasses.fields(FlagDiTConfig)}
    try:
        values = json.loads(path.read_text())
        values = values.get("model", values)
        values = values.get("config", values)
        return FlagDiTConfig(**{k: v for k, v in values.items() if k in fields})
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a Flag-DiT configuration ({error})") from None


def infer_config(shapes: Shapes, patch_size: int) -> FlagDiTConfig:
    """Read the configuration off the tensors; only the patch size cannot be seen there."""
    first = "layers.0.attention."
    needed = ("x_embedder.weight", "final_layer.linear.weight", *(first + k for k in ("gate", "wk.weight")))
    missing = [name for name in needed if name not in shapes]
    if missing:
        raise CheckpointError(f"not a Flag-DiT checkpoint: it has no {', '.join(missing)}")
    dim, patch_values = shapes["x_embedder.weight"]
    heads = shapes[first + "gate"][0]
    channels, rest = divmod(patch_values, patch_size**2)
    if rest:
        raise CheckpointError(f"patches of {patch_values} values are not {patch_size}x{patch_size}: --patch-size")
    return FlagDiTConfig(
        dim=dim,
        n_layers=1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("layers.")),
        n_heads=heads,
        n_kv_heads=shapes[first + "wk.weight"][0] * heads // dim,
        patch_size=patch_size,
        in_channels=channels,
        learn_sigma=shapes["final_layer.linear.weight"][0] == 2 * patch_values,
        cap_feat_dim=shapes[first + "wk_y.weight"][1],
        qk_norm=first + "q_norm.weight" in shapes,
        multiple_of=shapes["layers.0.feed_forward.w1.weight"][0],  # the width itself is a multiple of it
    )


def _check(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        raise CheckpointError(f"{path}: missing {missing[:3] or 'nothing'}, unknown {extra[:3] or 'nothing'}")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            got, allowed = tuple(tensor.shape), tuple(expected[name].shape)
            raise CheckpointError(f"{path}: {name} is {got}, the configuration says {allowed}")
