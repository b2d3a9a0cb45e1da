"""`flagdit inspect`: what a bundle holds, every file of it checked; or how a picture was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from flagdit.cpp_ext import Gpu
from flagdit.engine.bundle import Graph, Manifest, ModelSpec
from flagdit.engine.bundle.manifest import Latent
from flagdit.engine.bundle.manifest import Text as TextSpec
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.bundle.schema import manifest_schema
from flagdit.engine.commands.again import command, shell, visible
from flagdit.engine.commands.common import console, say_which
from flagdit.engine.commands.ras import format_value
from flagdit.engine.commands.tables import preset_table, show
from flagdit.engine.cpu import unused
from flagdit.engine.device import runs_on
from flagdit.engine.errors import RequestError
from flagdit.engine.media import metadata, picture
from flagdit.engine.ras import RasConfig
from flagdit.engine.report import About


def _schema(asked: bool) -> None:
    if asked:
        typer.echo(json.dumps(manifest_schema(), indent=1))
        raise typer.Exit


def inspect(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE|PICTURE", help="A bundle directory, demo, or a picture that flagdit made.")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest, or what a picture says, as JSON.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", is_eager=True, callback=_schema, help="Print the JSON schema of a manifest.")
    ] = False,
) -> None:
    """Check a bundle and show what it holds: model, presets, graphs, engines, files, licences.

    [dim]flagdit inspect demo[/]

    [dim]flagdit inspect out.png[/]  how a picture was made, and the command that makes it again
    """
    if Path(bundle).suffix.lower() in picture.FORMATS and not Path(bundle).is_dir():
        _picture(Path(bundle), as_json)
        return
    say_which(bundle)
    loaded = Bundle.load(bundle)
    if as_json:
        typer.echo(json.dumps(loaded.manifest.model_dump(mode="json"), indent=1))  # all but ASCII escaped
        return
    _model(loaded.manifest)
    _presets(loaded.manifest)
    _graphs(loaded.manifest)
    _engines(loaded.manifest)
    total = sum(file.bytes for file in loaded.manifest.files.values())
    files = f"{len(loaded.manifest.files)} files, {total / 2**20:.1f} MiB, all intact{_known(loaded)}"
    console.print(files, highlight=False, soft_wrap=True)
    gpu = Gpu.here()
    for line in unused(engine for engine in loaded.manifest.engines if not runs_on(gpu, engine)):
        console.print(line, highlight=False, soft_wrap=True)


def _known(bundle: Bundle) -> str:
    """What was not read, since it was found right before."""
    return "; large ones are as they were when they were read last: flagdit verify reads all" if bundle.known else ""


def _latents(latent: Latent) -> str:
    """What patches are of, where those are not pixels."""
    return "" if latent.space == "pixels" else f"latents of {latent.downscale}x{latent.downscale}, "


def _skips(model: ModelSpec) -> str:
    """What a branch of guidance may leave out."""
    suiting = ", ".join(map(str, model.guidance.skip_layers))
    return f"may skip some of {model.layers} layers" + (f"; {suiting} suit the model" if suiting else "")


def _model(manifest: Manifest) -> None:
    model = manifest.model
    sizes, latent, patch = model.sizes, model.latent, model.tokens.patch
    rows = {
        "model": f"{model.name} ({model.family})",
        "parameters": f"{model.weights.parameters:,} stored as {model.weights.dtype}",
        "sizes": f"width {sizes.width}, {sizes.heads} heads, {sizes.kv_heads} kv heads",
        "size": f"{latent.size[0]}x{latent.size[1]} pixels, {_latents(latent)}patches of {patch[1]}x{patch[2]}",
        "prompt": longest_prompt(model.texts),
        **({"guidance": _skips(model)} if model.layers else {}),
        "licences": ", ".join(f"{part}: {licence}" for part, licence in model.licences.items()) or "none named",
        "written by": f"flagdit {manifest.flagdit}, schema {manifest.schema_version}",
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(Text(name, "bold"), value)
    show(table)


def longest_prompt(texts: Sequence[TextSpec]) -> str:
    """Of a prompt: what an encoder refuses counts, not what one cuts."""
    if not texts:
        return "no text encoder"
    whole = [text.max_tokens for text in texts if not text.truncate]
    return f"up to {min(whole) if whole else max(text.max_tokens for text in texts)} tokens"


def _presets(manifest: Manifest) -> None:
    """Those that the bundle was calibrated for; flagdit's own are the same for all models."""
    if not manifest.model.presets:
        return
    show(preset_table(manifest.model.presets))


def _graphs(manifest: Manifest) -> None:
    table = Table("graph", "file", "inputs", "outputs", "stored", header_style="bold", box=None)
    model = manifest.model
    graphs = [("text encoder", text.graph) for text in model.texts]
    for name in ("condition", "place", "denoise", "decode", "encode", "preview"):
        graph: Graph | None = getattr(model.graphs, name)
        if graph is not None:
            graphs.append((name, graph))
    stored = {text.graph.file: text.dtype for text in model.texts}
    for name, graph in graphs:
        dtype = stored.get(graph.file, "")
        table.add_row(name, graph.file, str(len(graph.inputs)), str(len(graph.outputs)), dtype)
    show(table)


def _engines(manifest: Manifest) -> None:
    if not manifest.engines:
        console.print("no engines: every graph runs in ONNX Runtime", highlight=False)
        return
    columns = ("engine", "target", "version", "sm", "precision", "here")
    table = Table(*columns, header_style="bold", box=None)
    gpu = Gpu.here()
    for engine in manifest.engines:
        architectures = " ".join(map(str, engine.architectures))
        runs = "yes" if runs_on(gpu, engine) or not unused([engine]) else "no"
        table.add_row(engine.file, engine.target, engine.version, architectures, engine.precision, runs)
    show(table)


def _picture(path: Path, as_json: bool) -> None:
    """How a picture was made. It may come from anywhere: what it says is shown, and never done."""
    about = metadata.read(path)
    if as_json:
        typer.echo(about.model_dump_json(indent=1))
        return
    table = Table(show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    for name, value in _facts(about).items():
        table.add_row(name, Text(visible(value)))
    console.print(table)
    if about.pictures > 1 and (about.ras.get("error_budget") or about.ras.get("gate")):
        console.print(f"one of {about.pictures} that decided together what to compute: alone it is another")
    try:
        arguments = command(about, f"again{path.suffix.lower()}")
    except RequestError as error:
        console.print(Text(visible(str(error))), soft_wrap=True)
        return
    typer.echo(f"again: flagdit {shell(arguments)}")


def _facts(about: About) -> dict[str, str]:
    """All lines of a picture; those of options that were not used are left out."""
    coarse = {} if about.coarse is None else {"coarse": ", ".join(f"{k} {_short(v)}" for k, v in about.coarse.items())}
    skips = about.skip_layer_guidance or {}
    skipped = ", ".join(f"{name} {_short(value)}" for name, value in skips.items())
    more = {
        "negative": about.negative,
        "skip-layer guidance": skipped,
        "preset": about.preset or "",
        "weights": "of each step" if about.weights else "",
        "ntk": "" if about.ntk == 1 else f"{about.ntk:g}",
        "proportional": "yes" if about.proportional else "",
        "image": "" if about.image is None else ", ".join(f"{k} {_short(v)}" for k, v in about.image.items()),
        "given": ", ".join(["noise"] * (about.noise != "seed") + ["features"] * about.embeds),
        "tile": str(about.tile or ""),
        **coarse,
    }
    facts = {
        "prompt": str(about.prompt),
        "negative": "",
        "seed": str(about.seed),
        "size": "x".join(map(str, about.size)),
        "guidance": f"{about.guidance:g}",
        "preset": "",
        "steps": f"{len(about.times) - 1} of {about.solver}, shift {about.shift:g}",
        "times": _short(about.times),
        "regions": _regions(about.ras),
        **dict.fromkeys(more, ""),
        "model": f"{about.model}, {about.digest[:16]}...",
        "computed": f"{about.precision} by {about.backend}, bundle {about.bundle}",
        "made by": f"flagdit {about.version}",
    }
    return {name: value for name, value in (facts | more).items() if value}


def _short(value: Any) -> str:
    numbers = value if isinstance(value, list) else [value]
    return " ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in numbers)


def _regions(ras: dict[str, Any]) -> str:
    """Fields that are not RasConfig's own; none of them is dense sampling without anything to say of it."""
    own = {field.name: field.default for field in fields(RasConfig)} | {"metric": RasConfig(mode=_mode(ras)).ranking}
    said = {name: value for name, value in ras.items() if name in own and value != own[name]}
    return ", ".join(_field(name, value) for name, value in said.items())


def _field(name: str, value: Any) -> str:
    if value == []:
        return f"no {name}"
    return f"{name} {_short(value) if value else format_value(value)}"


def _mode(ras: dict[str, Any]) -> Any:
    return "paper" if ras.get("mode") == "paper" else "corrected"
