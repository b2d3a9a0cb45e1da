"""`flagdit calibrate`: find the plans that suit a bundle, and write them into it as presets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flagdit.engine.bundle import Manifest, Preset
from flagdit.engine.bundle.reader import MANIFEST, Bundle, read_spec, write_manifest
from flagdit.engine.calibrate import NAMES, Calibration, check_requests, merged, name_of
from flagdit.engine.commands.common import (
    GuidanceOption,
    PrecisionOption,
    check_writable,
    load,
    opened,
    parse_size,
    read_prompts,
    say,
)
from flagdit.engine.commands.progress import redraws, working
from flagdit.engine.commands.tables import preset_table, show
from flagdit.engine.decoder import check_paints
from flagdit.engine.errors import OutputError, RequestError
from flagdit.engine.pipeline import Pipeline
from flagdit.files import check_apart, locked

BUDGETS = ",".join(f"{cost:g}" for cost in NAMES)
FOLDER = ".calibration"
"""Beside the manifest, while it lasts: what is done already."""
PATIENCE = 30.0
"""Seconds to wait for another calibration that writes its presets."""


def calibrate(
    bundle: Annotated[str, typer.Argument(help="A bundle directory, or demo.")],
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="A text file, one prompt a line, # before a comment: 24 are enough, 96 the most.",
            show_default="the bundle's examples",
        ),
    ] = None,
    budget: Annotated[
        str, typer.Option(metavar="COST,...", help="Costs to find plans for, in FLOPs over those of 30 dense steps.")
    ] = BUDGETS,
    size: Annotated[str | None, typer.Option(help="WxH in pixels; the model's own by default.")] = None,
    guidance: GuidanceOption = None,
    effort: Annotated[
        int, typer.Option(min=0, max=50, help="Rounds of fitting; 0 chooses shapes and shifts alone.")
    ] = 2,
    regions: Annotated[
        bool, typer.Option("--regions/--no-regions", help="With --no-regions, dense plans alone compete.")
    ] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")] = None,
    precision: PrecisionOption = None,
) -> None:
    """Find the best plan for each budget, and write the plans into the bundle as presets.

    [dim]flagdit calibrate BUNDLE --prompts prompts.txt[/]

    [dim]flagdit calibrate demo --size 128x128 --budget .2,.33[/]

    A plan says when its steps are, what each of them recomputes, and how it goes on from there. Plans compete, dense
    ones among them, by how near they come to the converged picture (100 dense steps); the best is fitted, and checked
    on prompts that had no part in it. Stopped, it goes on where it was when it is called again.
    """
    budgets, dimensions = parse_budgets(budget), parse_size(size)
    texts = None if prompts is None else read_prompts(prompts)
    ready = opened(bundle, threads, precision)
    check_paints(ready.spec)
    texts = list(ready.spec.examples) if texts is None else texts
    if not texts:
        raise RequestError("the bundle has no examples; give prompts of its kind with --prompts FILE, one a line")
    scale = ready.spec.guidance.chosen(guidance)
    check_requests(ready, texts, dimensions, guidance=scale)
    _check_writable(ready.bundle)
    check_apart({"the manifest": ready.bundle.path(MANIFEST)}, {"--prompts": prompts})
    found = _find(load(ready), texts, dimensions, guidance=scale, budgets=budgets, effort=effort, regions=regions)
    show(preset_table(found))
    say(f"wrote {len(found)} presets into {bundle}; next: flagdit generate PROMPT --bundle {bundle} --preset NAME")


def parse_budgets(text: str) -> list[float]:
    """Costs written with commas."""
    try:
        budgets = sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise RequestError(f"budget {text!r} is not a list of costs; for instance .13,.33") from None
    if not all(0.03 <= budget <= 2 for budget in budgets):
        raise RequestError(f"budget is {text}; allowed are .03 (one dense step of 30) to 2")
    if len({name_of(budget) for budget in budgets}) < len(budgets):
        raise RequestError(f"budget is {text}; two of the costs are too near each other to have names of their own")
    return budgets


def _find(
    pipeline: Pipeline,
    texts: list[str],
    size: tuple[int, int] | None,
    *,
    guidance: float,
    budgets: list[float],
    effort: int,
    regions: bool,
) -> list[Preset]:
    """The plans, written into the bundle; what was kept on the way is gone then."""
    folder, found = pipeline.bundle.directory / FOLDER, list[Preset]()
    with (
        working("budgets", len(budgets)) as work,
        Calibration(pipeline, texts, size, guidance=guidance, folder=folder, progress=work.now) as calibration,
    ):
        for budget in budgets:
            with _kept():
                found.append(calibration.plan(budget, effort, regions=regions))
            work.advance()
            if not redraws():
                say(f"{found[-1].name}: {found[-1].psnr['held_out']} dB at a cost of {found[-1].cost}")
        write_presets(pipeline.bundle, found)
        calibration.forget()
    return found


@contextmanager
def _kept() -> Iterator[None]:
    """Say what is left when a result cannot be written."""
    try:
        yield
    except OutputError as error:
        raise OutputError(f"{error}; what is done is kept: the same command goes on from there") from None


def _check_writable(bundle: Bundle) -> None:
    try:
        check_writable(bundle.directory / MANIFEST, (".json",))
    except OutputError as error:
        raise OutputError(f"{error}, such as that of a copy of the bundle, which can be calibrated") from None


def write_presets(bundle: Bundle, found: list[Preset]) -> None:
    """Put presets into a bundle's manifest as it is by now, in place of those of the same names and sizes.

    Waits for another that does the same. Raises OutputError if it cannot be written, or is no longer of the same model.
    """
    with locked(bundle.directory, PATIENCE):
        manifest = read_spec(bundle.directory / MANIFEST, Manifest)
        if manifest.model.weights.sha256 != bundle.model.weights.sha256:
            raise OutputError(
                f"{bundle.directory}: holds another model by now than the presets are of; calibrate it anew"
            )
        model = manifest.model.model_copy(update={"presets": merged(manifest.model.presets, found)})
        with _kept():
            write_manifest(bundle.directory, manifest.model_copy(update={"model": model}))
