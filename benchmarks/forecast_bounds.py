"""How far forecasts of keys and values, and the ranking of regions, are from what bounds them.

    python benchmarks/forecast_bounds.py --size 64x64 --json bounds.json      # the demo; minutes

Each plan with regions ranked by `change` and chosen at random, and with keys and values of cached tokens that are
stale, forecast, or fresh: as a dense call would compute them in every step, which no plan can afford (bound_runs.py).
Beside it dense steps at no less work, on the best of a few shifts, and as many as the plan has. PSNR (dB) is to the
dense fp32 picture of 100 ab2 steps, `gain` that over the ranking with stale keys, ± over prompts.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bound_runs import BoundRun
from flagdit.engine import Pipeline
from flagdit.engine.bench.exact import ExactPictures
from flagdit.engine.bench.measure import psnr
from flagdit.engine.bench.settings import dense
from flagdit.engine.commands.common import check_writable, parse_size
from flagdit.engine.cpu import Precision
from flagdit.engine.layout import FloatArray
from flagdit.engine.presets import Preset, falling
from flagdit.engine.request import Request
from flagdit.files import write_file
from forecast import gained

PLANS = {
    "20 steps, 8 dense, .6 to .3": Preset(20, "ab2", falling(8, 0.6, 0.3), 3.0),
    "24 steps, 8 dense, .4 to .15": Preset(24, "ab2", falling(8, 0.4, 0.15), 3.0),
    "16 steps, 6 dense, .5 to .25": Preset(16, "ab2", falling(6, 0.5, 0.25), 3.0),
}
SHARES = (0.0, 0.5, 0.7)
SHIFTS = (2.5, 3.0, 4.0, 5.0)
"""Of the dense steps at no less work."""


@dataclass
class Row:
    """One way to make the pictures. work: FLOPs, in dense steps; of fresh keys, without what makes them fresh."""

    plan: str
    regions: str  # ranked, random, all
    keys: str  # stale, forecast .5, fresh ...
    how: Preset
    fresh: bool = False
    random: bool = False
    work: float = 0.0
    psnr: list[float] = field(default_factory=list)  # dB, a prompt each

    def record(self) -> dict[str, object]:
        """What is written of it."""
        own = {name: value for name, value in asdict(self).items() if name != "how"}
        return {**own, "steps": self.how.count, "shift": self.how.shift}


def rows_of(plan: str, how: Preset) -> list[Row]:
    """A plan in all ways; the first is what gains are measured by."""
    rows = []
    for regions in ("ranked", "random"):
        chance = regions == "random"
        for share in SHARES:
            keys = f"forecast {share:g}" if share else "stale"
            rows.append(Row(plan, regions, keys, replace(how, ras=replace(how.ras, forecast_kv=share)), random=chance))
        rows.append(Row(plan, regions, "fresh", replace(how, ras=replace(how.ras, forecast_kv=0.0)), True, chance))
    return rows


def dense_rows(plan: str, how: Preset, work: float) -> list[Row]:
    """Dense steps on the plan's own grid, and as many as its work allows, rounded up, on each of the shifts."""
    grids = [(how.count, how.shift), *((math.ceil(work), shift) for shift in SHIFTS)]
    return [Row(plan, "all", "-", dense(n, how.solver, shift)) for n, shift in grids]


def paint(pipeline: Pipeline, row: Row, prompt: str, seed: int, exact: FloatArray) -> None:
    """One picture of a row; exact (1, C, H, W)."""
    size = exact.shape[3], exact.shape[2]
    request = Request.of(row.how, [prompt], [seed], size=size)
    run = BoundRun(pipeline.stages, request, row.fresh, seed if row.random else None)
    for _ in run:
        pass
    result = run.result()
    row.psnr += psnr(result.latents, exact).tolist()
    row.work = result.report.flop_ratio * row.how.count


def measure(pipeline: Pipeline, plans: dict[str, Preset], prompts: list[str], exact: list[FloatArray]) -> list[Row]:
    """All rows of all plans; picture i has seed i. exact: (1, C, H, W) of each prompt."""

    def painted(rows: list[Row], what: str) -> list[Row]:
        for seed in track(range(len(prompts)), what, transient=True):
            for row in rows:
                paint(pipeline, row, prompts[seed], seed, exact[seed])
        return rows

    out = []
    for plan, how in plans.items():
        rows = painted(rows_of(plan, how), plan)
        out += rows + painted(dense_rows(plan, how, rows[0].work), f"{plan}: dense")
    return out


def show(rows: list[Row]) -> None:
    """Print a table."""
    table = Table("plan", "regions", "keys", "steps", "shift", "work", "PSNR", "gain", header_style="bold", box=None)
    for row in rows:
        base = next(r for r in rows if r.plan == row.plan)
        how = str(row.how.count), f"{row.how.shift:g}", f"{row.work:.1f}"
        near = f"{np.mean(row.psnr):.2f}", gained(row.psnr, base.psnr)
        table.add_row(row.plan, row.regions, row.keys, *how, *near)
    Console(width=120).print(table)


def main(
    bundle: Annotated[str, typer.Option(help="A trained bundle.")] = "demo",
    first: Annotated[int, typer.Option(min=1, help="So many of the bundle's example prompts.")] = 8,
    plan: Annotated[list[int] | None, typer.Option(help="Only the plans of so many steps: 16, 20, 24.")] = None,
    size: Annotated[str | None, typer.Option(help="WxH; the model's own by default.")] = None,
    precision: Annotated[str | None, typer.Option(help="The fastest by default.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    keep: Annotated[Path | None, typer.Option(help="A folder that keeps the exact pictures.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
) -> None:
    """Measure what bounds the forecasts of keys and values of a trained bundle."""
    check_writable(json_path, (".json",))
    plans = {name: how for name, how in PLANS.items() if not plan or how.count in plan}
    pipeline = Pipeline.load(bundle, threads=threads, precision=cast(Precision | None, precision))
    prompts = list(pipeline.spec.examples[:first])
    exactly = ExactPictures(pipeline, parse_size(size), pipeline.spec.guidance.scale, folder=keep)
    exact = [exactly([prompt], seed) for seed, prompt in enumerate(prompts)]
    rows = measure(pipeline, plans, prompts, exact)
    show(rows)
    if json_path is not None:
        picture = exact[0].shape
        about = {"prompts": len(prompts), "size": [picture[3], picture[2]], "precision": pipeline.precision}
        write_file(json_path, json.dumps({**about, "rows": [row.record() for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
