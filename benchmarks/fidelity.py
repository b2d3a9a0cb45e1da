"""Does region-adaptive sampling keep the picture better than just taking fewer steps?

    python benchmarks/fidelity.py --json fidelity.json       # the demo, 24 prompts, about a quarter of an hour

Every setting paints the same prompts from the same seeds; PSNR (dB, of pixels in [-1, 1]) is to the dense picture of
100 steps. Cost is FLOPs over those of 30 dense steps, time is process CPU time over theirs, all in one run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from flagdit.engine import DENSE, Pipeline, RasConfig, Solver
from flagdit.engine.commands.common import parse_size

PROMPTS = Path(__file__).parents[1] / "examples" / "emoji" / "prompts.txt"
STEPS = 30
FEWER = (8, 10, 13, 16, 20, 24)
RAS = {
    **{f"RAS {ratio:g}": RasConfig(ratio=ratio) for ratio in (0.75, 0.5, 0.25, 0.125)},
    "RAS 0.25, paper mode": RasConfig(ratio=0.25, mode="paper"),
    "RAS 0.25, cache the low side": RasConfig(ratio=0.25, high_ratio=0.0),
    "RAS 0.25, L2": RasConfig(ratio=0.25, metric="l2"),
    "RAS 0.25, no starvation term": RasConfig(ratio=0.25, starvation=0.0),
    "RAS 0.25, forecast": RasConfig(ratio=0.25, forecast=1),
}


@dataclass(frozen=True)
class Row:
    """One setting: its cost and its CPU time over 30 dense steps, its PSNR to 100 dense steps."""

    name: str
    cost: float
    time: float
    psnr: float


def psnr(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Mean PSNR of pictures (B, C, H, W) with values in [-1, 1], in dB."""
    error = np.square(np.clip(a, -1, 1) - np.clip(b, -1, 1)).mean((1, 2, 3))
    return float(np.mean(10 * np.log10(4 / error)))


def settings() -> Iterator[tuple[str, int, Solver, RasConfig]]:
    """Name, steps, solver and options; the first is what cost and time are measured by."""
    yield f"dense {STEPS} steps", STEPS, "euler", DENSE
    yield from ((f"dense {steps} steps", steps, "euler", DENSE) for steps in FEWER)
    yield from ((f"dense {steps} steps, ab2", steps, "ab2", DENSE) for steps in FEWER[1:4])
    yield from ((name, STEPS, "euler", ras) for name, ras in RAS.items())


def measure(pipeline: Pipeline, prompts: list[str], size: tuple[int, int] | None) -> list[Row]:
    """All settings, in one run."""
    seeds = list(range(len(prompts)))
    exact = pipeline(prompts=prompts, seeds=seeds, size=size, steps=100, ras=DENSE).latents
    rows: list[Row] = []
    dense = 1.0
    for name, steps, solver, ras in track(list(settings()), "painting", transient=True):
        start = time.process_time()
        result = pipeline(prompts=prompts, seeds=seeds, size=size, steps=steps, solver=solver, ras=ras)
        taken = time.process_time() - start
        dense = dense if rows else taken
        cost = result.report.flop_ratio * steps / STEPS
        rows.append(Row(name, cost, taken / dense, psnr(result.latents, exact)))
    return rows


def main(
    bundle: Annotated[str, typer.Option(help="A trained bundle.")] = "demo",
    prompts: Annotated[Path, typer.Option(help="One prompt a line.")] = PROMPTS,
    first: Annotated[int | None, typer.Option(min=1, help="Only so many of them.")] = None,
    size: Annotated[str | None, typer.Option(help="WxH; the model's own by default.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
) -> None:
    """Compare RAS with fewer dense steps on a trained bundle."""
    texts = prompts.read_text().splitlines()[:first]
    pipeline = Pipeline.load(bundle, threads=threads)
    rows = measure(pipeline, texts, parse_size(size))
    table = Table("setting", "cost", "time", "PSNR dB", header_style="bold", box=None)
    for row in rows:
        table.add_row(row.name, f"{row.cost:.2f}", f"{row.time:.2f}", f"{row.psnr:.1f}")
    Console().print(table)
    if json_path is not None:
        weights = pipeline.spec.weights.sha256
        about = {"prompts": len(texts), "size": size or pipeline.spec.latent.size, "weights": weights}
        facts = {**about, "threads": threads, "cores": os.cpu_count(), "rows": [asdict(row) for row in rows]}
        json_path.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
