"""What int8 gains and what it costs: the same pictures by both graphs of a bundle.

    python benchmarks/precision.py --first 12 --size 64x64 --json precision.json

Time is CPU time of int8 over that of fp32, in turn on every prompt. PSNR (dB) is of the int8 picture to the fp32 one of
the same setting; beside it stands what the setting itself is off: of its fp32 picture to 100 dense ab2 steps.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from flagdit.engine import DENSE, PRESETS, Pipeline, Preset
from flagdit.engine.bench.measure import EXACT, psnr
from flagdit.engine.commands.common import check_writable, parse_size
from flagdit.engine.layout import FloatArray
from quality import facts

PROMPTS = Path(__file__).parents[1] / "examples" / "emoji" / "prompts.txt"
SETTINGS = {"dense": Preset(30, "ab2", DENSE), **PRESETS}


@dataclass(frozen=True)
class Row:
    """One setting: CPU seconds of an fp32 picture, time of int8 over it, and dB, means over the prompts."""

    name: str
    seconds: float
    time: float
    psnr: float
    psnr_of_setting: float


def paint(
    pipeline: Pipeline, prompt: str, seed: int, size: tuple[int, int] | None, how: Preset
) -> tuple[FloatArray, float]:
    """Latents, and the CPU seconds that they took."""
    start = time.process_time()
    result = pipeline(prompt, seed=seed, size=size, steps=how.steps, solver=how.solver, ras=how.ras)
    return result.latents, time.process_time() - start


def measure(pipeline: Pipeline, prompts: list[str], size: tuple[int, int] | None) -> list[Row]:
    """A row of each setting."""
    both = pipeline.at("float32"), pipeline.at("int8")
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in SETTINGS}
    for seed, prompt in enumerate(track(prompts, "painting", transient=True)):
        exact, _ = paint(both[0], prompt, seed, size, Preset(EXACT, "ab2", DENSE))
        for name, how in SETTINGS.items():
            (wide, wide_s), (narrow, narrow_s) = (paint(p, prompt, seed, size, how) for p in both)
            taken[name].append((wide_s, narrow_s, psnr(narrow, wide)[0], psnr(wide, exact)[0]))
    rows = []
    for name, figures in taken.items():
        wide_s, narrow_s, near, setting = np.mean(figures, axis=0)
        rows.append(Row(name, wide_s, narrow_s / wide_s, near, setting))
    return rows


def main(
    bundle: Annotated[str, typer.Option(help="A bundle with an int8 engine.")] = "demo",
    first: Annotated[int | None, typer.Option(min=1, help="So many of examples/emoji/prompts.txt.")] = None,
    size: Annotated[str | None, typer.Option(help="WxH; the model's own by default.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
) -> None:
    """Compare int8 with fp32."""
    check_writable(json_path, (".json",))
    pipeline, prompts = Pipeline.load(bundle, threads=threads), PROMPTS.read_text().splitlines()[:first]
    canvas = parse_size(size) or pipeline.spec.latent.size
    rows = measure(pipeline, prompts, canvas)
    table = Table(
        "setting", "fp32 s", "int8 time", "int8 to fp32, dB", "setting to exact, dB", header_style="bold", box=None
    )
    for row in rows:
        table.add_row(
            row.name,
            *(f"{x:.2f}" for x in (row.seconds, row.time)),
            *(f"{x:.1f}" for x in (row.psnr, row.psnr_of_setting)),
        )
    Console().print(table)
    if json_path is not None:
        about = {**facts(pipeline), "prompts": len(prompts), "size": canvas, "threads": threads}
        json_path.write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
