"""Where the weights of a model lie: a file, the directory of a release, a folder as diffusers saves it."""

from __future__ import annotations

import json
from pathlib import Path

from flagdit.export.errors import CheckpointError
from flagdit.export.tensors import Filed

WEIGHT_FILES = (
    "model.safetensors",
    "weights.safetensors",
    "diffusion_pytorch_model.safetensors",
    "consolidated_ema.00-of-01.safetensors",
    "consolidated.00-of-01.safetensors",
)
INDICES = ("diffusion_pytorch_model.safetensors.index.json", "model.safetensors.index.json")
CONFIG_FILES = ("config.json", "model.json", "manifest.json")
PICKLES = {".pth", ".pt", ".bin", ".ckpt", ".pkl"}
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.")
"""Before the names of a model that lies in one file with others."""


def find_tensors(path: Path) -> tuple[Path, Filed]:
    """The file (the first of several) that `path` is or holds, and its tensors. Raises CheckpointError."""
    files = find_files(path)
    tensors = Filed.open(*files)
    for prefix in PREFIXES:
        if any(name.startswith(prefix) for name in tensors.slots):
            return files[0], tensors.without(prefix)
    return files[0], tensors


def find_files(path: Path) -> list[Path]:
    """The safetensors files of a model. A pipeline of diffusers has it in `transformer`."""
    if path.is_dir():
        folder = path / "transformer" if (path / "transformer").is_dir() else path
        for name in WEIGHT_FILES:
            if (folder / name).is_file():
                return [folder / name]
        for name in INDICES:
            if (folder / name).is_file():
                return _parts(folder / name)
        raise CheckpointError(f"{path}: holds none of {', '.join(WEIGHT_FILES)}")
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or directory; give a .safetensors file or its directory")
    if path.suffix in PICKLES:
        raise CheckpointError(
            f"{path}: {path.suffix} files are pickles, which can run code, and are not read; "
            "save the state dict with safetensors.torch.save_file first"
        )
    return [path]


def _parts(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        missing = [name for name in names if not (index.parent / name).is_file()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: not an index of weights ({error})") from None
    if missing or not names:
        raise CheckpointError(f"{index.parent}: {', '.join(missing) or 'all'} of {index.name} missing; get them again")
    return [index.parent / name for name in names]
