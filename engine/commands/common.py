"""What several commands share: parsing, messages, writing files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer

from flagdit.engine.bundle.reader import MANIFEST, Bundle
from flagdit.engine.commands.terminal import console as console
from flagdit.engine.commands.terminal import messages as messages
from flagdit.engine.commands.terminal import say as say
from flagdit.engine.cpu import Precision, unused
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import Ntk
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.preflight import Preflight
from flagdit.engine.presets import DEFAULT, PRESETS
from flagdit.files import check_apart, check_file

MODE_HELP = "How regions are chosen: corrected forgets none; paper does what the published code does (docs/ras.md)."
SCHEDULE_HELP = "PATCHES/STEPS: recompute so many patches fewer every so many steps, such as 256/4; static by default."


class Mode(StrEnum):
    """RasConfig.mode on the command line."""

    corrected = "corrected"
    paper = "paper"


PresetOption = Annotated[
    str | None,
    typer.Option(
        help=f"[bold]{'[/], [bold]'.join(PRESETS)}[/], or another that the bundle was calibrated for (flagdit "
        "inspect shows them): times, steps and ratios that are good together.",
        show_default=DEFAULT,
    ),
]
StepsOption = Annotated[int | None, typer.Option(help="Steps from noise to picture.", show_default="the preset's")]
ShiftOption = Annotated[
    float | None,
    typer.Option(
        help="Time shift: above 1, steps are short at the start and long at the end; 1 makes them even.",
        show_default="the preset's, or the model's own",
    ),
]
TimesOption = Annotated[
    str | None,
    typer.Option(
        metavar="0,...,1", help="The times that the steps lie between, instead of a number of steps and a shift."
    ),
]
RatioOption = Annotated[
    str | None,
    typer.Option(
        metavar="R|FROM:TO",
        help="Share of the picture that a RAS step recomputes: the same in all, or falling in a line from FROM to TO. "
        "Which steps are dense stays the preset's choice.",
        show_default="the preset's",
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What the engine computes in: float32, int8 or int8-bf16, on a GPU also float16 or bfloat16.",
        show_default="the fastest that the bundle has and this machine is made for",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(metavar="auto|cpu|cuda", help="Where to compute; auto is a GPU if one can be used (docs/gpu.md)."),
]
BackendOption = Annotated[
    str,
    typer.Option(
        metavar="onnxruntime|tensorrt|tensorrt-rtx",
        help="What runs the engine; tensorrt and tensorrt-rtx, if the bundle has one for this GPU.",
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
    float | None,
    typer.Option(
        metavar="SHARE",
        help="What a RAS step does not recompute keeps old keys and values: move them along the line through the last "
        "two that were computed, by this share of the way to the step's time; try 0.5. They take 2.5 to 3 times the "
        "memory then. 0 turns it off.",
        show_default="the preset's",
    ),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option(
        help="How strictly to follow the prompt: the scale of guidance; 1 turns it off.",
        show_default="the model's own",
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
        "or [bold]heun[/], of second order with two evaluations of the model a step: give them half the steps.",
        show_default="ab2; in paper mode euler",
    ),
]


def opened(
    bundle: str, threads: int | None, precision: str | None, *, device: str = "cpu", backend: str = "onnxruntime"
) -> Preflight:
    """A bundle that is not loaded yet, but knows what can be asked for, and the precisions that there are."""
    say_which(bundle)
    known = cast(Precision | None, precision)
    return Preflight(Bundle.open(bundle), threads, known, device=device, backend=backend)


def load(ready: Preflight) -> Pipeline:
    """The pipeline of a bundle; of large ones that takes minutes."""
    with messages.status("loading the bundle"):
        pipeline = Pipeline.of(ready)
    if pipeline.chosen.device == "cuda":
        return pipeline
    for line in unused(engine for engine in pipeline.bundle.manifest.engines if engine.target != "onnxruntime"):
        say(f"{line}; denoise runs in {pipeline.precision} on the CPU")
    return pipeline


def say_which(bundle: str) -> None:
    """The demo is meant by its name wherever one is; a bundle of that name here has to be said otherwise."""
    if bundle == "demo" and (Path(bundle) / MANIFEST).is_file():
        say("demo is the bundle that comes with flagdit; for the one in this folder say ./demo")


def read_prompts(path: Path) -> list[str]:
    """The prompts of a text file, one a line; # begins a comment. Raises RequestError if none is left."""
    if not path.is_file():
        raise RequestError(f"{path}: there is no such file; give a text file with one prompt a line")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    texts = [line for line in lines if line and not line.startswith("#")]
    if not texts:
        raise RequestError(f"{path}: holds no prompt; give one a line")
    return texts


def parse_ratio(text: str) -> tuple[float, float | None]:
    """ratio and ratio_end of R or FROM:TO; whether they are in their bounds, the plan checks."""
    number = r"(\d*\.?\d+)"
    match = re.fullmatch(f"{number}(?::{number})?", text.strip())
    if match is None:
        raise RequestError(f"ratio {text!r} is neither a number nor FROM:TO; for instance 0.25, or 0.5:0.125")
    return float(match[1]), None if match[2] is None else float(match[2])


def parse_times(text: str) -> tuple[float, ...]:
    """Times written with commas; whether they are in order, the plan checks."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise RequestError(f"times {text!r} are not numbers with commas; for instance 0,0.05,0.15,0.4,1") from None


def parse_schedule(text: str) -> tuple[int, int]:
    """skip_step and skip_every of a schedule written PATCHES/STEPS."""
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


NtkOption = Annotated[
    str,
    typer.Option(
        metavar="auto|FACTOR|off",
        help="For sizes beyond training: scale RoPE. [bold]auto[/] is the model's own rule, such as the area's growth.",
    ),
]


def parse_ntk(text: str) -> Ntk:
    """The NTK option: auto, off, or a factor, whose bounds the request knows."""
    if text in ("auto", "off"):
        return "auto" if text == "auto" else None
    try:
        return float(text)
    except ValueError:
        raise RequestError(f"ntk {text!r} is none of auto, off, and a factor; for instance --ntk 4") from None


def check_writable(path: Path | None, suffixes: tuple[str, ...]) -> None:
    """Raise OutputError now, rather than after a minute of work, if `path` is given and cannot be written later."""
    if path is not None:
        check_file(path, suffixes)


def check_bundle_stays(bundle: Bundle, outputs: Mapping[str, Path | None]) -> None:
    """Raise OutputError if an output would replace a file of the bundle that a command reads."""
    check_apart(outputs, {f"{name} of the bundle": bundle.path(name) for name in (MANIFEST, *bundle.manifest.files)})
