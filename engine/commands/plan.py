"""`flagdit plan`: what a run will do, before it does it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from flagdit.cpp_ext import MAX_TOKENS, room
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.commands.coarse import CoarseOption
from flagdit.engine.commands.common import (
    MODE_HELP,
    SCHEDULE_HELP,
    ForecastKvOption,
    GuidanceEveryOption,
    GuidanceWarmupOption,
    Mode,
    NtkOption,
    PresetOption,
    RatioOption,
    ShiftOption,
    SolverOption,
    StepsOption,
    TimesOption,
    console,
    parse_ntk,
    parse_size,
    say_which,
)
from flagdit.engine.commands.outlook import Entry, Outlook, counted, priced
from flagdit.engine.commands.ras import RasOption
from flagdit.engine.commands.sampling import sampling
from flagdit.engine.commands.skip_layers import SkipLayerGuidanceOption, parse_skip_layer_guidance
from flagdit.engine.commands.tables import show
from flagdit.engine.cpu import available
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import model_shift
from flagdit.engine.memory import encoder_memory
from flagdit.engine.presets import presets_of
from flagdit.engine.resolve import resolve

LONG = 40  # steps: above it, equal ones share a line
BAR = 16
BLOCKS = {1: "▀", 2: "█", 3: "▓"}  # by the branches of guidance that a step runs


def plan(
    preset: PresetOption = None,
    steps: StepsOption = None,
    shift: ShiftOption = None,
    times: TimesOption = None,
    solver: SolverOption = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens of the picture, if no bundle says.")] = None,
    ratio: RatioOption = None,
    dense: Annotated[bool, typer.Option("--dense", help="Recompute everything in every step.")] = False,
    mode: Annotated[Mode, typer.Option(help=MODE_HELP)] = Mode.corrected,
    schedule: Annotated[str | None, typer.Option(help=SCHEDULE_HELP)] = None,
    forecast_kv: ForecastKvOption = None,
    guidance_every: GuidanceEveryOption = 1,
    guidance_warmup: GuidanceWarmupOption = None,
    skip_layer_guidance: SkipLayerGuidanceOption = None,
    coarse: CoarseOption = None,
    ras: RasOption = None,
    bundle: Annotated[
        str | None, typer.Option(help="Take tokens and costs from this bundle, or from the demo.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="WxH in pixels, with --bundle.")] = None,
    ntk: NtkOption = "off",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which steps are dense and why, what each computes and costs, and the speedup to expect.

    [dim]flagdit plan --steps 30 --tokens 4096 --ratio 0.25[/]

    [dim]flagdit plan --bundle demo --size 128x64[/]  with FLOPs and bytes, of one picture with guidance

    [dim]flagdit plan --tokens 4096 --ratio 0.5 --mode paper --schedule 256/4[/]  the paper's own schedule
    """
    if (tokens is None) == (bundle is None):
        raise RequestError("give either --tokens or --bundle; for instance: flagdit plan --tokens 4096")
    if tokens is not None and not 1 <= tokens <= MAX_TOKENS:
        raise RequestError(f"tokens is {tokens}; allowed are 1 to {MAX_TOKENS}")
    if size is not None and bundle is None:
        raise RequestError(f"--size {size} needs --bundle: only a bundle knows the tokens of a size")
    if ntk != "off" and bundle is None:
        raise RequestError(f"--ntk {ntk} needs --bundle: only a bundle knows what it changes")
    skips = parse_skip_layer_guidance(skip_layer_guidance)
    if skips is not None and bundle is None:
        raise RequestError("--skip-layer-guidance needs --bundle: only a bundle knows whether it can skip layers")
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
        guidance_every=guidance_every,
        guidance_warmup=guidance_warmup,
        forecast_kv=forecast_kv,
        coarse=coarse,
        ras=ras,
    )
    dimensions = parse_size(size)
    if bundle is not None:
        say_which(bundle)
        manifest = Bundle.open(bundle).manifest
        spec = manifest.model
        how = resolve(said, presets_of(spec, dimensions), model_shift(spec, dimensions))
        precisions = available(manifest)
        outlook = priced(how, spec, dimensions, ntk=parse_ntk(ntk), skips=skips, precisions=precisions)
        outlook = replace(outlook, encoder=encoder_memory(manifest))
    else:
        outlook = counted(resolve(said), tokens or 0)
    if as_json:
        typer.echo(json.dumps(_as_dict(outlook), indent=1))
    else:
        _print(outlook)


def _as_dict(outlook: Outlook) -> dict[str, object]:
    planned, cost = outlook.plan, outlook.cost
    return {
        "tokens": planned.tokens,
        "pinned": planned.pinned,
        "ratio": outlook.ras.ratios(len(planned.steps)),
        "mode": outlook.ras.mode,
        "max_age": planned.max_age,
        "least_max_age": outlook.least_age,
        "solver": outlook.solver,
        "weighted": outlook.weighted,
        "evaluations": outlook.evaluations,
        "flops": None if cost is None else sum(cost.flops),
        "cache_bytes": None if cost is None else cost.cache_bytes,
        "encoder_bytes": outlook.encoder,
        "memory": {name: needed.parts() | {"total": needed.total} for name, needed in outlook.memory.items()},
        "flop_ratio": outlook.flop_ratio,
        "expected_speedup": outlook.speedup,
        "steps": [
            {
                "index": entry.index,
                "t": entry.step.t,
                "t_next": entry.step.t_next,
                "tokens": entry.tokens,
                "active": entry.step.active,
                "dense": entry.step.dense,
                "why": entry.why,
                "unconditional": entry.branches > 1,
                "branches": entry.branches,
                "flops": entry.flops,
            }
            for entry in outlook.entries
        ],
    }


def _runs(outlook: Outlook) -> Iterator[list[Entry]]:
    """The lines of the table: single steps; in a long plan, equal consecutive ones together."""
    entries = outlook.entries
    if len(entries) <= LONG:
        yield from ([entry] for entry in entries)
        return
    for _, run in groupby(entries, key=lambda entry: (entry.step.active, entry.why, entry.branches)):
        yield list(run)


def _print(outlook: Outlook) -> None:
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("step", "t", "tokens", "computed", "why", *(["FLOPs"] if outlook.cost else [])):
        table.add_column(name, justify="left" if name in ("computed", "why") else "right", no_wrap=True)
    for run in _runs(outlook):
        (first, last), step = (run[0], run[-1]), run[0].step
        share, style = step.active / outlook.plan.tokens, "yellow" if step.dense else "cyan"
        block = BLOCKS[first.branches]
        bar = Text.assemble((f"{block * max(1, round(BAR * share)):<{BAR}}", style), f" {share:6.1%}")
        index, t = (f"{first.index}", f"{step.t:.3f}")
        if last is not first:
            index, t = f"{index}-{last.index}", f"{t}-{last.step.t:.3f}"
        why = Text(f"dense: {first.why}" if step.dense else "RAS", style)
        table.add_row(index, t, str(step.active), bar, why, *([] if first.flops is None else [quantity(first.flops)]))
    show(table)
    console.print()
    for line in _summary(outlook):
        console.print(line, highlight=False, soft_wrap=True)


def _summary(outlook: Outlook) -> Iterator[str]:
    planned = outlook.plan
    dense = sum(step.dense for step in planned.steps)
    sparse, calls = len(planned.steps) - dense, len(planned.evaluations)
    if outlook.coarse is not None:
        first = outlook.coarse
        yield f"coarse   {len(first.steps)} dense steps over {first.tokens} tokens, then larger with noise"
    yield f"steps    {dense} dense and {sparse} RAS steps over {planned.tokens} tokens, {calls} evaluations"
    if outlook.weighted:
        yield f"weights  every step has its own, in place of those of {outlook.solver}"
    if planned.max_age < 0:
        yield "regions  no bound on their age"
    else:
        yield f"regions  none older than {planned.max_age} steps; the plan has the capacity for {outlook.least_age}"
    if outlook.skipped:
        three, layers = sum(entry.branches == 3 for entry in outlook.entries), ", ".join(map(str, outlook.skipped))
        yield f"guidance ▓ a branch without the layers {layers} besides, in {three} steps"
    if not all(planned.unconditional):
        both, all_ = sum(planned.unconditional), len(planned.steps)
        yield f"guidance █ both branches in {both} steps, ▀ one in {all_ - both}, which reuse the difference"
    if planned.keeps.cache_slope:
        shares = sorted({share for share in planned.damping if share})
        share = f"{shares[0]:g}" if len(shares) == 1 else f"{shares[0]:g} to {shares[-1]:g}"
        yield f"caches   keys and values forecast by {share} of the way to the step's time"
    if planned.rest_text and sparse:
        yield f"text     computed in the dense steps, at rest in the {sparse} RAS steps"
    if outlook.cost is not None:
        flops, cache = sum(outlook.cost.flops), outlook.cost.cache_bytes
        yield f"price    {quantity(flops)}FLOPs, {quantity(cache)}B of caches in fp32; for one picture, with guidance"
    if outlook.memory:
        needed, present = [f"{quantity(m.total)}B with {name}" for name, m in outlook.memory.items()], room()
        held = "" if present is None else f"; this machine lets a process hold {quantity(present)}B"
        yield f"memory   about {', '.join(needed)}{held}"
    if outlook.encoder:
        yield f"encoders about {quantity(outlook.encoder)}B besides the weights, before the steps"
    share = f"{outlook.flop_ratio:.1%} of the work of dense {outlook.solver}"
    yield f"work     {share}, speedup up to {outlook.speedup:.2f}x"


def quantity(value: float) -> str:
    """A number in three digits with its prefix: 1.23 G."""
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:#.3g}".rstrip(".") + f" {prefix}"
    return f"{value:.0f} "
