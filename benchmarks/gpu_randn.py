"""Whether the noise of a seed is what torch draws on CUDA: docs/contract.md says near 1e-6, and at most 5e-4.

python benchmarks/gpu_randn.py --json randn.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from flagdit.cpp_ext import normal_noise, with_cuda

SHAPES = ((3, 64, 64), (4, 64, 64), (4, 128, 128), (4, 256, 256), (3, 63, 65), (16, 128, 128))
SEEDS = (0, 1, 1234, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1)


def compare(seed: int, shape: tuple[int, ...], device: str) -> dict[str, Any]:
    """Differences of one sample: ours on the CPU from torch's, and from ours on the device."""
    ours = np.empty((1, int(np.prod(shape))), np.float32)
    normal_noise(ours, [seed])
    generator = torch.Generator(device)
    generator.manual_seed(seed if seed < 2**63 else seed - 2**64)  # torch takes negative ones for the upper half
    theirs = torch.randn(shape, generator=generator, device=device).cpu().numpy().ravel()
    difference = np.abs(theirs - ours[0])
    cell = {
        "seed": seed,
        "shape": shape,
        "largest": float(difference.max()),
        "mean": float(difference.mean()),
        "first_beyond_5e-4": int(np.argmax(difference > 5e-4)) if (difference > 5e-4).any() else None,
    }
    if device == "cuda" and with_cuda():
        on_device = torch.empty(ours.shape, device=device)
        normal_noise(on_device, [seed], torch.cuda.current_stream().cuda_stream)
        again = on_device.cpu().numpy()
        cell["kernel_largest"] = float(np.abs(again - ours).max())
        cell["kernel_differs"] = int((again != ours).sum())
    return cell


def main(
    device: Annotated[
        str, typer.Option(help="cuda; cpu only tries the script, torch draws other values there.")
    ] = "cuda",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
) -> None:
    """Compare noises."""
    cells = [compare(seed, shape, device) for shape in SHAPES for seed in SEEDS]
    out: dict[str, Any] = {"command": "benchmarks/gpu_randn.py", "torch": str(torch.__version__), "cells": cells}
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        resident = about.multi_processor_count * about.max_threads_per_multi_processor
        out |= {"gpu": about.name, "threads_at_a_time": resident}
    if json_path is not None:
        json_path.write_text(json.dumps(out, indent=1) + "\n")
    print(f"largest difference {max(cell['largest'] for cell in cells):.3g} of {len(cells)} samples")


if __name__ == "__main__":
    typer.run(main)
