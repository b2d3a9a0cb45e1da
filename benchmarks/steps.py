"""Time of a RAS step over that of a dense step, beside the FLOP ratio.

    python benchmarks/steps.py                     # 256 and 1024 patches, 2 rows, 1 thread
    python benchmarks/steps.py --sides 8 --sides 16 --sides 32 --json steps.json --plot steps.png
    python benchmarks/steps.py --bundle demo       # the fastest engine of a bundle, or that of --precision
    python benchmarks/steps.py --device cuda       # ONNX Runtime's CUDA provider, if onnxruntime-gpu is installed

Inputs are random, and so are weights unless a bundle is given: this measures speed, not quality. All step kinds run in
turn in one process, and process CPU time is compared, because wall time of a shared machine is noise; on a GPU wall
time is. Efficiency is FLOP ratio / time ratio. Of a model whose text may rest (`rest_text`), steps are done both ways.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Protocol, cast

import numpy as np
import onnxruntime
import torch
import typer
from rich.console import Console
from rich.table import Table

from cuda_session import CudaSession
from flagdit.cpp_ext import step_flops
from flagdit.engine.bench.plot import save as save_figure
from flagdit.engine.bundle import Engine, Graph, ModelSpec, Tensor
from flagdit.engine.bundle.builder import read_model
from flagdit.engine.bundle.ports import begins, caches, is_text, twin
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.commands.common import PrecisionOption, check_writable
from flagdit.engine.cost import sizes_of
from flagdit.engine.cpu import Precision, choose
from flagdit.engine.layout import TokenLayout
from flagdit.engine.session import Array, GraphFile, open_session
from flagdit.export import ExportOptions, FlagDiT, FlagDiTConfig, export_model
from flagdit.files import write_file

RATIOS = (1.0, 0.5, 0.25, 0.125)
Kind = tuple[int, bool]
"""Active tokens of a step, and whether its text rests."""
MODELS = {
    "S": FlagDiTConfig(dim=384, n_layers=12, n_heads=6, patch_size=2, learn_sigma=True, cap_feat_dim=768),
    "M": FlagDiTConfig(dim=768, n_layers=16, n_heads=12, patch_size=2, learn_sigma=True, cap_feat_dim=768),
}


@dataclass(frozen=True)
class Cell:
    """One measurement: a step with `active` of `tokens`, its median milliseconds and ratios to the dense step.

    rests: whether it computed no text.
    """

    patches: int
    ratio: float
    active: int
    tokens: int
    milliseconds: float
    time_ratio: float
    flop_ratio: float
    efficiency: float
    rests: bool = False


class Bound(Protocol):
    """A step whose inputs and outputs have their places."""

    def run(self) -> None: ...


class Session(Protocol):
    """A graph that is loaded on some device."""

    def bind(self, tensors: Mapping[str, Array]) -> Bound: ...


def random(tensor: Tensor, sizes: Mapping[str, int]) -> Array:
    """Values of an input or output, small ones, or zeros of integers; aligned to 64 bytes, as a run's are."""
    values = torch.randn([sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape]) * 0.1
    made = values.to(getattr(torch, tensor.dtype))
    array: Array = (made.view(torch.uint16) if made.dtype == torch.bfloat16 else made).numpy()
    return array


def step_kinds(session: Session, ports: Graph | Engine, layout: TokenLayout, rows: int, text: int) -> dict[Kind, Bound]:
    """A bound step for every kind, all over the same arrays: a cache is one, with the text behind its slots."""
    tensors, n = (*ports.inputs, *ports.outputs), layout.tokens
    adds = {tensor.name.replace("_text", "_tail") for tensor in ports.outputs if begins(tensor, "T")}
    sizes = {"A": n, "M": n + text, "R": rows, "T": text}
    arrays = {tensor.name: random(tensor, sizes) for tensor in tensors}
    arrays |= {twin(tail.name): arrays[tail.name] for tail in caches(ports.inputs)}
    arrays |= {name.replace("_tail", "_text"): arrays[name][n:] for name in adds}

    def part(tensor: Tensor, active: int, rests: bool) -> Array:
        whole = arrays[tensor.name]
        if begins(tensor, "A"):
            return whole[:active]
        if begins(tensor, "M"):
            return whole[active : n + text if rests and tensor.name in adds else n]
        if begins(tensor, "T"):
            return whole[: 0 if rests else text]
        return np.ascontiguousarray(whole[:, :0]) if rests and is_text(tensor.shape) else whole

    bindings = {}
    for ratio in RATIOS:
        active = layout.pinned + round(ratio * layout.patches)
        for rests in (False, True) if adds and active < n else (False,):
            bindings[active, rests] = session.bind({t.name: part(t, active, rests) for t in tensors})
    return bindings


def measure(bindings: dict[Kind, Bound], repeats: int, clock: Callable[[], float]) -> dict[Kind, float]:
    """Median seconds of every kind of step, run in turn."""
    times: dict[Kind, list[float]] = {kind: [] for kind in bindings}
    for repeat in range(repeats + 1):
        for kind, binding in bindings.items():
            start = clock()
            binding.run()
            if repeat:  # the first round warms up
                times[kind].append(clock() - start)
    return {kind: float(np.median(t)) for kind, t in times.items()}


def cells(
    session: Session, spec: ModelSpec, ports: Graph | Engine, side: int, rows: int, text: int, repeats: int
) -> list[Cell]:
    """All ratios at side x side patches; ports: what the session has."""
    _, high, wide = spec.tokens.patch
    layout, cost = TokenLayout.of(spec, (side * wide, side * high)), sizes_of(spec).price
    bindings = step_kinds(session, ports, layout, rows, text)
    clock = time.perf_counter if isinstance(session, CudaSession) else time.process_time
    seconds = measure(bindings, repeats, clock)

    def flops(active: int, rests: bool = False) -> float:
        return step_flops(cost, active, layout.tokens, rows, text, rests)

    out = []
    for (active, rests), taken in seconds.items():
        ratio = min(RATIOS, key=lambda r: abs(layout.pinned + r * layout.patches - active))
        time_ratio, flop_ratio = taken / seconds[layout.tokens, False], flops(active, rests) / flops(layout.tokens)
        figures = taken * 1e3, time_ratio, flop_ratio, flop_ratio / time_ratio
        out.append(Cell(layout.patches, ratio, active, layout.tokens, *figures, rests))
    return out


def show(results: list[Cell]) -> None:
    """Print the cells as a table."""
    table = Table(header_style="bold", box=None)
    for name in ("patches", "ratio", "active/tokens", "ms", "time ratio", "FLOP ratio", "efficiency"):
        table.add_column(name, justify="right")
    for c in results:
        values = (f"{c.milliseconds:.1f}", *(f"{x:.3f}" for x in (c.time_ratio, c.flop_ratio, c.efficiency)))
        table.add_row(
            str(c.patches), f"{c.ratio:g}" + (", text rests" if c.rests else ""), f"{c.active}/{c.tokens}", *values
        )
    Console().print(table)


def plot(results: list[Cell], path: Path, title: str) -> None:
    """Draw the efficiency over the number of patches, a line for every ratio below 1."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for ratio, colour in zip(RATIOS[1:], ("#1f9e89", "#4a8fd0", "#e08a3c"), strict=True):
        own = [cell for cell in results if cell.ratio == ratio and not cell.rests]
        patches, efficiency = [cell.patches for cell in own], [cell.efficiency for cell in own]
        axes.plot(patches, efficiency, "o-", color=colour, label=f"{ratio:g} of the patches")
    axes.axhline(1, color="#9a9a9a", lw=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({cell.patches for cell in results}), minor=False)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_xlabel("patches")
    axes.set_ylabel("speedup of a step, of what FLOPs allow")
    axes.set_title(title, loc="left")
    axes.set_ylim(0, 1.15)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    save_figure(figure, path)


@contextmanager
def engine(
    model: str, bundle: str | None, precision: Precision | None
) -> Iterator[tuple[ModelSpec, Graph | Engine, Path]]:
    """A bundle or a model with random weights: its specification, its `denoise`, and where that is."""
    if bundle is not None:
        opened = Bundle.load(bundle)
        chosen = choose(opened.manifest, precision) or opened.model.graphs.denoise
        yield opened.model, chosen, opened.path(chosen.file)
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "model"
        export_model(FlagDiT(MODELS[model]), directory, ExportOptions(dtype="float32"))
        spec = read_model(directory)
        yield spec, spec.graphs.denoise, directory / spec.graphs.denoise.file


def main(
    model: Annotated[str, typer.Option(help="S (384 x 12 layers) or M (768 x 16 layers).")] = "S",
    sides: Annotated[list[int] | None, typer.Option(help="Patches a side; 16 and 32 by default.")] = None,
    rows: Annotated[int, typer.Option(help="Rows of the batch: 2 is one picture with guidance.")] = 2,
    text: Annotated[int, typer.Option(help="Text tokens.")] = 32,
    repeats: Annotated[int, typer.Option(min=1)] = 9,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    bundle: Annotated[str | None, typer.Option(help="A bundle, instead of random weights.")] = None,
    precision: PrecisionOption = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
    plot_path: Annotated[Path | None, typer.Option("--plot", help="Draw the efficiency here: PNG or SVG.")] = None,
) -> None:
    """Measure step efficiency."""
    check_writable(json_path, (".json",))
    check_writable(plot_path, (".png", ".svg"))
    torch.manual_seed(0)
    wanted = "float32" if device == "cuda" else precision  # the others are graphs for a CPU
    with engine(model, bundle, cast(Precision | None, wanted)) as (spec, ports, path):
        computed = ports.precision if isinstance(ports, Engine) else "float32"
        if device == "cuda":
            session: Session = CudaSession(path)
        else:
            session = open_session(GraphFile.beside(path), threads, cast(Precision, computed))
    results = [cell for side in sides or [16, 32] for cell in cells(session, spec, ports, side, rows, text, repeats)]
    show(results)
    name = f"{spec.name if bundle else model}, {computed}, {rows} rows"
    if plot_path is not None:
        plot(results, plot_path, f"{name}, {device}")
    if json_path is not None:
        about = {
            "command": shlex.join(["benchmarks/steps.py", *sys.argv[1:]]),
            "date": date.today().isoformat(),
            "onnxruntime": onnxruntime.__version__,
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "engine": name,
            "threads": threads,
            "weights": "of the bundle" if bundle else "random",
        }
        write_file(json_path, json.dumps({**about, "cells": [asdict(c) for c in results]}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
