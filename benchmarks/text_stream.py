"""What is lost and won if the text's stream of an MMDiT rests where the picture's regions do (`rest_text`).

    python examples/emoji/train.py --family mmdit --run runs/mmdit ...     # examples/emoji/README.md
    flagdit export runs/mmdit -o mmdit-model ... && flagdit build mmdit-model -o mmdit
    python benchmarks/text_stream.py --bundle mmdit --texts TEXTS

In every step an MMDiT computes all text tokens anew, and RAS as published does, too. With `rest_text`, steps that leave
patches out attend to the keys and values that the text had in the last dense step, and neither read its weights nor
multiply its rows.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from flagdit.engine import Pipeline
from flagdit.engine.bench import ExactPictures, settings
from flagdit.engine.bench.measure import paint, psnr
from flagdit.engine.commands.common import PrecisionOption, check_writable
from flagdit.engine.layout import FloatArray
from flagdit.engine.presets import Preset
from flagdit.files import write_file


@dataclass(frozen=True)
class Row:
    """One plan, with the text computed in every step, and in dense steps alone.

    cost: FLOPs over those of as many dense steps. seconds: of all calls of `denoise`. psnr: to the converged picture,
    and the standard error of the difference between the two. between: from the one's pictures to the other's.
    """

    setting: str
    cost: tuple[float, float]
    seconds: tuple[float, float]
    psnr: tuple[float, float]
    error: float
    between: float


def main(
    bundle: Annotated[Path, typer.Option(help="A bundle of a model whose text may rest.")],
    texts: Annotated[Path, typer.Option(help="A text file, one prompt a line.")],
    prompts: Annotated[int, typer.Option(min=2)] = 12,
    precision: PrecisionOption = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    json_path: Annotated[Path | None, typer.Option("--json")] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep the exact pictures in this folder.")] = None,
) -> None:
    """Print cost, time and PSNR of plans with the text computed in every step, and in dense steps alone."""
    check_writable(json_path, (".json",))
    pipeline = Pipeline.load(bundle, threads=threads, precision=precision)
    said = texts.read_text().splitlines()[:prompts]
    exactly = ExactPictures(pipeline, None, pipeline.spec.guidance.scale, folder=keep)
    exact = np.stack([exactly([text], seed)[0] for seed, text in enumerate(track(said, "exact"))])
    rows = [
        compared(pipeline, said, exact, one.name, one.how)
        for one in track(
            [one for one in settings(pipeline.presets()) if one.family in ("uncalibrated", "flagdit")], "plans"
        )
        if one.how.ras.share != 1
    ]
    table = Table("plan", "cost", "rests", "time", "PSNR dB", "rests", "between", header_style="bold", box=None)
    for row in rows:
        change = f"{row.psnr[1]:.2f} ({row.psnr[1] - row.psnr[0]:+.2f} ± {row.error:.2f})"
        cells = *(f"{c:.3f}" for c in row.cost), f"{row.seconds[1] / row.seconds[0]:.2f}", f"{row.psnr[0]:.2f}"
        table.add_row(row.setting, *cells, change, f"{row.between:.1f}")
    Console().print(table)
    if json_path is not None:
        about = {"bundle": pipeline.spec.name, "prompts": len(said), "precision": pipeline.stages.denoise.precision}
        write_file(json_path, json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def compared(pipeline: Pipeline, said: list[str], exact: FloatArray, name: str, how: Preset) -> Row:
    """Both ways in turn for each prompt, so that other work on the machine falls on both."""
    made: tuple[list[FloatArray], list[FloatArray]] = ([], [])
    costs, seconds = [0.0, 0.0], [0.0, 0.0]
    for seed, text in enumerate(said):
        for rests in (False, True):
            result = paint(pipeline, replace(how, ras=replace(how.ras, rest_text=rests)), [text], first=seed)
            made[rests].append(result.latents[0])
            costs[rests] = result.report.flop_ratio
            seconds[rests] += result.report.seconds["denoise"]
    near = [psnr(np.stack(pictures), exact) for pictures in made]
    error = float((near[1] - near[0]).std(ddof=1) / len(said) ** 0.5)
    means = float(near[0].mean()), float(near[1].mean())
    between = float(psnr(*map(np.stack, made)).mean())
    return Row(name, (costs[0], costs[1]), (seconds[0], seconds[1]), means, error, between)


if __name__ == "__main__":
    typer.run(main)
