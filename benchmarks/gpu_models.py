"""Models of gpu_denoise.py whose weights are random: their shapes, and the weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from flagdit.cpp_ext import Price, step_flops
from flagdit.engine.compiler import CudaPrecision
from flagdit.export.families.flag_dit.config import FlagDiTConfig

PRECISIONS: tuple[CudaPrecision, ...] = ("float32", "float16", "bfloat16")
TEXT = 32
"""Text tokens: a multiple of 4, as ONNX Runtime's faster attention with a bias wants."""

MODELS = {
    "S": FlagDiTConfig(dim=384, n_layers=12, n_heads=6, cap_feat_dim=768),
    "600M": FlagDiTConfig(dim=1536, n_layers=16, n_heads=32, cap_feat_dim=768),  # Lumina's 600M: 604 million
    "5B-2": FlagDiTConfig(n_layers=2, cap_feat_dim=768),  # Lumina's 5B has 32 layers of this shape
    "5B-4": FlagDiTConfig(n_layers=4, cap_feat_dim=768),
}

BLOCK = 1 << 22


def random_weights(directory: Path) -> Path:
    """Write the weights that the graphs in `directory` refer to: normal values, as spread as after initialisation."""
    path = directory / "weights.safetensors"
    layout = json.loads((directory / "weights.json").read_text())
    values = np.random.default_rng(0).standard_normal(BLOCK).astype(np.float32) * 0.02
    blocks = {"FLOAT": values, "FLOAT16": values.astype(np.float16)}
    with path.open("wb") as file:
        file.truncate(layout["bytes"])
        for kind, offset, size in layout["tensors"]:
            file.seek(offset)
            block = blocks[kind]
            data = np.resize(block, min(size // block.itemsize, BLOCK)).tobytes()
            for begin in range(0, size, len(data)):
                file.write(data[: size - begin])
    return path


def flops(config: FlagDiTConfig, active: int, tokens: int, rows: int) -> float:
    """Of a step, as flagdit counts them."""
    return step_flops(Price(**config.price()), active, tokens, rows, TEXT)
