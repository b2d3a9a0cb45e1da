"""What forecasting cached keys and values does to pictures, and what it costs.

    python benchmarks/forecast.py --first 8 --size 64x64 --json forecast.json      # the demo

Every share in turn on the same prompts and seeds. PSNR (dB) is to the dense fp32 picture of 100 ab2 steps, `gain` that
over the same plan without forecasts, ± over prompts. Time is CPU time over that without, the median of pairs; host is
the share of a run that passes between engine calls.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from flagdit.engine import PRESETS, Pipeline
from flagdit.engine.bench.exact import ExactPictures
from flagdit.engine.bench.measure import paint, psnr
from flagdit.engine.commands.common import check_writable, parse_size
from flagdit.engine.cpu import Precision
from flagdit.engine.layout import FloatArray
from flagdit.engine.presets import Preset, falling
from flagdit.files import write_file

PROMPTS = Path(__file__).parents[1] / "examples" / "emoji" / "prompts.txt"
SHARES = (0.0, 0.3, 0.5, 0.7, 1.0)
PLANS = {
    "20 steps, 8 dense, .6 to .3": Preset(20, "ab2", falling(8, 0.6, 0.3), 3.0),
    "24 steps, 8 dense, .4 to .15": Preset(24, "ab2", falling(8, 0.4, 0.15), 3.0),
    **{f"preset {name}": preset for name, preset in PRESETS.items()},
}


@dataclass
class Measured:
    """One plan with one share, over all prompts."""

    plan: str
    forecast_kv: float
    cost: float = 0.0
    psnr: list[float] = field(default_factory=list)  # dB, a prompt each
    cpu: list[float] = field(default_factory=list)  # seconds, a batch each
    host: list[float] = field(default_factory=list)
    cache_bytes: int = 0


def record(pipeline: Pipeline, row: Measured, prompts: list[str], seed: int, exact: FloatArray) -> None:
    """One batch of a row."""
    plan = PLANS[row.plan]
    how, size = replace(plan, ras=replace(plan.ras, forecast_kv=row.forecast_kv)), (exact.shape[3], exact.shape[2])
    start = time.process_time()
    result = paint(pipeline, how, prompts, first=seed, size=size)
    row.cpu.append(time.process_time() - start)
    seconds = result.report.seconds
    row.host.append(seconds["host"] / (seconds["host"] + seconds["denoise"]))
    row.psnr += psnr(result.latents, exact).tolist()
    row.cost, row.cache_bytes = result.report.flop_ratio, result.report.cache_bytes


def gained(psnr: Sequence[float], base: Sequence[float]) -> str:
    """dB over the base, on average and ± its standard error; of the same prompts in turn."""
    gain = np.subtract(psnr, base)
    error = gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else 0.0
    return f"{gain.mean():+.2f} ± {error:.2f}"


def show(rows: list[Measured]) -> None:
    """Print a table."""
    table = Table("plan", "share", "cost", "PSNR", "gain", "time", "host", "caches", header_style="bold", box=None)
    for row in rows:
        base = next(r for r in rows if r.plan == row.plan)
        ratio = float(np.median(np.divide(row.cpu, base.cpu)))
        quality = f"{np.mean(row.psnr):.2f}", gained(row.psnr, base.psnr)
        times = f"{ratio:.3f}", f"{np.median(row.host):.1%}", f"{row.cache_bytes / 2**20:.1f} MiB"
        table.add_row(row.plan, f"{row.forecast_kv:g}", f"{row.cost:.3f}", *quality, *times)
    Console(width=120).print(table)


def main(
    bundle: Annotated[str, typer.Option(help="A trained bundle.")] = "demo",
    prompts: Annotated[Path, typer.Option(help="One prompt a line.")] = PROMPTS,
    first: Annotated[int | None, typer.Option(min=1, help="Only so many of them.")] = None,
    size: Annotated[str | None, typer.Option(help="WxH; the model's own by default.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 1,
    precision: Annotated[str | None, typer.Option(help="The fastest by default.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    keep: Annotated[Path | None, typer.Option(help="A folder that keeps the exact pictures.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
) -> None:
    """Measure forecasts of keys and values on a trained bundle."""
    check_writable(json_path, (".json",))
    texts = prompts.read_text().splitlines()[:first]
    pipeline = Pipeline.load(bundle, threads=threads, precision=cast(Precision | None, precision))
    exact = ExactPictures(pipeline, parse_size(size), pipeline.spec.guidance.scale, folder=keep)
    rows = [Measured(plan, share) for plan in PLANS for share in SHARES]
    for at in range(0, len(texts), batch):
        some = texts[at : at + batch]
        pictures = exact(some, at)
        for row in rows:
            record(pipeline, row, some, at, pictures)
    show(rows)
    if json_path is not None:
        about = {"prompts": len(texts), "batch": batch, "precision": pipeline.stages.denoise.precision}
        write_file(json_path, json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
