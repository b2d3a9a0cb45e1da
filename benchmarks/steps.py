"""Time of a RAS step over that of a dense step, beside the FLOP ratio.

    python benchmarks/steps.py                     # 256 and 1024 patches, 2 rows, 1 thread
    python benchmarks/steps.py --sides 8 --sides 16 --sides 32 --json steps.json --plot steps.png
    python benchmarks/steps.py --bundle demo       # the fastest engine of a bundle, or that of --precision
    python benchmarks/steps.py --device cuda       # ONNX Runtime's CUDA provider, if onnxruntime-gpu is installed

Inputs are random, and so are weights unless a bundle is given: this measures speed, not quality. All step kinds run in
turn in one process, and process CPU time is compared, because wall time of a shared machine is noise; on a GPU wall
time is. Efficiency is FLOP ratio / time ratio.
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
import numpy.typing as npt
import onnxruntime
import torch
import typer
from rich.console import Console
from rich.table import Table

from flagdit.cpp_ext import Keeps
from flagdit.engine.bench.plot import save as save_figure
from flagdit.engine.builder import read_model
from flagdit.engine.bundle import Bundle
from flagdit.engine.commands.common import PrecisionOption, check_writable
from flagdit.engine.cost import step_flops
from flagdit.engine.cpu import Precision, choose
from flagdit.engine.layout import TokenLayout, attention_scale
from flagdit.engine.manifest import ModelSpec
from flagdit.engine.noise import latent_noise
from flagdit.engine.regions import RegionState
from flagdit.engine.session import Array, GraphFile, OnnxSession, empty
from flagdit.export import ExportOptions, FlagDiT, FlagDiTConfig, export_model
from flagdit.files import write_file

RATIOS = (1.0, 0.5, 0.25, 0.125)
MODELS = {
    "S": FlagDiTConfig(dim=384, n_layers=12, n_heads=6, patch_size=2, learn_sigma=True, cap_feat_dim=768),
    "M": FlagDiTConfig(dim=768, n_layers=16, n_heads=12, patch_size=2, learn_sigma=True, cap_feat_dim=768),
}


@dataclass(frozen=True)
class Cell:
    """One measurement: a step with `active` of `tokens`, its median milliseconds and ratios to the dense step."""

    patches: int
    ratio: float
    active: int
    tokens: int
    milliseconds: float
    time_ratio: float
    flop_ratio: float
    efficiency: float


class Bound(Protocol):
    """A step whose inputs and outputs have their places."""

    def run(self) -> None: ...


class Session(Protocol):
    """A graph that is loaded on some device."""

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Bound: ...

    def dtype(self, name: str) -> npt.DTypeLike: ...


class CudaSession:
    """A graph in ONNX Runtime's CUDA provider."""

    def __init__(self, path: Path) -> None:
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise typer.BadParameter("onnxruntime-gpu is not installed", param_hint="--device cuda")
        self._session = onnxruntime.InferenceSession(str(path), providers=["CUDAExecutionProvider"])
        if "CUDAExecutionProvider" not in self._session.get_providers():  # it falls back without a word
            raise typer.BadParameter("ONNX Runtime cannot start its CUDA provider", param_hint="--device cuda")

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> CudaBinding:
        return CudaBinding(self._session, inputs, outputs)

    def dtype(self, name: str) -> npt.DTypeLike:
        """What arrays of an input hold: exported graphs are fp32."""
        return np.float32


class CudaBinding:
    """A step bound to copies of the arrays on the GPU. Heads and tails lie apart, which costs the same time."""

    def __init__(
        self, session: onnxruntime.InferenceSession, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> None:
        def copy(array: Array) -> onnxruntime.OrtValue:
            return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), "cuda", 0)

        self._session, self._io = session, session.io_binding()
        for name, array in inputs.items():
            self._io.bind_ortvalue_input(name, copy(array))
        for name, array in outputs.items():
            self._io.bind_ortvalue_output(name, copy(array))

    def run(self) -> None:
        """Run the step to its end."""
        self._session.run_with_iobinding(self._io)
        self._io.synchronize_outputs()


def random_inputs(spec: ModelSpec, tokens: int, rows: int, text: int) -> dict[str, Array]:
    """Values for every input of denoise that RegionState does not own."""
    sizes = {"R": rows, "T": text}
    generator = np.random.default_rng(0)
    inputs: dict[str, Array] = {"attention_scale": np.array([attention_scale(spec, tokens)], np.float32)}
    for tensor in spec.graphs.denoise.inputs:
        if {"A", "M"}.isdisjoint(tensor.shape) and tensor.name != "attention_scale":
            shape = tuple(sizes[d] if isinstance(d, str) else d for d in tensor.shape)
            inputs[tensor.name] = empty(shape)
            inputs[tensor.name][...] = generator.standard_normal(shape) * 0.1
    inputs["text_bias"][...] = 0
    return inputs


def step_kinds(
    session: Session, spec: ModelSpec, side: int, rows: int, text: int
) -> tuple[TokenLayout, dict[int, Bound]]:
    """The layout of side x side patches, and a bound step for every ratio, by its active tokens."""
    layout = TokenLayout.of(spec, (side * spec.tokens.patch_size,) * 2)
    noise = latent_noise([1], (layout.channels, layout.height, layout.width))
    keeps, cached = Keeps(rate=True, slope=False, curve=False), session.dtype("key_tail.0")
    state = RegionState(spec, layout, noise, rows, keeps, cached=cached)
    conditions = random_inputs(spec, layout.tokens, rows, text)
    bindings = {}
    for ratio in RATIOS:
        active = layout.pinned + round(ratio * layout.patches)
        inputs, outputs = state.head(active)
        bindings[active] = session.bind({**inputs, **conditions}, outputs)
    return layout, bindings


def measure(bindings: dict[int, Bound], repeats: int, clock: Callable[[], float]) -> dict[int, float]:
    """Median seconds of every kind of step, run in turn."""
    times: dict[int, list[float]] = {active: [] for active in bindings}
    for repeat in range(repeats + 1):
        for active, binding in bindings.items():
            start = clock()
            binding.run()
            if repeat:  # the first round warms up
                times[active].append(clock() - start)
    return {active: float(np.median(t)) for active, t in times.items()}


def cells(session: Session, spec: ModelSpec, side: int, rows: int, text: int, repeats: int) -> list[Cell]:
    """All ratios at one number of patches."""
    layout, bindings = step_kinds(session, spec, side, rows, text)
    clock = time.perf_counter if isinstance(session, CudaSession) else time.process_time
    seconds = measure(bindings, repeats, clock)

    def flops(active: int) -> float:
        return step_flops(spec.layers, active, layout.tokens, rows, text, layout.patch_values)

    out = []
    for ratio, (active, taken) in zip(RATIOS, seconds.items(), strict=True):
        time_ratio, flop_ratio = taken / seconds[layout.tokens], flops(active) / flops(layout.tokens)
        milliseconds, efficiency = taken * 1e3, flop_ratio / time_ratio
        out.append(Cell(layout.patches, ratio, active, layout.tokens, milliseconds, time_ratio, flop_ratio, efficiency))
    return out


def show(results: list[Cell]) -> None:
    """Print the cells as a table."""
    table = Table(header_style="bold", box=None)
    for name in ("patches", "ratio", "active/tokens", "ms", "time ratio", "FLOP ratio", "efficiency"):
        table.add_column(name, justify="right")
    for c in results:
        values = (f"{c.milliseconds:.1f}", *(f"{x:.3f}" for x in (c.time_ratio, c.flop_ratio, c.efficiency)))
        table.add_row(str(c.patches), f"{c.ratio:g}", f"{c.active}/{c.tokens}", *values)
    Console().print(table)


def plot(results: list[Cell], path: Path, title: str) -> None:
    """Draw the efficiency over the number of patches, a line for every ratio below 1."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for ratio, colour in zip(RATIOS[1:], ("#1f9e89", "#4a8fd0", "#e08a3c"), strict=True):
        own = [cell for cell in results if cell.ratio == ratio]
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
def engine(model: str, bundle: str | None, precision: Precision | None) -> Iterator[tuple[ModelSpec, Path, Precision]]:
    """The specification and `denoise` of a bundle or of a model with random weights, and what it computes in."""
    if bundle is not None:
        opened = Bundle.load(bundle)
        chosen = choose(opened.manifest, precision)
        computed = "float32" if chosen is None else chosen.precision
        yield opened.model, opened.path((chosen or opened.model.graphs.denoise).file), cast(Precision, computed)
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "model"
        torch.manual_seed(0)
        export_model(FlagDiT(MODELS[model]), directory, ExportOptions(dtype="float32"))
        spec = read_model(directory)
        yield spec, directory / spec.graphs.denoise.file, "float32"


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
    wanted = "float32" if device == "cuda" else precision  # the others are graphs for a CPU
    with engine(model, bundle, cast(Precision | None, wanted)) as (spec, graph, computed):
        session = CudaSession(graph) if device == "cuda" else OnnxSession(GraphFile.beside(graph), threads, computed)
    sides = sides or [16, 32]
    results = [cell for side in sides for cell in cells(session, spec, side, rows, text, repeats)]
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
            "weights": "trained" if bundle else "random",
        }
        write_file(json_path, json.dumps({**about, "cells": [asdict(c) for c in results]}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
