"""Scales of a model's activations, from runs of its own graph in fp32 on the CPU over a few prompts.

Nothing is drawn, so the same prompts give the same scales. No magnitude is cut off: that was tried, and made pictures
worse (docs/tensorrt.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from flagdit.cpp_ext import Session
from flagdit.engine.bundle.manifest import SCHEMA_VERSION, Manifest, ModelSpec
from flagdit.engine.bundle.reader import Bundle, model_files
from flagdit.engine.bundle.regular import digest
from flagdit.engine.compiler.int8_weights import fold_int8
from flagdit.engine.compiler.precision import import_ir
from flagdit.engine.compiler.products import products_of
from flagdit.engine.compiler.quantised import by_input
from flagdit.engine.compiler.scales import Scales
from flagdit.engine.compiler.watch import Floats, Watched, watch_largest, watch_typical
from flagdit.engine.errors import BuildError
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.request import Request
from flagdit.engine.resolve import Options
from flagdit.engine.result import Result
from flagdit.engine.session import GraphFile, open_session
from flagdit.engine.version import version_of

if TYPE_CHECKING:
    import onnx_ir as ir

PROMPTS = 4
"""How many of a model's examples are looked at."""
STEPS = 8
"""Of a run: dense ones and such in regions, over all times."""

Report = Callable[[float], None]
"""Called with the fraction that is done, from 0 to 1."""


def find_scales(pipeline: Pipeline, prompts: Sequence[str] = (), *, report: Report) -> Scales:
    """Of the model of `pipeline_of`; prompts: by default the first of its examples.

    Raises BuildError if it has no text encoder, or there are no prompts.
    """
    spec, bundle = pipeline.spec, pipeline.bundle
    check_source(spec, prompts)
    asked, file = tuple(prompts or spec.examples[:PROMPTS]), spec.graphs.denoise.file
    graph = bundle.path(file)
    model = load_wide(graph)
    inputs, found = by_input(products_of(model.graph)), _Found()
    largest = {x.name or "": watch_largest(model, x) for x in inputs}
    typical = {x.name or "": watch_typical(model, x) for x in inputs}
    names = [*largest.values(), *typical.values()]
    session = cast(Session, Watched(opened(graph, model), names, found))
    for number, prompt in enumerate(asked):
        run_of(pipeline, session, prompt, number)
        report((number + 1) / len(asked))
    return Scales(
        graph=bundle.manifest.files[file].sha256,
        prompts=asked,
        calls=found.calls,
        largest={name: tuple(found.largest[output].tolist()) for name, output in largest.items()},
        typical={name: float(found.sums[output][0]) / found.calls for name, output in typical.items()},
    )


def check_source(spec: ModelSpec, prompts: Sequence[str]) -> None:
    """Raise BuildError unless runs of these prompts, or of the model's examples, can be made."""
    if not spec.texts:
        raise BuildError(
            f"{spec.name} has no text encoder, so nothing can be painted to find scales on; build it from a bundle of "
            "the same graph that has scales.json, or export it with its encoder"
        )
    if not (prompts or spec.examples):
        raise BuildError(f"{spec.name} has no examples to find scales on; give some with --prompts FILE")


def pipeline_of(directory: Path, spec: ModelSpec) -> Pipeline:
    """The model's own graphs, on the CPU."""
    files = {name: digest(directory / name) for name in model_files(spec)}
    manifest = Manifest(schema_version=SCHEMA_VERSION, flagdit=version_of("flagdit"), model=spec, files=files)
    return Pipeline(Bundle.of(directory, manifest), precision="float32", device="cpu")


def opened(path: Path, model: ir.Model) -> Session:
    """`model` on the CPU, with its weights in the files beside `path`."""
    ir = import_ir()
    content, beside = ir.to_proto(model).SerializeToString(), GraphFile.beside(path)
    return open_session(replace(beside, name=f"{path.name}, rewritten", content=content), lean=True)


def run_of(pipeline: Pipeline, denoise: Session, prompt: str, seed: int) -> Result:
    """A picture with that graph in place of the model's own: STEPS steps of what a run is by default."""
    how, options = pipeline.resolve(Options(steps=STEPS)), Options(steps=STEPS)
    scale = pipeline.spec.guidance.chosen(None)
    other = pipeline.with_denoise(denoise)
    return other.start(Request.of(how, [prompt], [seed], guidance=scale, options=options)).finish()


def load_wide(graph: Path) -> ir.Model:
    """A graph in fp32, int8 weights widened; weights stay in the file they are in."""
    model: ir.Model = import_ir().load(graph)
    fold_int8(model)
    return model


class _Found:
    """What was watched over all calls, by name: the most of it, and the sum."""

    def __init__(self) -> None:
        self.calls = 0
        self.largest: dict[str, Floats] = {}
        self.sums: dict[str, Floats] = {}

    def __call__(self, watched: Mapping[str, Floats]) -> None:
        self.calls += 1
        for name, value in watched.items():
            self.largest[name] = np.maximum(self.largest.get(name, np.float32(0)), value)
            self.sums[name] = self.sums.get(name, np.float32(0)) + value
