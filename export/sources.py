"""Where the weights of a model lie: a file, the directory of a release, a folder as diffusers saves it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from flagdit.export.errors import CheckpointError
from flagdit.export.shards import Sharded, find_release
from flagdit.export.tensors import Filed, Tensors

WEIGHT_FILES = (
    "model.safetensors",
    "weights.safetensors",
    "diffusion_pytorch_model.safetensors",
)
INDICES = ("diffusion_pytorch_model.safetensors.index.json", "model.safetensors.index.json")
CONFIG_FILES = ("config.json", "model.json", "manifest.json")
PICKLES = {".pth", ".pt", ".bin", ".ckpt", ".pkl"}
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.")
"""Before the names of a model that lies in one file with others."""


@dataclass(frozen=True)
class Found:
    """Tensors of a model. file: the first of those that they are in. ranks: of tensor parallelism, over which they were
    split. ema: whether they are the average of the training's weights; none where nothing says it.
    """

    file: Path
    tensors: Tensors
    ranks: int = 1
    ema: bool | None = None


def find_tensors(path: Path, ema: bool | None = None) -> Found:
    """What `path` is or holds. ema: as find_release has it. Raises CheckpointError."""
    release = find_release(path, ema)
    if release is not None and len(release.files) > 1:
        return Found(release.files[0], Sharded.open(release.files), len(release.files), release.ema)
    if release is None and ema is not None:
        raise CheckpointError(
            f"{path}: holds no consolidated[_ema].RR-of-NN.safetensors, which say whether they are the average (EMA); "
            f"leave out --{'' if ema else 'no-'}ema"
        )
    files = find_files(path) if release is None else list(release.files)
    tensors = Filed.open(*files)
    prefix = next((p for p in PREFIXES if any(name.startswith(p) for name in tensors.slots)), "")
    return Found(files[0], tensors.without(prefix), ema=None if release is None else release.ema)


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
        names = ", ".join((*WEIGHT_FILES, "consolidated[_ema].RR-of-NN.safetensors"))
        raise CheckpointError(f"{path}: holds none of {names}")
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
