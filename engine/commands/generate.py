"""`flagdit generate`: a sentence in, a picture out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from flagdit.engine import animation, picture
from flagdit.engine.commands.coarse import CoarseOption
from flagdit.engine.commands.common import (
    MODE_HELP,
    NTK_HELP,
    SCHEDULE_HELP,
    BudgetOption,
    ForecastKvOption,
    GuidanceEveryOption,
    GuidanceWarmupOption,
    Mode,
    PrecisionOption,
    PresetOption,
    RatioOption,
    ShiftOption,
    SolverOption,
    StepsOption,
    TimesOption,
    check_bundle_stays,
    check_writable,
    load,
    messages,
    parse_ntk,
    parse_size,
    sampling,
    say,
)
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.request import Request
from flagdit.engine.result import Result, check_paints
from flagdit.files import check_apart, write_all, write_file

MAPS = (".png", ".jpg", ".jpeg", *animation.FORMATS)


def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture should show.")],
    bundle: Annotated[str, typer.Option(help="A bundle directory, or the demo that comes with flagdit.")] = "demo",
    output: Annotated[Path, typer.Option("-o", "--output", help="The picture to write.")] = Path("out.png"),
    preset: PresetOption = None,
    steps: StepsOption = None,
    shift: ShiftOption = None,
    times: TimesOption = None,
    solver: SolverOption = None,
    size: Annotated[str | None, typer.Option(help="WxH in pixels; the model's own by default.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same picture; 0 to 2^64 - 1.")] = 0,
    guidance: Annotated[float, typer.Option(help="How strictly to follow the prompt; 1 turns guidance off.")] = 4.0,
    ratio: RatioOption = None,
    error_budget: BudgetOption = 0.0,
    forecast_kv: ForecastKvOption = None,
    guidance_every: GuidanceEveryOption = 1,
    guidance_warmup: GuidanceWarmupOption = None,
    coarse: CoarseOption = None,
    dense: Annotated[bool, typer.Option("--dense", help="Recompute everything in every step.")] = False,
    mode: Annotated[Mode, typer.Option(help=MODE_HELP)] = Mode.corrected,
    schedule: Annotated[str | None, typer.Option(help=SCHEDULE_HELP)] = None,
    ntk: Annotated[str, typer.Option(metavar="auto|FACTOR|off", help=NTK_HELP)] = "off",
    proportional: Annotated[
        bool, typer.Option(help="For sizes beyond training: a softmax that sharpens with the number of tokens.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")] = None,
    precision: PrecisionOption = None,
    report: Annotated[Path | None, typer.Option(help="Write what was planned and measured, as JSON.")] = None,
    map: Annotated[
        Path | None,
        typer.Option(help="Draw what was recomputed when: a picture, or an animation if it ends in .gif or .webp."),
    ] = None,
) -> None:
    """Generate a picture from a sentence.

    [dim]flagdit generate "a red apple on a blue background" --preset quality -o apple.png --map map.png[/]

    A preset says how: when its steps are, and what part of the picture each of them recomputes. Options change one
    thing of it each: --steps or --times, --ratio, --dense (everything in every step), --mode paper (as published).
    """
    check_writable(output, tuple(picture.FORMATS))
    check_writable(report, (".json",))
    check_writable(map, MAPS)
    outputs = {"-o": output, "--map": map, "--report": report}
    check_apart(outputs, {})
    more = (guidance_every, guidance_warmup, forecast_kv, coarse)
    said = sampling(preset, steps, solver, ratio, mode, schedule, shift, times, dense, error_budget, *more)
    pipeline = load(bundle, threads, precision)
    check_bundle_stays(pipeline.bundle, outputs)
    check_paints(pipeline.spec)
    dimensions = parse_size(size)
    how = pipeline.resolve(said, dimensions)
    request = Request.of(how, [prompt], [seed], dimensions, guidance, parse_ntk(ntk), proportional)
    animated = map is not None and map.suffix.lower() in animation.FORMATS
    result, previews = _run(pipeline, request, animated)
    writes = {output: partial(save_picture, result.image, output, result)}
    if map is not None and animated:
        writes[map] = partial(save_animation, previews, map, result)
    elif map is not None:
        writes[map] = partial(save_picture, result.map(), map, result)
    if report is not None:
        writes[report] = partial(write_file, report, result.report.model_dump_json(indent=1) + "\n")
    write_all(writes)
    _summary(result, output)


def _run(pipeline: Pipeline, request: Request, watch: bool) -> tuple[Result, list[Image.Image]]:
    """The finished run and, if asked to `watch`, the preview after each of its steps."""
    previews = []
    run = pipeline.start(request)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as progress:
        task = progress.add_task("text", total=sum(run.planned))
        for preview in run:
            step = preview.timed.step
            share = "dense" if step.dense else f"{step.active / run.plan.tokens:.0%} of the tokens"
            progress.update(task, advance=run.planned[preview.index], description=share)
            if watch:
                previews.append(animation.thumbnail(preview.images[0]))
    return run.result(), previews


def save_picture(image: Image.Image, path: Path, result: Result) -> None:
    """Write a picture; a PNG also says how it was made."""
    about = PngInfo()
    about.add_itxt("flagdit", result.report.model_dump_json(exclude={"steps", "seconds"}))
    picture.save(image, path, pnginfo=about)  # the other formats pass it over


def save_animation(previews: list[Image.Image], path: Path, result: Result) -> None:
    """Write what a run did, one frame a step."""
    report = result.report
    frames = animation.frames(previews, result.ages[:, 0], report.steps, report.tokens)
    animation.save(frames, path)


def _summary(result: Result, output: Path) -> None:
    report = result.report
    share = f"{report.flop_ratio:.0%} of the work of dense {report.solver}"
    full = sum(step.dense for step in report.steps)
    calls = "" if report.evaluations == len(report.steps) else f", {report.evaluations} evaluations"
    say(
        f"{output}  {report.size[0]}x{report.size[1]}, {len(report.steps)} steps ({full} dense{calls}) in "
        f"{report.seconds['total']:.2f} s on {report.backend}, {report.precision}; {share}"
    )
