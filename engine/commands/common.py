"""What several commands share: parsing, messages, writing files."""

from __future__ import annotations

import re
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, cast

import typer
from rich.console import Console

from flagdit.engine.cpu import Precision
from flagdit.engine.errors import OutputError, RequestError
from flagdit.engine.layout import Ntk
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.presets import DEFAULT, PRESETS, Preset, default_solver
from flagdit.engine.presets import preset as find_preset
from flagdit.engine.ras import DENSE, RasConfig, Solver

console = Console()
messages = Console(stderr=True)


def say(text: str) -> None:
    """Print one line to standard error as it is: no markup, so that a path may hold brackets, and no wrapping."""
    messages.print(text, markup=False, highlight=False, soft_wrap=True)


MODE_HELP = "How regions are chosen: corrected forgets none; paper does what the published code does (docs/ras.md)."
SCHEDULE_HELP = "PATCHES/STEPS: recompute so many patches fewer every so many steps, such as 256/4; static by default."


class Mode(StrEnum):
    """RasConfig.mode on the command line."""

    corrected = "corrected"
    paper = "paper"


PresetOption = Annotated[
    str | None,
    typer.Option(
        help=f"[bold]{'[/], [bold]'.join(PRESETS)}[/]: steps and ratios that are good together.", show_default=DEFAULT
    ),
]
StepsOption = Annotated[int | None, typer.Option(help="Steps from noise to picture.", show_default="the preset's")]
RatioOption = Annotated[
    str | None,
    typer.Option(
        metavar="R|FROM:TO",
        help="Share of the picture that a RAS step recomputes: the same in all, or falling in a line from FROM to TO.",
        show_default="the preset's",
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        metavar="float32|int8|int8-bf16",
        help="What the engine computes in.",
        show_default="the fastest that the bundle has and this CPU is made for",
    ),
]
BudgetOption = Annotated[
    float,
    typer.Option(
        "--error-budget",
        help="Let steps recompute more than the ratio, until what is kept is off by no more than this on average, in "
        "units of the velocity; try 0.05. 0 turns it off.",
    ),
]
ForecastKvOption = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        help="What a RAS step does not recompute keeps old keys and values: move them along the line through the last "
        "two that were computed, by this share of the way to the step's time; try 0.5. They take 2.5 to 3 times the "
        "memory then. 0 turns it off.",
    ),
]
GuidanceEveryOption = Annotated[
    int,
    typer.Option(
        metavar="K",
        help="After the first half of the steps run the unconditional branch of guidance only in each K-th, and reuse "
        "the difference of the branches in the others; 1 is every step.",
    ),
]
GuidanceWarmupOption = Annotated[
    int | None,
    typer.Option(
        metavar="STEPS", help="With --guidance-every: first steps that run both branches.", show_default="half of them"
    ),
]
SolverOption = Annotated[
    str | None,
    typer.Option(
        help="How a step is made: [bold]euler[/]; [bold]ab2[/], of second order at the same price; [bold]midpoint[/] "
        "or [bold]heun[/], of second order with two engine calls a step: give them half the steps.",
        show_default="ab2; in paper mode euler",
    ),
]


def sampling(
    preset: str | None,
    steps: int | None,
    solver: str | None,
    ratio: str | None,
    mode: Mode,
    schedule: str | None,
    dense: bool = False,
    error_budget: float = 0.0,
    guidance_every: int = 1,
    guidance_warmup: int | None = None,
    forecast_kv: float = 0.0,
) -> Preset:
    """What the options of a command say: the preset's steps and regions, where no option says something else."""
    for name, value in (
        ("preset", preset),
        ("ratio", ratio),
        ("schedule", schedule),
        ("error-budget", error_budget or None),
        ("forecast-kv", forecast_kv or None),
    ):
        if dense and value is not None:
            raise RequestError(f"--dense and --{name} {value} contradict each other; give one of them")
    chosen = find_preset(preset or DEFAULT)
    ras = DENSE if dense else chosen.ras
    if not dense and (ratio is not None or schedule is not None or mode is Mode.paper):
        skip, every = parse_schedule(schedule)
        which: Literal["paper", "corrected"] = "paper" if mode is Mode.paper else "corrected"
        ras = RasConfig(mode=which, skip_step=skip, skip_every=every)
        if ratio is not None:
            first, last = parse_ratio(ratio)
            ras = replace(ras, ratio=first, ratio_end=last)
    ras = replace(ras, error_budget=error_budget, guidance_every=guidance_every, guidance_warmup=guidance_warmup)
    ras = replace(ras, forecast_kv=forecast_kv)
    how = default_solver(ras) if solver is None else cast(Solver, solver)  # the plan refuses a name that is none
    return Preset(chosen.steps if steps is None else steps, how, ras)


def load(bundle: str, threads: int | None, precision: str | None) -> Pipeline:
    """The pipeline of a bundle, which knows the precisions that there are."""
    with messages.status("loading the bundle"):
        return Pipeline.load(bundle, threads=threads, precision=cast(Precision | None, precision))


def parse_ratio(text: str) -> tuple[float, float | None]:
    """ratio and ratio_end of R or FROM:TO; whether they are in their bounds, the plan checks."""
    number = r"(\d*\.?\d+)"
    match = re.fullmatch(f"{number}(?::{number})?", text.strip())
    if match is None:
        raise RequestError(f"ratio {text!r} is neither a number nor FROM:TO; for instance 0.25, or 0.5:0.125")
    return float(match[1]), None if match[2] is None else float(match[2])


def parse_schedule(text: str | None) -> tuple[int, int]:
    """skip_step and skip_every of a schedule written PATCHES/STEPS."""
    if text is None:
        return 0, 0
    match = re.fullmatch(r"(-?\d{1,6})/(\d{1,4})", text.strip())
    if match is None or 0 in (int(match[1]), int(match[2])):
        raise RequestError(f"schedule {text!r} is not PATCHES/STEPS, neither of them 0; for instance 256/4")
    return int(match[1]), int(match[2])


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height of a size written WxH."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip())
    if match is None:
        raise RequestError(f"size {text!r} is not WIDTHxHEIGHT; for instance 64x64")
    return int(match[1]), int(match[2])


NTK_HELP = "For sizes beyond training: multiply RoPE's theta. [bold]auto[/] is the area over the training area."


def parse_ntk(text: str) -> Ntk:
    """The NTK option: auto, off, or a factor, whose bounds the request knows."""
    if text in ("auto", "off"):
        return "auto" if text == "auto" else None
    try:
        return float(text)
    except ValueError:
        raise RequestError(f"ntk {text!r} is none of auto, off, and a factor; for instance --ntk 4") from None


def check_writable(path: Path | None, suffixes: tuple[str, ...]) -> None:
    """Raise OutputError now, rather than after a minute of work, if `path` cannot be written later."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"{path}: the name ends in {path.suffix or 'nothing'!r}; allowed are {', '.join(suffixes)}")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: there is no folder {folder}; make it first: mkdir -p {folder}")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give the name of a file")
    probe = folder / f".{path.name}.probe"  # asking for permission is not enough on every file system
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another path") from None
