"""What int8 gains and what it costs: the same pictures by every engine of a bundle that suits this CPU.

    python benchmarks/precision.py --first 12 --size 64x64 --json precision.json

Time is CPU time over that of fp32, in turn on every prompt. PSNR (dB) is of a picture to the fp32 one of the same
setting; beside it stands what the setting itself is off: of its fp32 picture to 100 dense ab2 steps.
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
from flagdit.engine.bench.exact import EXACT, EXACT_SHIFT
from flagdit.engine.bench.measure import paint as picture_of
from flagdit.engine.bench.measure import psnr
from flagdit.engine.commands.common import check_writable, parse_size
from flagdit.engine.cpu import Precision
from flagdit.engine.layout import FloatArray
from flagdit.files import write_file
from quality import facts

PROMPTS = Path(__file__).parents[1] / "examples" / "emoji" / "prompts.txt"
SETTINGS = {"dense": Preset(30, "ab2", DENSE), **PRESETS}


@dataclass(frozen=True)
class Row:
    """One setting in one precision: CPU seconds of an fp32 picture, time over it, and dB, means over the prompts."""

    name: str
    precision: Precision
    seconds: float
    time: float
    psnr: float
    psnr_of_setting: float


def paint(
    pipeline: Pipeline, prompt: str, seed: int, size: tuple[int, int] | None, how: Preset
) -> tuple[FloatArray, float]:
    """Latents, and the CPU seconds that they took."""
    start = time.process_time()
    result = picture_of(pipeline, how, [prompt], first=seed, size=size)
    return result.latents, time.process_time() - start


def measure(pipeline: Pipeline, prompts: list[str], size: tuple[int, int] | None) -> list[Row]:
    """A row of each setting in each precision."""
    wide = pipeline.at("float32")
    others: dict[Precision, Pipeline] = {p: pipeline.at(p) for p in pipeline.precisions if p != "float32"}
    taken: dict[tuple[str, Precision], list[tuple[float, ...]]] = {(n, p): [] for n in SETTINGS for p in others}
    for seed, prompt in enumerate(track(prompts, "painting", transient=True)):
        exact, _ = paint(wide, prompt, seed, size, Preset(EXACT, "ab2", DENSE, EXACT_SHIFT))
        for name, how in SETTINGS.items():
            picture, seconds = paint(wide, prompt, seed, size, how)
            for precision, other in others.items():
                narrow, taken_s = paint(other, prompt, seed, size, how)
                figures = seconds, taken_s, psnr(narrow, picture)[0], psnr(picture, exact)[0]
                taken[name, precision].append(figures)
    rows = []
    for (name, precision), all_figures in taken.items():
        wide_s, narrow_s, near, setting = np.mean(all_figures, axis=0)
        rows.append(Row(name, precision, wide_s, narrow_s / wide_s, near, setting))
    return rows


def main(
    bundle: Annotated[str, typer.Option(help="A bundle with an int8 engine.")] = "demo",
    first: Annotated[int | None, typer.Option(min=1, help="So many of examples/emoji/prompts.txt.")] = None,
    size: Annotated[str | None, typer.Option(help="WxH; the model's own by default.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
) -> None:
    """Compare a bundle's engines with its fp32 graph."""
    check_writable(json_path, (".json",))
    pipeline, prompts = Pipeline.load(bundle, threads=threads), PROMPTS.read_text().splitlines()[:first]
    canvas = parse_size(size) or pipeline.spec.latent.size
    rows = measure(pipeline, prompts, canvas)
    columns = ("setting", "precision", "fp32 s", "time", "to fp32, dB", "setting to exact, dB")
    table = Table(*columns, header_style="bold", box=None)
    for row in rows:
        table.add_row(
            row.name,
            row.precision,
            *(f"{x:.2f}" for x in (row.seconds, row.time)),
            *(f"{x:.1f}" for x in (row.psnr, row.psnr_of_setting)),
        )
    Console().print(table)
    if json_path is not None:
        about = {**facts(pipeline), "prompts": len(prompts), "size": canvas, "threads": threads}
        write_file(json_path, json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
