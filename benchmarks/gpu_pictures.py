"""Whole pictures of the demo on a GPU: beside those of the CPU, captured beside plain, and how long they take.

    python benchmarks/gpu_pictures.py --json pictures.json     # needs a build with CUDA, and onnxruntime-gpu
    RUNTIME=.../libonnxruntime.so.1.31.1 python benchmarks/gpu_pictures.py    # where the package is not installed

Of each engine and preset: PSNR to the CPU's picture in fp32, of four prompts; whether a captured run is that of one
without graphs, bit for bit (FLAGDIT_NO_GRAPHS); milliseconds a step and a picture, the second time, by CUDA's events.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Annotated, Any

with suppress(ImportError):
    import torch  # noqa: F401  # it brings the CUDA libraries that ONNX Runtime looks for

import numpy as np
import typer

from flagdit.cpp_ext import Gpu, OnnxRuntime
from flagdit.engine import Pipeline, session
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.result import Result

PROMPTS = ["a red apple on a blue background", "green star", "a rocket", "two yellow moons on white"]
PRESETS = ("fast", "balanced", "quality", "best")
SIZES = ((64, 64), (128, 128))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of pictures in -1 to 1, in dB."""
    return float(10 * np.log10(4 / max(float(np.mean((np.clip(a, -1, 1) - np.clip(b, -1, 1)) ** 2)), 1e-12)))


def plain(pipeline: Pipeline, **asked: Any) -> Result:
    """Without graphs."""
    os.environ["FLAGDIT_NO_GRAPHS"] = "1"
    try:
        return pipeline(**asked)
    finally:
        del os.environ["FLAGDIT_NO_GRAPHS"]


def measured(gpu: Pipeline, cpu: Pipeline, preset: str, size: tuple[int, int], repeats: int) -> dict[str, Any]:
    pairs = [{"prompt": prompt, "seed": seed, "preset": preset, "size": size} for seed, prompt in enumerate(PROMPTS)]
    decibels = [psnr(gpu(**asked).latents, cpu(**asked).latents) for asked in pairs]
    asked = pairs[0]
    captured, without = gpu(**asked), plain(gpu, **asked)
    walls, runs = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        runs.append(gpu(**asked).report)
        walls.append(time.perf_counter() - start)
    steps = [1e3 * median(run.steps[i].seconds for run in runs) for i in range(len(runs[0].steps))]
    about = runs[-1].gpu or {}
    return {
        "preset": preset,
        "size": size,
        "precision": gpu.precision,
        "psnr": [round(x, 2) for x in decibels],
        "captured_equals_plain": bool((captured.latents == without.latents).all()),
        "captured_steps": about.get("captured_steps"),
        "graph_nodes": about.get("graph_nodes"),
        "state_bytes": about.get("state_bytes"),
        "active": [step.active for step in runs[-1].steps],
        "step_ms": [round(x, 3) for x in steps],
        "plain_step_ms": [round(1e3 * step.seconds, 3) for step in without.report.steps],
        "denoise_ms": round(1e3 * median(run.seconds["denoise"] for run in runs), 2),
        "enqueue_ms": round(1e3 * about.get("enqueue_seconds", 0.0), 2),
        "wall_ms": round(1e3 * median(walls), 2),
    }


def main(
    bundle: Annotated[str, typer.Option(help="With engines for onnxruntime-cuda, if there are any.")] = "demo",
    json_path: Annotated[Path, typer.Option("--json", help="Write the results here.")] = Path("pictures.json"),
    seconds: Annotated[float, typer.Option(help="Begin nothing after these.")] = 90,
    repeats: Annotated[int, typer.Option()] = 5,
) -> None:
    """Measure whole pictures."""
    start, results = time.monotonic(), []
    if path := os.environ.get("RUNTIME"):
        runtime = OnnxRuntime(path)
        session.onnxruntime = lambda: runtime
    here = Gpu.here()
    cpu = Pipeline.load(bundle, device="cpu", precision="float32")
    engines = Bundle.open(bundle).manifest.engines
    precisions = [engine.precision for engine in engines if engine.target == "onnxruntime-cuda"]
    for precision in [*dict.fromkeys(precisions), "float32"]:
        gpu = Pipeline.load(bundle, device="cuda", precision=precision)
        for size in SIZES:
            for preset in PRESETS:
                if time.monotonic() - start > seconds:
                    break
                results.append(measured(gpu, cpu, preset, size, repeats))
                print(results[-1], flush=True)
                json_path.write_text(json.dumps({"gpu": here.name, "results": results}, indent=1) + "\n")
    raise typer.Exit(0 if results and all(r["captured_equals_plain"] for r in results) else 1)


if __name__ == "__main__":
    typer.run(main)
