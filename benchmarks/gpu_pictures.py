"""Whole pictures of the demo on a GPU: beside those of the CPU, captured beside plain, and how long they take.

    python benchmarks/gpu_pictures.py --json pictures.json     # needs a build with CUDA, and onnxruntime-gpu
    RUNTIME=.../libonnxruntime.so.1.31.1 python benchmarks/gpu_pictures.py    # where the package is not installed
    python benchmarks/gpu_pictures.py --bundle float16 --features features.npz    # as gpu_carry.py has them

Of each engine and preset: PSNR to the CPU's picture in fp32, of four prompts; whether a captured run is that of one
without graphs, bit for bit (FLAGDIT_NO_GRAPHS); milliseconds a step and a picture, the second time, by CUDA's events.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from itertools import product
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
from flagdit.engine.device import runs_on
from flagdit.engine.result import Result

PROMPTS = ["a red apple on a blue background", "green star", "a rocket", "two yellow moons on white"]
PRESETS = ("fast", "balanced", "quality", "best")
SIZES = ((64, 64), (128, 128))
BACKENDS = {"onnxruntime-cuda": "onnxruntime", "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx"}


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


def texts_of(features: Path | None) -> list[dict[str, Any]]:
    """What a pipeline is asked of each prompt: features in a file are taken in its place."""
    if features is None:
        return [{"prompt": prompt} for prompt in PROMPTS]
    with np.load(features) as file:
        *all_of, nothing = (file[f"prompt {i}"] for i in range(len(PROMPTS) + 1))
    return [{"prompt": p, "embeds": each, "negative_embeds": nothing} for p, each in zip(PROMPTS, all_of, strict=True)]


def measured(
    gpu: Pipeline, cpu: Pipeline, texts: list[dict[str, Any]], how: dict[str, Any], repeats: int
) -> dict[str, Any]:
    """Of one preset and size, which `how` says."""
    pairs = [{**text, "seed": seed, **how} for seed, text in enumerate(texts)]
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
        **how,
        "precision": gpu.precision,
        "backend": gpu.chosen.backend,
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
    bundle: Annotated[list[str] | None, typer.Option(help="With engines for GPUs, if there are any.")] = None,
    features: Annotated[Path | None, typer.Option(help="Of the prompts, for bundles without text encoders.")] = None,
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
    texts, bundles = texts_of(features), bundle or ["demo"]
    cpu = Pipeline.load(bundles[0], device="cpu", precision="float32")
    engines = [(each, engine) for each in bundles for engine in Bundle.open(each).manifest.engines]
    cases = [(e, engine.precision, BACKENDS[engine.target]) for e, engine in engines if runs_on(here, engine)]
    for each, precision, backend in [*cases, (bundles[0], "float32", "onnxruntime")]:
        gpu = Pipeline.load(each, device="cuda", precision=precision, backend=backend)
        for size, preset in product(SIZES, PRESETS):
            if time.monotonic() - start > seconds:
                break
            results.append(measured(gpu, cpu, texts, {"preset": preset, "size": size}, repeats))
            print(results[-1], flush=True)
            json_path.write_text(json.dumps({"gpu": here.name, "results": results}, indent=1) + "\n")
    raise typer.Exit(0 if results and all(r["captured_equals_plain"] for r in results) else 1)


if __name__ == "__main__":
    typer.run(main)
