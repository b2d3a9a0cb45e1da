"""Graphs for gpu_denoise.py: the demo's, and some with random weights; in fp32 as exported, in fp16 and bf16 as built.

    python benchmarks/gpu_graphs.py DIR     # needs flagdit[export]; no GPU

Writes DIR/NAME/denoise.PRECISION.onnx, a few MB in all: the random weights come into being where they are needed
(`random_weights`), from the layout in weights.json. So DIR can be carried to a machine that has no exporter.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from flagdit.engine import Pipeline
from flagdit.engine.bundle.reader import DEMO
from flagdit.engine.compiler.cuda_graph import to_cuda
from flagdit.engine.compiler.precision import import_ir
from gpu_models import MODELS, PRECISIONS

PROMPT = "a red apple on a blue background"


def write_precisions(source: Path, target: Path) -> None:
    """denoise as exported, and as `flagdit build --target onnxruntime-cuda` has it, beside the weights of `source`."""
    ir = import_ir()
    for precision in PRECISIONS:
        graph = ir.load(source)
        if precision != "float32":
            to_cuda(graph, precision)
        ir.save(graph, target / f"denoise.{precision}.onnx")


def write_demo(directory: Path) -> None:
    """The demo's graphs, weights and, of one prompt and of none, the features of the text encoder."""
    directory.mkdir(parents=True)
    stages = Pipeline.load("demo", precision="float32").stages
    write_precisions(DEMO / stages.spec.graphs.denoise.file, directory)
    conditional, unconditional = (stages.text.features(text) for text in (PROMPT, ""))
    np.savez(directory / "features.npz", conditional=conditional, unconditional=unconditional)


def write_model(name: str, directory: Path) -> None:
    """denoise of a model whose weights, stored as fp16, are left behind."""
    from safetensors.torch import save_file

    from flagdit.export import FlagDiT, onnx_graph
    from flagdit.export.exporter import trace_denoise
    from flagdit.export.storage import store

    directory.mkdir(parents=True)
    model = FlagDiT(MODELS[name])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "weights.safetensors"
        save_file(store(model.state_dict(), "float16"), path)
        weights = onnx_graph.WeightsFile.open(path)
        onnx_graph.save(trace_denoise(model.config, weights), Path(scratch) / "denoise.onnx", weights)
        write_precisions(Path(scratch) / "denoise.onnx", directory)
        places = [(kind.name, offset, size) for kind, _, offset, size in weights.tensors.values()]
        layout = {"bytes": path.stat().st_size, "tensors": places, "config": asdict(MODELS[name])}
    (directory / "weights.json").write_text(json.dumps(layout) + "\n")


def main(
    directory: Annotated[Path, typer.Argument(help="Where to; must not exist.")],
    models: Annotated[list[str] | None, typer.Option(help="Of these only.")] = None,
) -> None:
    """Write the graphs."""
    directory.mkdir(parents=True)
    write_demo(directory / "demo")
    for name in models or MODELS:
        print(name)
        try:
            write_model(name, directory / name)
        except Exception:
            shutil.rmtree(directory / name, ignore_errors=True)
            raise


if __name__ == "__main__":
    typer.run(main)
