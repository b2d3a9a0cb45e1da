"""Does a model paint what a prompt says? Objects, backgrounds and places of pairs that it was never trained on.

    python benchmarks/quality.py --json quality.json --sheet quality.png      # the demo, 500 prompts

The ceiling is what the same measures say of real renders of the same scenes. The Frechet distance is to other real
renders of them, the ceiling's is its floor. How pictures are judged is said in `emoji_quality/judge.py`.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import emoji_quality  # noqa: F401 (it finds `data` and `scenes`)
from data import PATCH, Canvas, EmojiData
from emoji_quality.classifier import Classifier
from emoji_quality.colour import FloatArray
from emoji_quality.frechet import picture_distance
from emoji_quality.judge import Judge, Summary, Verdict, summary
from emoji_quality.places import KINDS, fits, kind
from emoji_quality.sheet import write_sheet
from emoji_quality.training import key, load_classifier
from flagdit.engine import FlagditError, Pipeline, Preset, RequestError
from flagdit.engine.bench.measure import paint
from flagdit.engine.commands.coarse import CoarseOption
from flagdit.engine.commands.common import (
    GuidanceOption,
    Mode,
    PresetOption,
    RatioOption,
    ShiftOption,
    SolverOption,
    StepsOption,
    check_writable,
    parse_size,
    say,
)
from flagdit.engine.commands.sampling import sampling
from flagdit.files import write_file
from scenes import STYLES, Scene

DATA = Path("data/emoji")
ALL = "all"
PACKAGES = ("flagdit", "numpy", "onnxruntime", "torch")
SCENES, CEILING, REFERENCE = range(3)
"""Seeds: of the scenes, and of the two sets of real renders."""


@dataclass(frozen=True)
class Settings:
    """How pictures are generated, the seed of each being its number."""

    how: Preset
    guidance: float
    batch: int


@dataclass(frozen=True)
class Row:
    """The measures of one set of pictures: of all, of every kind of scene and of every style."""

    frechet: float
    groups: dict[str, Summary]


@dataclass(frozen=True)
class Result:
    """Scenes, and by "generated" and "ceiling": pictures (B, 3, H, W), their verdicts and measures.

    evaluations: what a generated picture costs, in dense ones.
    """

    scenes: list[Scene]
    evaluations: float
    pictures: dict[str, FloatArray]
    verdicts: dict[str, list[Verdict]]
    rows: dict[str, Row]


def read_icons(folder: Path) -> EmojiData:
    """The vocabulary of the demo, rendered. Raises RequestError with the command that prepares it."""
    if not (folder / "icons.json").exists():
        raise RequestError(
            f"{folder} holds no icons; prepare them (examples/emoji/README.md): npm install fluentui-emoji@1.3.0 && "
            f"python examples/emoji/data.py --icons node_modules/fluentui-emoji/icons --folder {folder}"
        )
    return EmojiData(folder)


def check_canvas(canvas: Canvas, pipeline: Pipeline) -> None:
    """Raise RequestError unless the demo's icons were rendered for pictures of this size, and it paints pixels."""
    if pipeline.spec.latent.space != "pixels":
        raise RequestError("the bundle ends in VAE latents; this benchmark judges pixels")
    if not fits(canvas, PATCH):
        raise RequestError(f"there are no icons for pictures of {canvas[0]}x{canvas[1]}; for instance 64x64 has some")


def paint_all(
    pipeline: Pipeline, scenes: Sequence[Scene], canvas: Canvas, settings: Settings
) -> tuple[FloatArray, float]:
    """A picture of each scene, (B, 3, H, W), and what one costs, in dense evaluations."""
    parts, cost = [], 0.0
    for first in track(range(0, len(scenes), settings.batch), "painting", transient=True):
        texts = [scene.caption() for scene in scenes[first : first + settings.batch]]
        result = paint(pipeline, settings.how, texts, first=first, size=canvas, guidance=settings.guidance)
        parts.append(result.latents)
        cost += result.report.flop_ratio * settings.how.evaluations * len(texts) / len(scenes)
    return np.concatenate(parts), cost


def row(classifier: Classifier, pictures: FloatArray, reference: FloatArray, groups: dict[str, list[Verdict]]) -> Row:
    """The measures of pictures (B, 3, H, W) whose verdicts are known."""
    summaries = {name: summary(verdicts) for name, verdicts in groups.items()}
    return Row(picture_distance(classifier, pictures, reference), summaries)


def grouped(scenes: Sequence[Scene], verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """The verdicts by kind of scene and by style; groups without any are left out."""
    pairs = list(zip(scenes, verdicts, strict=True))
    kinds = {name: [v for scene, v in pairs if kind(scene) == name] for name in KINDS}
    styles = {f"{name or 'no'} style": [v for scene, v in pairs if scene.style == name] for name in (*STYLES, None)}
    return {name: group for name, group in {ALL: list(verdicts), **kinds, **styles}.items() if group}


def show(rows: dict[str, Row]) -> None:
    """Print the rows for all pictures and for each kind of scene; styles are in the JSON only."""
    table = Table("scenes", "pictures", "number", "top-1", "top-5", "background", "place", "Frechet", box=None)
    for group in (ALL, *KINDS):
        for name, row in rows.items():
            if group in row.groups:
                got = row.groups[group]
                shares = ("-" if x is None else f"{x:.1%}" for x in (got.top1, got.top5, got.background, got.place))
                table.add_row(group, name, str(got.pictures), *shares, f"{row.frechet:.3f}" if group == ALL else "")
    Console().print(table)


def facts(pipeline: Pipeline) -> dict[str, Any]:
    """What was measured, and where."""
    return {
        "command": shlex.join([f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "device": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in PACKAGES},
        "model": pipeline.spec.name,
        "precision": pipeline.precision,
        "weights": pipeline.spec.weights.sha256,
    }


def benchmark(pipeline: Pipeline, data: EmojiData, judge: Judge, count: int, settings: Settings) -> Result:
    """Paint and judge so many held-out scenes, and real renders of them."""
    canvas, classifier = judge.canvas, judge.classifier
    scenes = data.scenes(count, canvas, np.random.default_rng(SCENES), held_out=True)
    real, reference = (data.paint_all(scenes, canvas, np.random.default_rng(seed)) for seed in (CEILING, REFERENCE))
    painted, evaluations = paint_all(pipeline, scenes, canvas, settings)
    sets = {"generated": painted, "ceiling": real}
    verdicts = {name: judge(pictures, scenes, f"judging: {name}") for name, pictures in sets.items()}
    rows = {
        name: row(classifier, pictures, reference, grouped(scenes, verdicts[name])) for name, pictures in sets.items()
    }
    return Result(scenes, evaluations, sets, verdicts, rows)


def main(
    bundle: Annotated[str, typer.Option(help="A trained bundle.")] = "demo",
    folder: Annotated[Path, typer.Option("--data", help="The rendered icons; the classifier is kept there.")] = DATA,
    prompts: Annotated[int, typer.Option(min=2, help="How many held-out prompts.")] = 500,
    preset: PresetOption = None,
    steps: StepsOption = None,
    shift: ShiftOption = None,
    solver: SolverOption = None,
    ratio: RatioOption = None,
    dense: Annotated[bool, typer.Option("--dense", help="Recompute everything in every step.")] = False,
    coarse: CoarseOption = None,
    guidance: GuidanceOption = None,
    size: Annotated[str | None, typer.Option(help="WxH; the model's own by default.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures painted at a time.")] = 10,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine and of the classifier.")] = 1,
    json_path: Annotated[Path | None, typer.Option("--json", "--out", help="Write the results here.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a PNG of pictures beside real ones here.")] = None,
    shown: Annotated[int, typer.Option(min=1, help="How many the sheet shows.")] = 48,
) -> None:
    """Measure how often a bundle paints the right objects, backgrounds and places."""
    check_writable(json_path, (".json",))
    check_writable(sheet, (".png",))
    torch.set_num_threads(threads)
    data, pipeline = read_icons(folder), Pipeline.load(bundle, threads=threads)
    canvas = parse_size(size) or pipeline.spec.latent.size
    said = sampling(
        preset=preset,
        steps=steps,
        solver=solver,
        ratio=ratio,
        mode=Mode.corrected,
        schedule=None,
        shift=shift,
        dense=dense,
        coarse=coarse,
    )
    settings = Settings(pipeline.resolve(said, canvas), pipeline.spec.guidance.chosen(guidance), batch)
    check_canvas(canvas, pipeline)
    judge = Judge(data, load_classifier(data, folder), canvas)
    result = benchmark(pipeline, data, judge, prompts, settings)
    show(result.rows)
    say(f"{result.evaluations:.2f} dense evaluations a picture: {result.evaluations / 30:.3f} of 30")
    if sheet is not None:
        generated, real = (pictures[:shown] for pictures in result.pictures.values())
        write_sheet(sheet, generated, real, result.scenes[:shown], result.verdicts["generated"][:shown])
    if json_path is not None:
        about = {**facts(pipeline), **asdict(settings), "prompts": prompts, "size": canvas, "threads": threads}
        about["evaluations"] = result.evaluations
        rows = {name: asdict(row) for name, row in result.rows.items()}
        write_file(json_path, json.dumps({**about, "classifier": key(data, folder), **rows}, indent=1) + "\n")


if __name__ == "__main__":
    try:
        typer.run(main)
    except FlagditError as error:
        say(f"error: {error}")
        sys.exit(2)
