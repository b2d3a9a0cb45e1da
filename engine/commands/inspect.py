"""`flagdit inspect`: what a bundle holds, every byte of it checked."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from flagdit.engine.bundle import Bundle
from flagdit.engine.commands.common import console
from flagdit.engine.commands.tables import preset_table
from flagdit.engine.cpu import obstacle, unused
from flagdit.engine.manifest import Graph, Manifest


def inspect(
    bundle: Annotated[str, typer.Argument(help="A bundle directory, or demo.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Check a bundle and show what it holds: model, presets, graphs, engines, files, licences."""
    loaded = Bundle.load(bundle)
    if as_json:
        typer.echo(json.dumps(loaded.manifest.model_dump(mode="json"), indent=1))  # all but ASCII escaped
        return
    _model(loaded.manifest)
    _presets(loaded.manifest)
    _graphs(loaded.manifest)
    _engines(loaded.manifest)
    total = sum(file.bytes for file in loaded.manifest.files.values())
    console.print(f"{len(loaded.manifest.files)} files, {total / 2**20:.1f} MiB, all intact", highlight=False)
    for line in unused(loaded.manifest.engines):
        console.print(line, highlight=False, soft_wrap=True)


def _model(manifest: Manifest) -> None:
    model = manifest.model
    layers, latent = model.layers, model.latent
    rows = {
        "model": f"{model.name} ({model.family})",
        "parameters": f"{model.weights.parameters:,} stored as {model.weights.dtype}",
        "layers": f"{layers.count} x {layers.width}, {layers.heads} heads, {layers.kv_heads} kv heads",
        "size": f"{latent.size[0]}x{latent.size[1]} {latent.space}, patches of {model.tokens.patch_size}",
        "prompt": f"up to {model.text.max_tokens} tokens" if model.text else "no text encoder",
        "licences": ", ".join(f"{part}: {licence}" for part, licence in model.licences.items()) or "none named",
        "written by": f"flagdit {manifest.flagdit}, schema {manifest.schema_version}",
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(Text(name, "bold"), value)
    console.print(table)


def _presets(manifest: Manifest) -> None:
    """Those that the bundle was calibrated for; flagdit's own are the same for all models."""
    if not manifest.model.presets:
        return
    console.print(preset_table(manifest.model.presets))


def _graphs(manifest: Manifest) -> None:
    table = Table("graph", "file", "inputs", "outputs", header_style="bold", box=None)
    for name in ("text_encoder", "condition", "denoise", "decode"):
        graph: Graph | None = getattr(manifest.model.graphs, name)
        if graph is not None:
            table.add_row(name, graph.file, str(len(graph.inputs)), str(len(graph.outputs)))
    console.print(table)


def _engines(manifest: Manifest) -> None:
    if not manifest.engines:
        console.print("no engines: every graph runs in ONNX Runtime", highlight=False)
        return
    table = Table(header_style="bold", box=None)
    for name in ("engine", "target", "version", "sm", "precision", "here"):
        table.add_column(name, overflow="fold")
    for engine in manifest.engines:
        architectures, runs = " ".join(map(str, engine.architectures)), "no" if obstacle(engine) else "yes"
        table.add_row(engine.file, engine.target, engine.version, architectures, engine.precision, runs)
    console.print(table)
