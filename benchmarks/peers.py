"""flagdit beside torch, in one process on one CPU: dense, compiled, and with region-adaptive sampling as published.

    python benchmarks/peers.py --json peers.json                       # the demo at its own size
    python benchmarks/peers.py --size 128x128 --prompts 1 --steps 10   # four times the tokens, to compare times

All paint the same prompts in turn, from the same noise, weights and text features. Seconds are CPU time of one picture,
from prompt to latents, the median over the prompts; a picture of few steps that does not count comes first. "RAS" and
"paper mode" recompute a quarter of the patches. Speedup is over dense pictures of the same software, its bound what
FLOPs allow, and efficiency the one over the other. PSNR (dB) is to flagdit's dense picture, and to its twin, flagdit's
picture made the same way: in fp32 that must be the same one, in bf16 other regions may be chosen.

What is fair: torch's region-adaptive sampling is the published one but for what only costs time (it moves whole rows,
and self-attention has no mask); of two ways to compute in bf16 it takes the faster one; the compiler prepacks weights,
and its own time does not count; text is padded for it alone, which needs one shape. What is not:

- flagdit computes the text's keys and values and all modulations once a picture, torch in every step, as the published
  code does. Torch could be spared that work, too: it is no merit of a compiled graph.
- Eager torch pays for Python and for a kernel an operation, and the fewer the tokens the more, so most of all in the
  sparse steps: a low efficiency in a small picture says little about a large one, or about a GPU.
- flagdit computes in fp32, and in every other precision that the bundle has and the CPU is made for (docs/cpu.md).
  bf16 in torch is fast on a CPU that has AMX or AVX512-BF16, and slower than fp32 on others. Torch is not quantised.
- Region-adaptive sampling is not compiled in torch, though it could be.
- The preset "balanced" is another method, with its own ranking, ratios and solver: its picture is meant to differ.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from flagdit.engine import DENSE, PRESETS, BackendError, FlagditError, Pipeline, RasConfig, Solver
from flagdit.engine.commands.common import check_writable, parse_size, say
from flagdit.engine.layout import FloatArray, TokenLayout
from flagdit.export import ExportError
from flagdit.files import write_file
from peer_times import Peer, Picture, Row, measure, nearness, row, take
from torch_painter import Precision, TorchPainter, compiled, dense, precisions, regions, seconds_of_a_step
from torch_sampling import Published

PROMPTS = Path(__file__).parents[1] / "examples" / "emoji" / "prompts.txt"
PACKAGES = ("flagdit", "numpy", "onnxruntime", "torch")
GUIDANCE = 4.0
RATIO = 0.25
PAPER = RasConfig(RATIO, mode="paper")
WARM = PAPER.warmup + 2
"""Steps that come before those that count: some of them sparse."""
SAME = 40.0
"""dB that torch's dense picture must reach against flagdit's."""

FP32, BF16, COMPILED = "torch fp32", "torch bf16", "torch.compile bf16"
FP32_RAS, BF16_RAS = "torch fp32, RAS", "torch bf16, RAS"
OURS, PAPER_MODE, BALANCED = "flagdit float32", ", paper mode", ", balanced"


def published(steps: int) -> Published:
    """The options of PAPER for a run of so many steps."""
    return Published(RATIO, PAPER.warmup, tuple(PAPER.resets_of(steps)), PAPER.starvation)


def flagdits(pipeline: Pipeline, size: tuple[int, int], name: str) -> list[Peer]:
    """Dense, as published, and the preset "balanced"; the twins of those of another `name` are in fp32."""

    def peer(suffix: str, ras: RasConfig, solver: Solver = "euler") -> Peer:
        def paint(prompt: str, seed: int, steps: int, on_step: Callable[[], None]) -> FloatArray:
            how: dict[str, Any] = {"size": size, "guidance": GUIDANCE, "solver": solver, "ras": ras}
            return pipeline(prompt, seed=seed, steps=steps, on_step=lambda _: on_step(), **how).latents

        return Peer(name + suffix, name, None if name == OURS else OURS + suffix, paint, ras, solver)

    balanced = PRESETS["balanced"]
    return [peer("", DENSE), peer(PAPER_MODE, PAPER), peer(BALANCED, balanced.ras, balanced.solver)]


def torchs(pipeline: Pipeline, size: tuple[int, int], fp32: Precision, bf16: Precision) -> list[Peer]:
    """Dense and as published, in two precisions."""
    painter = partial(TorchPainter, pipeline, size, GUIDANCE)
    return [
        Peer(FP32, FP32, OURS, painter(fp32, dense(fp32.model))),
        Peer(BF16, BF16, OURS, painter(bf16, dense(bf16.model))),
        Peer(FP32_RAS, FP32, OURS + PAPER_MODE, painter(fp32, regions(fp32.model, published)), PAPER),
        Peer(BF16_RAS, BF16, OURS + PAPER_MODE, painter(bf16, regions(bf16.model, published)), PAPER),
    ]


def torch_compiled(pipeline: Pipeline, size: tuple[int, int], half: Precision, prompts: Sequence[str]) -> Peer:
    """Dense by torch.compile, all prompts as long as the longest."""
    longest = max(pipeline.stages.text.encode([prompt, ""])[0].shape[1] for prompt in prompts)
    paint = TorchPainter(pipeline, size, GUIDANCE, half, compiled(half.model), longest)
    return Peer(COMPILED, COMPILED, OURS, paint)


def check_same(pictures: Mapping[str, Sequence[Picture]]) -> None:
    """Raise BackendError unless torch and flagdit paint the same dense pictures."""
    near = min(nearness(pictures[FP32], pictures[OURS]))
    if near < SAME:
        raise BackendError(
            f"torch's dense picture is {near:.1f} dB from flagdit's; of the same weights it must be {SAME:g} or more, "
            "or the times compare nothing: is the bundle built in a lower precision?"
        )


def show(rows: Sequence[Row]) -> None:
    """Print two tables: of pictures, and of the steps that leave regions out."""
    pictures, steps = (Table(header_style="bold", box=None) for _ in range(2))
    pictures.add_column("a picture", no_wrap=True)
    steps.add_column("a step", no_wrap=True)
    for name in ("CPU s", "wall s", "ratio", "speedup", "bound", "eff.", "PSNR", "twin"):
        pictures.add_column(name, justify="right")
    for name in ("dense ms", "sparse ms", "work", "time", "eff."):
        steps.add_column(name, justify="right")
    for r in rows:
        got = r.regions
        gains = (got.speedup, got.bound, got.efficiency) if got else (None,) * 3
        sparse = (got.step * 1e3, got.step_work, got.step_time, got.step_efficiency) if got else (None,) * 4
        pictures.add_row(r.name, *map(cell, (r.seconds, r.wall, r.ratio, *gains, r.psnr_dense, r.psnr_twin)))
        steps.add_row(r.name, *map(cell, (r.step * 1e3, *sparse)))
    Console().print(pictures, steps, sep="\n\n")


def cell(value: float | None) -> str:
    """A number, or nothing."""
    return "" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def facts(pipeline: Pipeline) -> dict[str, Any]:
    """What was measured, and where."""
    return {
        "command": shlex.join(["benchmarks/peers.py", *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "device": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in PACKAGES},
        "model": pipeline.spec.name,
        "weights": pipeline.spec.weights.sha256,
    }


def benchmark(
    pipeline: Pipeline, size: tuple[int, int] | None, prompts: Sequence[str], steps: int, with_compiler: bool
) -> tuple[list[Row], dict[str, Any]]:
    """A row of each peer; and the rest: seconds of a bf16 step both ways, and of the compiler and a first picture."""
    layout = TokenLayout.of(pipeline.spec, size)
    canvas = layout.width, layout.height
    fp32, *halves = precisions(pipeline.bundle.directory)
    tried = [TorchPainter(pipeline, canvas, GUIDANCE, half, dense(half.model)) for half in halves]
    taken = seconds_of_a_step(tried, prompts[0])
    bf16 = halves[taken.index(min(taken))]
    peers = torchs(pipeline, canvas, fp32, bf16)
    for precision in reversed(pipeline.precisions):
        peers += flagdits(pipeline.at(precision), canvas, f"flagdit {precision}")
    if with_compiler:
        peers.insert(2, torch_compiled(pipeline, canvas, halves[0], prompts))
    warm = {peer.name: take(peer, prompts[0], 0, WARM).wall for peer in track(peers, "warming up", transient=True)}
    pictures = measure(peers, prompts, steps)
    check_same(pictures)
    before = {"bf16": bf16.name, "bf16_step": {half.name: s for half, s in zip(halves, taken, strict=True)}}
    rows = [row(pipeline.spec, layout, peer, pictures, OURS) for peer in peers]
    return rows, {"size": canvas, "tokens": layout.tokens, **before, "compiler_seconds": warm.get(COMPILED)}


def main(
    bundle: Annotated[str, typer.Option(help="A trained bundle.")] = "demo",
    prompts: Annotated[int, typer.Option(min=1, help="So many of examples/emoji/prompts.txt.")] = 4,
    size: Annotated[str | None, typer.Option(help="WxH; the model's own by default.")] = None,
    steps: Annotated[int, typer.Option(min=WARM, help="Steps of a picture.")] = 30,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch and of flagdit.")] = 1,
    compiler: Annotated[
        bool, typer.Option("--compile/--no-compile", help="torch.compile takes a minute or two.")
    ] = True,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
) -> None:
    """Measure torch and flagdit over the same pictures."""
    check_writable(json_path, (".json",))
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")  # in autocast norms stay in fp32
    texts = PROMPTS.read_text().splitlines()[:prompts]
    pipeline = Pipeline.load(bundle, threads=threads)
    rows, before = benchmark(pipeline, parse_size(size), texts, steps, compiler)
    show(rows)
    if json_path is not None:
        settings = {"prompts": len(texts), "steps": steps, "guidance": GUIDANCE, "threads": threads}
        about = {**facts(pipeline), **settings, **before}
        write_file(json_path, json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    try:
        typer.run(main)
    except (FlagditError, ExportError) as error:
        say(f"error: {error}")
        sys.exit(2)
