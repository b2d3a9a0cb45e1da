"""What each option of region-adaptive sampling does to a picture, and what it costs.

    python benchmarks/options.py --first 12 --json options.json      # the demo

Every setting is one change to the base, the preset "balanced", over the same prompts and seeds, interleaved. PSNR (dB)
and SSIM are to the dense fp32 picture of 100 ab2 steps; cost is FLOPs and time is CPU time, over 30 dense Euler steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from flagdit.engine import DENSE, PRESETS, Pipeline, RasConfig
from flagdit.engine.bench import Entry, ExactPictures, Setting, measure
from flagdit.engine.bench.settings import dense
from flagdit.engine.commands.common import check_writable, parse_size
from flagdit.engine.presets import Preset, falling
from flagdit.files import write_file

PROMPTS = Path(__file__).parents[1] / "examples" / "emoji" / "prompts.txt"
BASE = PRESETS["balanced"]
FLAT: dict[str, Any] = {"ratio": 0.25, "ratio_end": None}
CHANGES: dict[str, dict[str, Any]] = {
    "base": {},
    "the same ratio in all steps, .25, two resets": {**FLAT, "resets": None},
    "ranked by std": {"metric": "std"},
    "ranked by L2": {"metric": "l2"},
    "no starvation term, no bound on ages": {"starvation": 0.0},
    "forecast of order 1": {"forecast": 1},
    "forecast of order 2": {"forecast": 2},
    "forecast of order 1, norm kept": {"forecast": 1, "forecast_norm": True},
    "dilation .7": {"dilation": 0.7},
    "warm-up of 2 steps": {"warmup": 2},
    "warm-up of 6 steps": {"warmup": 6},
    "error budget .02 over a ratio of .0625": {"ratio": 0.0625, "ratio_end": None, "error_budget": 0.02},
    "error budget .05 over a ratio of .0625": {"ratio": 0.0625, "ratio_end": None, "error_budget": 0.05},
    "gate .05": {"gate": 0.05},
    "gate .1": {"gate": 0.1},
    "ratio .45 to .1": {"ratio": 0.45},
    "ratio .375 to .0625": {"ratio": 0.375, "ratio_end": 0.0625},
    "unconditional every 2nd step after 4": {"guidance_every": 2, "guidance_warmup": 4},
    "unconditional every 2nd step after 15": {"guidance_every": 2, "guidance_warmup": 15},
    "unconditional for 15 steps": {"guidance_every": 30, "guidance_warmup": 15},
    "unconditional for 20 steps": {"guidance_every": 30, "guidance_warmup": 20},
}
REUSE: dict[str, dict[str, Any]] = {
    "": {},
    ", unconditional every 2nd step after 4": {"guidance_every": 2, "guidance_warmup": 4},
    ", unconditional every 3rd step after 4": {"guidance_every": 3, "guidance_warmup": 4},
    ", unconditional every 3rd step after 8": {"guidance_every": 3, "guidance_warmup": 8},
    ", unconditional every 3rd step after 15": {"guidance_every": 3, "guidance_warmup": 15},
}
"""Of dense steps, where what is reused is all that differs."""
FINE = falling(6, 0.9, 0.5)


def settings() -> Iterator[Setting]:
    """30 dense Euler steps, the base and its changes, then with other solvers; dense steps that reuse guidance."""
    yield Setting("dense 30", "dense", dense(30))
    for name, change in CHANGES.items():
        yield Setting(name, "flagdit", replace(BASE, ras=replace(BASE.ras, **change)))
    yield Setting("euler", "flagdit", replace(BASE, solver="euler"))
    yield Setting(
        "heun, half the steps", "flagdit", Preset(BASE.count // 2, "heun", replace(BASE.ras, warmup=4), BASE.shift)
    )
    yield Setting("paper mode .25", "paper", Preset(30, "euler", RasConfig(ratio=0.25, mode="paper")))
    for name, change in REUSE.items():
        yield Setting(f"dense, ab2{name}", "ab2", Preset(30, "ab2", replace(DENSE, **change)))
    for steps in (25, 23):
        yield Setting(f"dense, ab2, {steps} steps", "ab2", dense(steps, "ab2"))
    yield Setting("ratio .9 to .5 after 6", "flagdit", Preset(30, "ab2", FINE))
    reused = replace(FINE, guidance_every=30, guidance_warmup=20)
    yield Setting("ratio .9 to .5 after 6, unconditional for 20 steps", "flagdit", Preset(30, "ab2", reused))


def show(entries: list[Entry]) -> None:
    """Print a table."""
    table = Table("setting", "cost", "time", "host", "PSNR dB", "SSIM", header_style="bold", box=None)
    for entry in entries:
        quality = f"{entry.psnr:.2f} ± {entry.psnr_error:.2f}", f"{entry.ssim:.3f}"
        table.add_row(entry.name, f"{entry.cost:.3f}", f"{entry.time:.3f}", f"{entry.host:.1%}", *quality)
    Console().print(table)


def main(
    bundle: Annotated[str, typer.Option(help="A trained bundle.")] = "demo",
    prompts: Annotated[Path, typer.Option(help="One prompt a line.")] = PROMPTS,
    first: Annotated[int | None, typer.Option(min=1, help="Only so many of them.")] = None,
    size: Annotated[str | None, typer.Option(help="WxH; the model's own by default.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 4,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
) -> None:
    """Measure every option on a trained bundle."""
    check_writable(json_path, (".json",))
    texts, chosen = prompts.read_text().splitlines()[:first], list(settings())
    pipeline = Pipeline.load(bundle, threads=threads)
    entries: list[Entry] = []
    batches = measure(
        pipeline,
        chosen,
        texts,
        batch=batch,
        exactly=ExactPictures(pipeline, parse_size(size), pipeline.spec.guidance.scale),
    )
    for done in track(batches, "painting", total=-(-len(texts) // batch), transient=True):
        entries = done
    show(entries)
    if json_path is not None:
        facts = {"prompts": len(texts), "size": size or pipeline.spec.latent.size, "threads": threads}
        about = {**facts, "weights": pipeline.spec.weights.sha256, "rows": [asdict(entry) for entry in entries]}
        write_file(json_path, json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
