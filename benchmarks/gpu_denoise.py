"""Whole steps on a GPU: ONNX Runtime's CUDA provider with the core's kernels, as one captured graph a step.

    python benchmarks/gpu_graphs.py graphs                      # anywhere with flagdit[export]
    python benchmarks/gpu_denoise.py graphs --json denoise.json  # on the GPU; --device cpu tries all of it without one

In turn, each written to the file when it is there, until the seconds are over: `values`, the demo's velocities in every
precision beside fp32 on the CPU; `runs`, 20 steps captured and eager; `steps`, engine calls at four ratios;
`dense_torch`, the same module there, dense. Times are medians, by CUDA's events.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import gpu_run_times
import gpu_steps
from gpu_device import VERSION, Cpu, Cuda, Device, Graph
from gpu_models import MODELS, PRECISIONS, random_weights
from gpu_torch import Torch
from gpu_values import Demo, values

DEMO_RUNS = [("float16", 64), ("float16", 128), ("float32", 64), ("bfloat16", 64), ("bfloat16", 128)]
Cases = list[tuple[str, str, tuple[int, ...]]]
ENGINES: Cases = [
    ("S", "float16", (32, 64)),
    ("600M", "float16", (64, 32)),
    ("5B-4", "bfloat16", (64, 32)),
    ("5B-2", "bfloat16", (64, 32)),
    ("600M", "bfloat16", (64, 32)),
]
MORE_ENGINES: Cases = [
    ("S", "bfloat16", (64, 32)),
    ("5B-4", "float16", (64,)),
    ("5B-2", "float16", (64,)),
    ("S", "float32", (32,)),
]
EAGER = [("600M", (64, 32)), ("5B-4", (64,)), ("5B-2", (64,)), ("S", (64, 32))]
COMPILED = [("600M", (64, 32)), ("5B-4", (64,)), ("S", (64, 32)), ("5B-2", (64,))]


class Report:
    """Results so far, in a file after every one of them; a failure is a result, too."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.start, self.seconds = path, time.monotonic(), seconds
        self.content: dict[str, Any] = {"command": "benchmarks/gpu_denoise.py", "failed": 0, "left_out": []}

    def over(self) -> bool:
        return time.monotonic() - self.start > self.seconds

    def add(self, part: str, about: dict[str, Any], work: Callable[[], Any]) -> None:
        """Do the work and keep what it returns, a dictionary or a list of them."""
        if self.over():
            self.content["left_out"].append({"part": part, **about})
            return
        begin = time.monotonic()
        try:
            made = work()
            results = made if isinstance(made, list) else [made]
        except Exception as error:
            traceback.print_exc()
            results = [{"error": f"{type(error).__name__}: {error}"[:2000]}]
        self.content["failed"] += sum("error" in result for result in results)
        seconds = round(time.monotonic() - begin, 2)
        rows = [{**about, "seconds": seconds, **result} for result in results]
        self.content.setdefault(part, []).extend(rows)
        self.write()
        print(f"{time.monotonic() - self.start:6.1f} s {part} {about} {seconds} s: {str(rows[-1])[:600]}", flush=True)

    def write(self) -> None:
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.content, indent=1) + "\n")
        part.replace(self.path)


def versions(device: str) -> dict[str, Any]:
    out: dict[str, Any] = {"onnxruntime": VERSION, "device": device}
    try:
        import torch

        out["torch"] = str(torch.__version__)
        out["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    except ImportError:
        out["torch"] = None
    return out


def of_the_demo(report: Report, graphs: Path, device: Device, quick: bool) -> None:
    """Values, then runs."""
    demo = Demo.open(graphs)
    precisions = PRECISIONS[:1] if device.name == "cpu" else PRECISIONS
    for precision in precisions:
        report.add("values", {}, partial(values, demo, device, precision))
    references: dict[int, Any] = {}
    for precision, side in DEMO_RUNS:
        if device.name == "cpu" and precision != "float32":
            continue

        def run(precision: str = precision, side: int = side) -> dict[str, Any]:
            if side not in references:
                references[side] = None if side > 64 else gpu_run_times.reference(demo, Cpu(), side)
            return gpu_run_times.runs(demo, device, precision, side, 1 if quick else 9, references[side])

        report.add("runs", {}, run)


def of_engines(report: Report, cases: Cases, graphs: Path, device: Device, quick: bool) -> None:
    """Steps of models with random weights."""
    for name, precision, sides in cases:
        if not (graphs / name).is_dir() or (device.name == "cpu" and precision != "float32"):
            continue
        loaded: list[Graph] = []
        for side in (8,) if quick else sides:

            def steps(name: str = name, precision: str = precision, side: int = side, loaded: Any = loaded) -> Any:
                if not (graphs / name / "weights.safetensors").exists():
                    random_weights(graphs / name)
                if not loaded:
                    loaded.append(device.load(graphs / name / f"denoise.{precision}.onnx"))
                return gpu_steps.engine(device, loaded[0], MODELS[name], side, 2 if quick else 15)

            report.add("steps", {"model": name, "precision": precision}, steps)


def of_torch(report: Report, device: str, quick: bool) -> None:
    """The same models in torch, dense."""
    for kind, cases in (("eager", EAGER), ("compiled", COMPILED)):
        for name, sides in cases[-1:] if quick else cases:
            made: list[Torch] = []
            for side in (8,) if quick else sides:

                def dense(name: str = name, kind: str = kind, side: int = side, made: list[Torch] = made) -> Any:
                    if not made:
                        made.append(Torch(MODELS[name], device))
                        if kind == "compiled":
                            made[0].compile()
                    return made[0].measure(side, 2 if quick else 15)

                report.add(
                    "dense_torch", {"model": name, "precision": "bfloat16", "kind": kind, "patches": side**2}, dense
                )


def main(
    graphs: Annotated[Path, typer.Argument(help="A directory that gpu_graphs.py wrote; weights are written there.")],
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    json_path: Annotated[Path, typer.Option("--json", help="Write the results here.")] = Path("denoise.json"),
    seconds: Annotated[float, typer.Option(help="Begin nothing after these.")] = 120,
    quick: Annotated[bool, typer.Option(help="Small sizes, few repeats: to try it.")] = False,
    parts: Annotated[str, typer.Option(help="Of these only.")] = "demo,engines,torch",
) -> None:
    """Measure whole steps."""
    report = Report(json_path, seconds)
    report.content |= {**versions(device), "cores": os.cpu_count()}
    report.write()
    place: Device = Cpu() if device == "cpu" else Cuda()
    if "demo" in parts:
        of_the_demo(report, graphs, place, quick)
    if "engines" in parts:
        of_engines(report, ENGINES, graphs, place, quick)
    if "torch" in parts:
        of_torch(report, device, quick)
    if "engines" in parts:
        of_engines(report, MORE_ENGINES, graphs, place, quick)
    report.write()
    raise typer.Exit(1 if report.content["failed"] else 0)


if __name__ == "__main__":
    typer.run(main)
