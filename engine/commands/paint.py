"""The pictures of `flagdit generate`: painted one after the other, each written when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from flagdit.engine.commands.common import say
from flagdit.engine.commands.names import Names
from flagdit.engine.commands.progress import redraws, working
from flagdit.engine.media import animation, metadata, picture
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.request import Request
from flagdit.engine.result import Result
from flagdit.files import write_all, write_file


def paint(pipeline: Pipeline, requests: Sequence[Request], names: Names) -> None:
    """One picture after the other, so that each is what it is alone; written when it is done."""
    done = 0
    _begin(pipeline, requests, names)
    try:
        for request in requests:
            result, previews = _run(pipeline, request, names)
            with names.taken() as paths:
                replaced = not names.numbered and paths["-o"].exists()
                write_all({path: partial(write, path, what, result, previews=previews) for what, path in paths.items()})
            done += 1
            _summary(result, paths["-o"], replaced)
    except KeyboardInterrupt:
        say(f"stopped after {done} of {len(requests)} pictures" + (", which are kept" if done else ""))
        raise


def _begin(pipeline: Pipeline, requests: Sequence[Request], names: Names) -> None:
    """Say it in a log, where no bar does."""
    if redraws():
        return
    run = pipeline.start(requests[0])
    what = names.next["-o"] if len(requests) == 1 else f"{len(requests)} pictures from {names.next['-o']} on"
    scale = pipeline.spec.latent.downscale
    width, height = run.layout.width * scale, run.layout.height * scale
    say(f"{what}: {len(run.planned)} steps of {width}x{height}, seed {requests[0].seeds[0]}")


def _run(pipeline: Pipeline, request: Request, names: Names) -> tuple[Result, list[Image.Image]]:
    """The finished run and, if its map is an animation, the preview after each of its steps."""
    run, paths = pipeline.start(request), names.next
    previews: list[Image.Image] = []
    animated = "--map" in paths and paths["--map"].suffix.lower() in animation.FORMATS
    with working(paths["-o"].name, sum(run.planned)) as work:
        for preview in run:
            step = preview.timed.step
            share = "dense" if step.dense else f"{step.active / run.plan.tokens:.0%} of the tokens"
            work.advance(run.planned[preview.index], share)
            if animated:
                previews.append(animation.thumbnail(preview.images[0]))
    return run.result(), previews


def write(path: Path, what: str, result: Result, *, previews: list[Image.Image]) -> None:
    report = result.report
    if what == "-o":
        result.save(path)
    elif what == "--report":
        write_file(path, report.model_dump_json(indent=1) + "\n")
    elif previews:
        animation.save(animation.frames(previews, result.ages[:, 0], report.steps, tokens=report.tokens), path)
    else:
        picture.save(result.map(), path, **metadata.options_of(report.alone(0), path))


def _summary(result: Result, output: Path, replaced: bool) -> None:
    report = result.report
    share = f"{report.flop_ratio:.0%} of the work of dense {report.solver}"
    full = sum(step.dense for step in report.steps)
    calls = "" if report.evaluations == len(report.steps) else f", {report.evaluations} evaluations"
    before = "; it took the place of a file of that name" if replaced else ""
    say(
        f"{output}  {report.size[0]}x{report.size[1]}, {len(report.steps)} steps ({full} dense{calls}) in "
        f"{report.seconds['total']:.2f} s on {report.backend}, {report.precision}, seed {report.seed}; {share}{before}"
    )
