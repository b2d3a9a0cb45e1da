"""`flagdit generate`: sentences in, pictures out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from flagdit.cpp_ext import MAX_SEED
from flagdit.engine.commands.coarse import CoarseOption
from flagdit.engine.commands.common import (
    MODE_HELP,
    SCHEDULE_HELP,
    BackendOption,
    BudgetOption,
    DeviceOption,
    ForecastKvOption,
    GuidanceEveryOption,
    GuidanceOption,
    GuidanceWarmupOption,
    Mode,
    NtkOption,
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
    opened,
    parse_ntk,
    parse_size,
    read_prompts,
)
from flagdit.engine.commands.names import Names
from flagdit.engine.commands.paint import paint
from flagdit.engine.commands.ras import RasOption
from flagdit.engine.commands.sampling import sampling
from flagdit.engine.commands.skip_layers import SkipLayerGuidanceOption, parse_skip_layer_guidance
from flagdit.engine.decoder import check_paints
from flagdit.engine.errors import RequestError
from flagdit.engine.media import animation, picture
from flagdit.engine.request import Given, Request, drawn_seed
from flagdit.files import check_apart

MAPS = (".png", ".jpg", ".jpeg", *animation.FORMATS)
MAX_PICTURES = 10_000
"""Of one command."""

PromptsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="PROMPT", help="What the picture should show; a picture for each.", show_default=False),
]
OutputOption = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        help="The picture to write, PNG, JPEG or WebP. Several are numbered, and never replace another: "
        "out-0001.png and so on; where the name has %04d; or in a folder, if it is one.",
    ),
]
FileOption = Annotated[
    Path | None, typer.Option("--prompts", help="A text file, one prompt a line, # before a comment.")
]
SeedOption = Annotated[
    str, typer.Option(metavar="N|random", help="The same seed gives the same picture; 0 to 2^64 - 1.")
]
ProportionalOption = Annotated[
    bool, typer.Option(help="For sizes beyond training: a softmax that sharpens with the number of tokens.")
]
StrengthOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="How much of the way from noise is gone, and so what share of the steps: above 0 to 1.",
        show_default="0.6, with a mask 1",
    ),
]
TileOption = Annotated[
    str,
    typer.Option(metavar="PIXELS|auto|off", help="Decode in tiles of that side, which take less memory."),
]
ReportOption = Annotated[Path | None, typer.Option(help="Write what was planned and measured, as JSON.")]
MapOption = Annotated[
    Path | None,
    typer.Option(help="Draw what was recomputed when: a picture, or an animation if it ends in .gif or .webp."),
]


def generate(
    prompts: PromptsArgument = None,
    bundle: Annotated[str, typer.Option(help="A bundle directory, or the demo that comes with flagdit.")] = "demo",
    output: OutputOption = Path("out.png"),
    file: FileOption = None,
    count: Annotated[int, typer.Option(help="Pictures of each prompt, of the seeds that follow each other.")] = 1,
    negative: Annotated[str, typer.Option(metavar="TEXT", help="What the picture should not show.")] = "",
    preset: PresetOption = None,
    steps: StepsOption = None,
    shift: ShiftOption = None,
    times: TimesOption = None,
    solver: SolverOption = None,
    size: Annotated[str | None, typer.Option(help="WxH in pixels; the model's own by default.")] = None,
    seed: SeedOption = "0",
    guidance: GuidanceOption = None,
    skip_layer_guidance: SkipLayerGuidanceOption = None,
    ratio: RatioOption = None,
    error_budget: BudgetOption = 0.0,
    forecast_kv: ForecastKvOption = None,
    guidance_every: GuidanceEveryOption = 1,
    guidance_warmup: GuidanceWarmupOption = None,
    coarse: CoarseOption = None,
    ras: RasOption = None,
    dense: Annotated[bool, typer.Option("--dense", help="Recompute everything in every step.")] = False,
    mode: Annotated[Mode, typer.Option(help=MODE_HELP)] = Mode.corrected,
    schedule: Annotated[str | None, typer.Option(help=SCHEDULE_HELP)] = None,
    ntk: NtkOption = "off",
    proportional: ProportionalOption = False,
    image: Annotated[Path | None, typer.Option(help="A picture to begin with; the size is its own.")] = None,
    strength: StrengthOption = None,
    mask: Annotated[Path | None, typer.Option(help="White where the image is painted anew; the rest stays.")] = None,
    tile: TileOption = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")] = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "onnxruntime",
    report: ReportOption = None,
    map: MapOption = None,
) -> None:
    """Generate pictures from sentences.

    [dim]flagdit generate "a red apple on a blue background" --preset quality -o apple.png --map map.png[/]

    [dim]flagdit generate "an apple" "a banana" --count 3 --seed random -o pictures/%03d.jpg[/]

    [dim]flagdit generate --prompts prompts.txt --negative "a face" -o FOLDER[/]

    [dim]flagdit generate "a rocket" --ratio 0.3 --ras warmup=5 --ras max_age=6[/]

    A preset says how: when its steps are, and what part of the picture each of them recomputes. Options change one
    thing of it each: --steps or --times, --ratio, --dense (everything in every step), --mode paper (as published).
    A picture says how it was made: flagdit inspect PICTURE.
    """
    texts, first = _texts(prompts, file), parse_seed(seed)
    names = _names(output, map, report, several=_several(len(texts), count))
    check_apart(names.next, {"--prompts": file, "--image": image, "--mask": mask})
    said = sampling(
        preset=preset,
        steps=steps,
        solver=solver,
        ratio=ratio,
        mode=mode,
        schedule=schedule,
        shift=shift,
        times=times,
        dense=dense,
        error_budget=error_budget,
        guidance_every=guidance_every,
        guidance_warmup=guidance_warmup,
        forecast_kv=forecast_kv,
        coarse=coarse,
        ras=ras,
    )
    given = Given.of(image, mask, strength, tile=parse_tile(tile))
    dimensions, factor = given.sized(parse_size(size)), parse_ntk(ntk)
    ready = opened(bundle, threads, precision, device=device, backend=backend)
    check_bundle_stays(ready.bundle, names.next)
    check_paints(ready.spec)
    how, scale = ready.resolve(said, dimensions), ready.spec.guidance.chosen(guidance)
    request_of = partial(
        Request.of,
        how,
        size=dimensions,
        guidance=scale,
        skip_layer_guidance=parse_skip_layer_guidance(skip_layer_guidance),
        ntk=factor,
        proportional=proportional,
        negative=negative,
        options=said,
        given=given,
    )
    requests = [request_of([text], [first + i]) for text in texts for i in range(count)]
    for request in {request.prompts[0]: request for request in requests}.values():
        ready.check(request)  # refused now, not after an hour
    paint(load(ready), requests, names)


def parse_seed(text: str) -> int:
    """A seed, drawn if it is `random`. Raises RequestError; of its bounds the request knows."""
    if text.strip() == "random":
        return drawn_seed()
    try:
        return int(text)
    except ValueError:
        raise RequestError(
            f"seed {text!r} is neither a whole number of 0 to {MAX_SEED} (2^64 - 1) nor random"
        ) from None


def parse_tile(text: str) -> int | None:
    """Pixels of a tile's side, 0 for none, None for what memory asks for; of its bounds the request knows."""
    if text in ("auto", "off"):
        return None if text == "auto" else 0
    try:
        return int(text)
    except ValueError:
        raise RequestError(f"tile {text!r} is none of auto, off, and pixels; for instance --tile 512") from None


def _texts(prompts: Sequence[str] | None, file: Path | None) -> list[str]:
    if bool(prompts) == (file is not None):
        raise RequestError('give either prompts or a file of them; for instance: flagdit generate "a red apple"')
    return list(prompts or ()) if file is None else read_prompts(file)


def _several(prompts: int, count: int) -> bool:
    if not 1 <= count * prompts <= MAX_PICTURES:
        raise RequestError(f"{prompts} prompts and a count of {count}; allowed are 1 to {MAX_PICTURES} pictures in all")
    return count * prompts > 1


def _names(output: Path, map: Path | None, report: Path | None, *, several: bool) -> Names:
    """Raises OutputError if there cannot be such files."""
    given = {"-o": output, "--map": map, "--report": report}
    names = Names({what: path for what, path in given.items() if path is not None}, several)
    for what, path in names.next.items():
        check_writable(path, {"-o": tuple(picture.FORMATS), "--map": MAPS, "--report": (".json",)}[what])
    return names
