"""Checkpoint -> model directory: `model.json`, `weights.safetensors` and its graphs.

The directory is the only interface to `flagdit.engine`; `model.json` says all it needs to know. Weights go from file to
file, and graphs are traced from shapes, so a model may be larger than memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir

from flagdit.export import onnx_graph
from flagdit.export.checkpoint import Checkpoint
from flagdit.export.describe import describe
from flagdit.export.families.class_dit.names import TABLE
from flagdit.export.families.family import shapes_of
from flagdit.export.families.flag_dit.config import FlagDiTConfig
from flagdit.export.families.flag_dit.graphs import denoise_source
from flagdit.export.families.flag_dit.model import FlagDiT
from flagdit.export.families.flag_dit.opened import Opened
from flagdit.export.journal import SUFFIX, finish, key_of, tidy
from flagdit.export.options import MODEL, ExportOptions, check
from flagdit.export.parts.autoencoder import export_preview, export_vae
from flagdit.export.parts.text.classes import export_classes
from flagdit.export.parts.text.given import export_given
from flagdit.export.progress import Told
from flagdit.export.rescale import choose, keep_choice, read_choice, rescaled, to_text, widen_norms
from flagdit.export.specification import specification
from flagdit.export.weights import write_weights
from flagdit.files import whole_folder

WEIGHTS = "weights.safetensors"


def export_model(
    source: FlagDiT | Checkpoint,
    directory: Path,
    options: ExportOptions,
    *,
    progress: Callable[[str], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the model directory, or nothing: its files are made in a folder of their own in there, and move when whole.

    If it is killed or stopped, the weights that are whole by then stay in that folder, and the next export of the same
    to the same directory goes on with them.

    progress: is told what is made, and of the weights how much of them. say: what was chosen, and why.

    Raises OutputError if `directory` is not empty, is written by another process or cannot be written; ExportError if
    an option is out of bounds or does not go with the model or the text encoder (before a weight is read), or if a
    weight is no number in the type to store.
    """
    checkpoint = Checkpoint.held(source) if isinstance(source, FlagDiT) else source
    facts = checkpoint.model.facts()
    check(directory, options, facts)
    left_out = {encoder.name for encoder in facts.encoders} - options.given().keys() if options.given() else set()
    checkpoint = replace(checkpoint, model=checkpoint.model.without(left_out))
    with whole_folder(directory, MODEL, SUFFIX) as folder:
        tidy(folder)
        if options.rescale:
            progress("looking at the weights")
            checkpoint = _rescaled(checkpoint, folder, say)
        _write(checkpoint, folder, options, progress=progress, say=say)


def _rescaled(source: Checkpoint, folder: Path, say: Callable[[str], None]) -> Checkpoint:
    """With matrices made smaller where float16 needs it, as an export chose that was cut off, or anew."""
    if source.powers:  # it was exported before
        return source
    key = key_of(source.tensors.files, {"flagdit": version("flagdit"), "family": source.model.family})
    kept = folder / f"rescaling{SUFFIX}"
    chosen = read_choice(kept, key) if source.tensors.files else None
    if chosen is None:
        chosen = choose(source.model.module, source.takes, source.tensors)
        keep_choice(kept, key, chosen)
    say(chosen.said())
    widen_norms(source.model.module, chosen.powers)
    return replace(source, takes=rescaled(source.takes, chosen.powers), powers=chosen.powers)


def _write(
    source: Checkpoint,
    directory: Path,
    options: ExportOptions,
    *,
    progress: Callable[[str], None],
    say: Callable[[str], None],
) -> None:
    progress("weights")
    path, shapes = directory / WEIGHTS, shapes_of(source.model.module)

    told = Told("weights", progress)
    digest = write_weights(path, shapes, source.takes, source.tensors, options.dtype, progress=told, resumable=True)
    weights = onnx_graph.WeightsFile.open(path)
    described = {}
    for name, graph in source.model.graphs(options.size).items():
        progress(name)
        model = graph.trace(weights)
        described[name] = {"file": f"{name}.onnx", **describe(model)}
        onnx_graph.save(model, directory / f"{name}.onnx", weights)
    facts = source.model.facts()
    texts = export_given(
        options.given(),
        facts.encoders,
        directory,
        max_tokens=options.max_text_tokens,
        dtype=options.dtype,
        precision=options.text_encoder_weights,
        progress=progress,
        say=say,
        resumable=True,
    )
    if facts.classes:
        progress("classes")
        table = source.tensors.read(source.takes[TABLE].name)
        texts = [export_classes(table, options.classes, directory)]
    downscale = 1
    if options.vae is not None:
        progress("autoencoder")
        made, downscale = export_vae(options.vae, directory, facts.channels, options.dtype)
        described |= made
    if options.preview is not None:
        progress("preview")
        described |= export_preview(options.preview, directory, facts.channels)
    held = {"file": path.name, "sha256": digest, "dtype": options.dtype}
    spec = specification(source.model, options, described, texts=texts, weights=held, downscale=downscale)
    if source.powers:
        spec["config"] = {**spec["config"], "rescaled": to_text(source.powers)}
    finish(directory, spec)
    (directory / MODEL).write_text(json.dumps(spec, indent=2) + "\n")


def trace_denoise(config: FlagDiTConfig, weights: onnx_graph.WeightsFile) -> ir.Model:
    """The graph of a Flag-DiT that runs once per step; its weights are in that file."""
    module = Opened.of(config).module
    assert isinstance(module, FlagDiT)
    return denoise_source(module).trace(weights)
