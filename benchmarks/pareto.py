"""Does region-adaptive sampling beat fewer steps? Likeness to the exact picture and to the prompt, over time.

    python benchmarks/pareto.py --prompts 500 --json pareto.json --plot pareto.png

`flagdit bench` on held-out scenes of the demo, with the measures of quality.py besides: whether the object and the
background are right, and the distance to the exact picture in the features of a classifier of icons.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import emoji_quality  # noqa: F401 (finds the modules of the example)
from emoji_quality.colour import pixels
from emoji_quality.judge import Judge
from emoji_quality.training import key, load_classifier
from flagdit.engine import FlagditError, Pipeline
from flagdit.engine.bench import FAMILIES, Entry, ExactPictures, Samples, best_shifts, here, measure, settings
from flagdit.engine.bench.plot import pareto
from flagdit.engine.bench.settings import FEWER, dense_runs
from flagdit.engine.commands.common import check_writable, parse_size
from flagdit.engine.layout import FloatArray
from flagdit.engine.ras import Solver
from flagdit.files import write_file
from quality import DATA, SCENES, check_canvas, facts, read_icons
from scenes import Scene


class Measures:
    """The measures of pictures of known scenes."""

    def __init__(self, judge: Judge, scenes: list[Scene]) -> None:
        self.judge, self.scenes = judge, scenes

    def __call__(self, pictures: FloatArray, exact: FloatArray, first: int) -> dict[str, npt.NDArray[np.float64]]:
        """Of each picture (B, C, H, W): shares of right objects, background right, distance to the exact one."""
        scenes = self.scenes[first : first + len(pictures)]
        verdicts = [self.judge.verdict(pixels(x), scene) for x, scene in zip(pictures, scenes, strict=True)]
        clipped = (torch.from_numpy(np.clip(x, -1, 1)) for x in (pictures, exact))
        with torch.no_grad():
            distance = self.judge.classifier.perceptual(*clipped)
        return {
            "top1": np.array([np.mean([rank == 1 for rank in v.ranks]) for v in verdicts]),
            "top5": np.array([np.mean([rank <= 5 for rank in v.ranks]) for v in verdicts]),
            "background": np.array([float(v.background) for v in verdicts]),
            "perceptual": distance.double().numpy(),
        }


def show(entries: list[Entry]) -> None:
    """Print a table."""
    names = ("setting", "cost", "time", "PSNR dB", "SSIM", "perceptual", "top-1", "top-5", "background")
    table = Table(*names, header_style="bold", box=None)
    for entry in entries:
        more = (f"{entry.extra[name]:.1%}" for name in ("top1", "top5", "background"))
        quality = f"{entry.psnr:.2f} ± {entry.psnr_error:.2f}", f"{entry.ssim:.3f}", f"{entry.extra['perceptual']:.3f}"
        table.add_row(entry.name, f"{entry.cost:.3f}", f"{entry.time:.3f}", *quality, *more)
    Console().print(table)


def searched(fewer: Sequence[int], lines: Collection[str]) -> list[tuple[Solver, int]]:
    """Dense runs whose best grid is looked for: those of the lines, and the first, whose grid RAS as published has."""
    first, *others = dense_runs(fewer)
    return [first, *(run for run in others if ("dense" if run[0] == "euler" else run[0]) in lines)]


def main(
    bundle: Annotated[str, typer.Option(help="A bundle of the demo.")] = "demo",
    folder: Annotated[Path, typer.Option("--data", help="The rendered icons.")] = DATA,
    prompts: Annotated[int, typer.Option(min=2, help="How many held-out prompts.")] = 500,
    size: Annotated[str | None, typer.Option(help="WxH; the model's own by default.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 4,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    dense: Annotated[
        list[int] | None, typer.Option(min=1, help="A number of dense steps to compare with; may be repeated.")
    ] = None,
    tried: Annotated[int, typer.Option(min=1, help="Of the prompts, how many find the grids of dense steps.")] = 8,
    also: Annotated[str | None, typer.Option(help="A bundle whose presets are compared besides the own ones.")] = None,
    line: Annotated[
        list[str] | None, typer.Option(help="Only this line of the plot; may be repeated: " + ", ".join(FAMILIES) + ".")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep the exact pictures in this folder, for the next time.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Keep what was measured in this folder, and measure only the rest.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw PSNR over time here, as PNG or SVG.")] = None,
) -> None:
    """Compare RAS with fewer steps on held-out prompts of the demo."""
    check_writable(json_path, (".json",))
    check_writable(plot, (".png", ".svg"))
    if not set(line or ()) <= set(FAMILIES):
        raise typer.BadParameter(f"--line is {', '.join(line or ())}; allowed are {', '.join(FAMILIES)}")
    torch.set_num_threads(threads)
    data, pipeline = read_icons(folder), Pipeline.load(bundle, threads=threads)
    canvas = parse_size(size) or pipeline.spec.latent.size
    check_canvas(canvas, pipeline)
    scenes = data.scenes(prompts, canvas, np.random.default_rng(SCENES), held_out=True)
    measures = Measures(Judge(data, load_classifier(data, folder), canvas), scenes)
    entries: list[Entry] = []
    count = 0
    texts = [scene.caption() for scene in scenes]
    exactly = ExactPictures(pipeline, canvas, pipeline.spec.guidance.scale, folder=keep)
    fewer = sorted(dense or FEWER, reverse=True)
    presets = {**pipeline.presets(canvas)}
    if also is not None:
        other = Pipeline.load(also, threads=threads)
        presets |= {f"{name} of {other.spec.name}": how for name, how in other.presets(canvas).items()}
    lines = FAMILIES if line is None else line
    runs = searched(fewer, lines)
    kept = None if resume is None else Samples(resume, {**here(threads), "classifier": key(data, folder)})
    grids = dict(track(best_shifts(pipeline, texts[:tried], exactly, runs, kept=kept), "grids", len(runs)))
    first, *others = settings(presets, grids, fewer)
    chosen = [first, *(setting for setting in others if setting.family in lines)]
    batches = measure(pipeline, chosen, texts, batch=batch, exactly=exactly, extra=measures, kept=kept)
    for done in track(batches, "painting", total=-(-prompts // batch), transient=True):
        entries, count = done, min(count + batch, len(texts))
        if json_path is not None:  # after every batch: a long run that is stopped has not been for nothing
            about = {
                **facts(pipeline),
                "shifts": {f"{n} {solver}": s for (solver, n), s in grids.items()},
                "prompts": count,
                "guidance": exactly.guidance,
                "size": canvas,
                "threads": threads,
            }
            write_file(json_path, json.dumps({**about, "rows": [asdict(entry) for entry in entries]}, indent=1) + "\n")
    show(entries)
    if plot is not None:
        pareto(entries, plot, f"{pipeline.spec.name}, {canvas[0]}x{canvas[1]}, {count} prompts")


if __name__ == "__main__":
    try:
        typer.run(main)
    except FlagditError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(2)
