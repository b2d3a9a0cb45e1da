"""`flagdit bench`: does region-adaptive sampling beat fewer steps on this bundle, and how near is it to the bound?"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from flagdit.engine.bench import (
    FAMILIES,
    Entry,
    ExactPictures,
    Record,
    Samples,
    Setting,
    best_shifts,
    check,
    here,
    measure,
    settings,
)
from flagdit.engine.bench.exact import check_kept
from flagdit.engine.bench.measure import request_of
from flagdit.engine.bench.plot import pareto
from flagdit.engine.bench.settings import FEWER, STEPS, Grids, dense, dense_runs
from flagdit.engine.commands.common import (
    BackendOption,
    DeviceOption,
    GuidanceOption,
    PrecisionOption,
    ShiftOption,
    TimesOption,
    check_bundle_stays,
    check_writable,
    console,
    load,
    opened,
    parse_size,
    parse_times,
    read_prompts,
    say,
)
from flagdit.engine.commands.progress import working
from flagdit.engine.decoder import check_paints
from flagdit.engine.errors import BackendError
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.preflight import Preflight
from flagdit.engine.presets import Preset, presets_of
from flagdit.engine.ras import DENSE, Solver
from flagdit.engine.version import version_of
from flagdit.files import check_apart, write_all

PROMPTS = (
    "a red apple on a white background",
    "a rocket on a black background, modern style",
    "a panda on a green background",
    "a red heart on a white to pink gradient",
    "a sunflower on a blue and green background",
    "a car on a green background",
    "a red apple left of a blue book",
    "a birthday cake on a pink background",
)
"""For the demo; other models have other words."""
QUICK = (6, 14)
"""Numbers of dense steps, with --quick."""
TRIED = 8
"""Prompts, at most, that the best grids of dense steps are found by."""


def bench(
    bundle: Annotated[str, typer.Argument(help="A bundle directory, or the demo that comes with flagdit.")] = "demo",
    prompts: Annotated[
        Path | None, typer.Option(help="A text file, one prompt a line, # before a comment; eight by default.")
    ] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only so many of them.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only a few settings.")] = False,
    size: Annotated[str | None, typer.Option(help="WxH in pixels; the model's own by default.")] = None,
    guidance: GuidanceOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "onnxruntime",
    shift: ShiftOption = None,
    times: TimesOption = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep the exact pictures in this folder, for the next time.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Keep what was measured in this folder, and measure only the rest.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the Pareto front here, as PNG or SVG.")] = None,
) -> None:
    """Measure a bundle: time, cost and quality of dense sampling with fewer steps and of RAS, same prompts and seeds.

    [dim]flagdit bench demo --quick[/]

    [dim]flagdit bench BUNDLE --prompts prompts.txt --json bench.json --plot pareto.png[/]

    Quality is the likeness to the dense picture of 100 steps. All settings take turns on every batch of prompts, and
    times are ratios to 30 dense steps of the same run, so that a busy machine disturbs them little. Dense steps get the
    time shift that suits each number of them best, found by the first prompts, or --shift; --times adds dense steps of
    ab2 between times of your own. With --resume a measurement that was stopped goes on: give it the same options, on
    the same machine.
    """
    check_writable(json_path, (".json",))
    check_writable(plot, (".png", ".svg"))
    outputs = {"--json": json_path, "--plot": plot, "--keep": keep, "--resume": resume}
    check_apart(outputs, {"--prompts": prompts})
    for module in ("skimage", *(["matplotlib"] if plot else [])):
        if importlib.util.find_spec(module) is None:
            raise BackendError(f"{module} is not installed; install it with: pip install 'flagdit[bench]'")
    texts = (list(PROMPTS) if prompts is None else read_prompts(prompts))[:first]
    dimensions = parse_size(size)
    own = None if times is None else Setting("dense, own times", "ab2", Preset(parse_times(times), "ab2", DENSE))
    ready = opened(bundle, threads, precision, device=device, backend=backend)
    check_bundle_stays(ready.bundle, outputs)
    check_paints(ready.spec)
    scale = ready.spec.guidance.chosen(guidance)
    chosen = partial(_settings, presets_of(ready.spec, dimensions), quick, own)
    _check(ready, chosen(_grids(shift, quick)), texts, batch=batch, size=dimensions, guidance=scale)
    check_kept(keep)
    kept = None if resume is None else Samples(resume, here(threads))
    pipeline = load(ready)
    width, height = dimensions or pipeline.spec.latent.size
    record = Record(json_path, _facts(pipeline, len(texts), (width, height), threads=threads, batch=batch))
    exactly = ExactPictures(pipeline, dimensions, scale, folder=keep)
    try:
        _measure(pipeline, chosen, exactly, kept, texts=texts, batch=batch, shift=shift, quick=quick, record=record)
    finally:
        _report(record, len(texts))
    writes: dict[Path, Callable[[], None]] = {} if json_path is None else {json_path: record.write}
    if plot is not None:
        title = f"{pipeline.spec.name}, {width}x{height}, {len(texts)} prompts"
        writes[plot] = partial(pareto, record.entries, plot, title)
    write_all(writes)
    for path in writes:
        say(f"wrote {path}")


def _check(
    ready: Preflight,
    chosen: list[Setting],
    texts: list[str],
    *,
    batch: int,
    size: tuple[int, int] | None,
    guidance: float,
) -> None:
    """Raise RequestError for all that would end the measurement later."""
    check(ready, chosen, texts, batch=batch, size=size, guidance=guidance)
    for together in (texts[:TRIED], texts[:batch]):  # grids are tried, and converged pictures painted, in fp32
        ready.check(
            request_of(ready.spec, dense(STEPS, "ab2"), together, first=0, size=size, guidance=guidance),
            precision="float32",
        )


def _grids(shift: float | None, quick: bool) -> dict[tuple[Solver, int], float]:
    """The shifts of dense steps, as they are said, or before they are looked for."""
    return dict.fromkeys(dense_runs(QUICK if quick else FEWER), 1.0 if shift is None else shift)


def _settings(presets: Mapping[str, Preset], quick: bool, own: Setting | None, grids: Grids) -> list[Setting]:
    if quick:
        chosen = settings(presets, grids, QUICK, ratios=(0.25,))
        chosen = [setting for setting in chosen if setting.family != "uncalibrated"]
    else:
        chosen = settings(presets, grids)
    return sorted(chosen if own is None else [*chosen, own], key=lambda setting: list(FAMILIES).index(setting.family))


def _measure(
    pipeline: Pipeline,
    chosen: Callable[[Grids], list[Setting]],
    exactly: ExactPictures,
    kept: Samples | None,
    *,
    texts: list[str],
    batch: int,
    shift: float | None,
    quick: bool,
    record: Record,
) -> None:
    """The entries, batch after batch, and the shifts of the dense ones: into the record."""
    grids = _grids(shift, quick)
    if shift is None:
        with working("best grids of dense steps", len(grids), remaining=True) as work:
            for key, best in best_shifts(pipeline, texts[:TRIED], exactly, list(grids), kept=kept):
                grids[key] = best
                work.advance()
    for (solver, steps), best in grids.items():
        record.shift(solver, steps, best)
    measured = measure(pipeline, chosen(grids), texts, batch=batch, exactly=exactly, kept=kept)
    with working("batches of prompts", -(-len(texts) // batch), remaining=True) as work:
        for number, entries in enumerate(measured, 1):
            record.keep(entries, min(number * batch, len(texts)))
            work.advance()


def _report(record: Record, prompts: int) -> None:
    """What was measured; also if something ended it before all of so many prompts were done."""
    if record.entries:
        show(record.entries)
    if 0 < record.prompts < prompts:
        kept = "" if record.path is None else f", and kept in {record.path}"
        say(f"stopped after {record.prompts} of {prompts} prompts; what they gave is above{kept}")


def show(entries: list[Entry]) -> None:
    """In 80 columns: preset names have 32 letters at most."""
    wide = max(len(entry.name) for entry in entries)
    console.print(f"{'':{wide}}   cost time eff. host    PSNR dB  SSIM    MiB", style="bold", soft_wrap=True)
    for family, members in groupby(entries, key=lambda entry: entry.family):
        console.print(FAMILIES[family], highlight=False, soft_wrap=True)
        for entry in members:
            parts = f"{entry.cost:4.2f} {entry.time:4.2f} {entry.efficiency:4.2f} {entry.host:4.0%}"
            quality = f"{entry.psnr:4.1f} ± {entry.psnr_error:3.1f} {entry.ssim:5.3f}"
            console.print(
                f"  {entry.name:{wide}} {parts} {quality} {entry.cache_bytes / 2**20:6.1f}",
                soft_wrap=True,
                markup=False,
            )
    console.print(
        "cost: FLOPs, time: CPU seconds, both over those of 30 dense Euler steps", highlight=False, soft_wrap=True
    )
    console.print(
        "eff.: speedup of model calls over 1 / cost; host: time between; MiB: caches",
        highlight=False,
        soft_wrap=True,
    )


def _facts(pipeline: Pipeline, prompts: int, size: tuple[int, int], *, threads: int, batch: int) -> dict[str, object]:
    return {
        "version": version_of("flagdit"),
        **here(threads),
        "precision": pipeline.precision,
        "model": pipeline.spec.name,
        "weights": pipeline.spec.weights.sha256,
        "of": prompts,
        "batch": batch,
        "size": size,
    }
