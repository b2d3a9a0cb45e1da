"""`flagdit plan`: what a run will do, before it does it."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from flagdit.engine.bundle import Bundle
from flagdit.engine.commands.common import (
    MODE_HELP,
    SCHEDULE_HELP,
    Mode,
    SolverOption,
    console,
    parse_size,
    parse_solver,
    ras_config,
)
from flagdit.engine.cost import price
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import MAX_TOKENS, TokenLayout
from flagdit.engine.ras import Plan, make_plan


def plan(
    steps: Annotated[int, typer.Option(help="Steps from noise to picture.")] = 30,
    solver: SolverOption = "euler",
    tokens: Annotated[int | None, typer.Option(help="Tokens of the picture, if no bundle says.")] = None,
    ratio: Annotated[float, typer.Option(help="Share of the picture that a RAS step recomputes.")] = 0.25,
    mode: Annotated[Mode, typer.Option(help=MODE_HELP)] = Mode.corrected,
    schedule: Annotated[str | None, typer.Option(help=SCHEDULE_HELP)] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Take tokens and costs from this bundle, or from the demo.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="WxH in pixels, with --bundle.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which steps are dense, how many tokens the others compute, and the speedup to expect.

    [dim]flagdit plan --steps 30 --tokens 4096 --ratio 0.25[/]

    [dim]flagdit plan --tokens 4096 --ratio 0.5 --mode paper --schedule 256/4[/]  the paper's own schedule
    """
    if (tokens is None) == (bundle is None):
        raise RequestError("give either --tokens or --bundle; for instance: flagdit plan --tokens 4096")
    if tokens is not None and not 1 <= tokens <= MAX_TOKENS:
        raise RequestError(f"tokens is {tokens}; allowed are 1 to {MAX_TOKENS}")
    ras = ras_config(ratio, mode, schedule)
    if bundle is not None:
        spec = Bundle.load(bundle).model
        layout = TokenLayout.of(spec, parse_size(size))
        planned = make_plan(ras, steps, layout.tokens, layout.pinned, spec.flow.shift, parse_solver(solver))
        flop_ratio = price(spec, planned).flop_ratio
    else:
        planned = make_plan(ras, steps, tokens or 0, solver=parse_solver(solver))
        flop_ratio = sum(step.active for step in planned.steps) / (planned.tokens * steps)
    if as_json:
        typer.echo(json.dumps(_as_dict(planned, ratio, mode, flop_ratio, solver), indent=1))
    else:
        _print(planned, flop_ratio, solver)


def _as_dict(planned: Plan, ratio: float, mode: Mode, flop_ratio: float, solver: str) -> dict[str, object]:
    return {
        "tokens": planned.tokens,
        "pinned": planned.pinned,
        "ratio": ratio,
        "mode": mode.value,
        "max_age": planned.max_age,
        "solver": solver,
        "evaluations": len(planned.evaluations),
        "flop_ratio": flop_ratio,
        "expected_speedup": 1 / flop_ratio,
        "steps": [
            {"index": s.index, "t": s.t, "t_next": s.t_next, "active": s.active, "dense": s.dense}
            for s in planned.steps
        ],
    }


def _print(planned: Plan, flop_ratio: float, solver: str) -> None:
    table = Table(header_style="bold", box=None)
    for name in ("step", "t", "active", ""):
        table.add_column(name, justify="left" if not name else "right")
    width = 40
    for step in planned.steps:
        share = step.active / planned.tokens
        bar = "█" * max(1, round(width * share))
        style = "yellow" if step.dense else "cyan"
        label = f"[{style}]{bar}[/] {'dense' if step.dense else f'{share:.1%}'}"
        table.add_row(str(step.index), f"{step.t:.3f}", str(step.active), label)
    console.print(table)
    dense = sum(step.dense for step in planned.steps)
    calls = len(planned.evaluations)
    bound = "no bound on their age" if planned.max_age < 0 else f"none older than {planned.max_age} steps"
    console.print(
        f"{dense} dense and {len(planned.steps) - dense} RAS steps over {planned.tokens} tokens, {calls} evaluations, "
        f"{bound}: {flop_ratio:.1%} of the work of dense {solver}, speedup up to {1 / flop_ratio:.2f}x",
        highlight=False,
        soft_wrap=True,
    )
