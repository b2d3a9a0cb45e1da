"""`flagdit export`: a checkpoint in, a model directory out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from flagdit.export.errors import ExportError, FlagditError
from flagdit.files.printable import printable

if TYPE_CHECKING:
    from flagdit.export.checkpoint import Checkpoint


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of a size written WxH."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise ExportError(f"size {text!r} is not WIDTHxHEIGHT, for instance 64x64")
    return int(match[1]), int(match[2])


def parse_phases(text: str | None) -> tuple[float, ...] | None:
    """Times written T,T."""
    if text is None:
        return None
    try:
        return tuple(float(time) for time in text.split(","))
    except ValueError:
        raise ExportError(f"phases {text!r} are no times; for instance 0,.3") from None


def read_examples(path: Path | None) -> tuple[str, ...]:
    """The prompts of a text file, one a line; # begins a comment. Raises ExportError if it cannot be read."""
    if path is None:
        return ()
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        return tuple(line for line in lines if line and not line.startswith("#"))
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: cannot be read as UTF-8 text ({error})") from None


def read_classes(path: Path | None) -> tuple[str, ...]:
    """The lines of a text file, an empty one at its end left out. Raises ExportError if it cannot be read."""
    if path is None:
        return ()
    try:
        return tuple(path.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: cannot be read as UTF-8 text ({error})") from None


def _literal(text: str) -> Text:
    """Names as they are: no markup, and an escape for what would move the cursor."""
    return Text(printable(text, keep="\n"))


def _fail(console: Console, message: str) -> NoReturn:
    console.print(Text("error:", "bold red"), _literal(message), soft_wrap=True)
    raise typer.Exit(2) from None


def _say(console: Console, text: str) -> None:
    console.print(_literal(text), soft_wrap=True)


def _inferred(opened: Checkpoint) -> str:
    """What a checkpoint without a configuration was taken for."""
    config, facts = opened.model.config(), opened.model.facts()
    theta, eps = config.get("rope_theta"), config.get("norm_eps")
    heads = "its heads, " if "classes" in config else ""
    said = f"; {heads}RoPE's theta {theta:g} and epsilon {eps:g} are its release's" if theta and eps else ""
    return (
        f"its tensors say {opened.model.family} ({opened.layout} names), {config['n_layers']} layers of "
        f"{facts.sizes['width']}, {facts.sizes['heads']} heads, {facts.channels} channels{said}"
    )


def _origin(opened: Checkpoint) -> str:
    """Which weights of an official release are taken."""
    what = "the average of the training's weights (EMA)" if opened.ema else "the last weights of the training, no EMA"
    return what + (f", merged of {opened.ranks} shards" if opened.ranks > 1 else "")


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A .safetensors file, a directory that holds one, or a pipeline of diffusers.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model directory to write.")],
    name: Annotated[
        str | None, typer.Option(help="What the model is called in reports.", show_default="the family's")
    ] = None,
    size: Annotated[str, typer.Option(help="WxH of the latents the model was trained at.")] = "128x128",
    patch_size: Annotated[
        int | None, typer.Option(min=1, help="Patch size, if there is no config.json to say: 2 for Lumina-T2I.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Stored matrices: float32, float16, bfloat16, or int8 for CPUs.")
    ] = "float16",
    shift: Annotated[
        float | None, typer.Option(help="Time shift of sampling, by default the family's; 4 for Lumina-T2I.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale that suits the model, by default the family's; 1 is none.")
    ] = None,
    text_encoder: Annotated[
        list[str] | None,
        typer.Option(help="Hugging Face directory of the text encoder, or NAME=DIRECTORY of one of several."),
    ] = None,
    max_text_tokens: Annotated[
        int | None, typer.Option(min=2, help="Longest prompt, in tokens; by default the family's.")
    ] = None,
    vae: Annotated[
        Path | None, typer.Option(help="Directory of the autoencoder (diffusers), to paint pictures.")
    ] = None,
    preview: Annotated[Path | None, typer.Option(help="Directory of a small decoder (TAESD), for previews.")] = None,
    renormalise: Annotated[
        str | None, typer.Option(help="Norm of guided velocities: none, picture or line; by default the family's.")
    ] = None,
    ema: Annotated[
        bool | None,
        typer.Option(
            "--ema/--no-ema",
            help="Of an official release, the average of the training's weights, or the last ones. By default the "
            "average if it is there.",
            show_default=False,
        ),
    ] = None,
    phases: Annotated[
        str | None,
        typer.Option(help="Times from which on a larger picture is placed anew, as 0,.3; by default the family's."),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Of a pipeline's folder, leave out text encoders and autoencoder.")
    ] = False,
    examples: Annotated[
        Path | None,
        typer.Option(help="A text file of prompts that the model was made for, one a line; calibration takes 24."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="Of a model of classes (ImageNet), a text file of their names, one class a line."),
    ] = None,
    text_encoder_weights: Annotated[
        str,
        typer.Option(
            help="Stored matrices of text encoders: float32, float16, bfloat16, int8, int4; auto: int8 from 2 GiB on."
        ),
    ] = "auto",
    rescale: Annotated[
        bool,
        typer.Option(
            "--rescale/--no-rescale",
            help="Make parts of a model smaller, exactly, where a norm follows and float16 would overflow.",
        ),
    ] = True,
    licence: Annotated[
        list[str] | None, typer.Option(help="PART=SPDX-ID, for instance weights=MIT; may be repeated.")
    ] = None,
) -> None:
    """Export a checkpoint to ONNX.

    Writes a model directory: condition.onnx, place.onnx, denoise.onnx, weights.safetensors and model.json, which
    says what everything is. Go on with [bold]flagdit build[/].
    """
    console = Console(stderr=True)
    try:
        from flagdit.export.checkpoint import open_checkpoint  # torch takes seconds to import
        from flagdit.export.exporter import export_model
        from flagdit.export.options import ExportOptions, check_alone
        from flagdit.export.pipeline_folder import folders, with_parts

        options = ExportOptions(
            name=name,
            size=parse_size(size),
            dtype=dtype,
            shift=shift,
            guidance=guidance,
            text_encoders=folders(text_encoder or []),
            max_text_tokens=max_text_tokens,
            vae=vae,
            preview=preview,
            renormalise=renormalise,
            phases=parse_phases(phases),
            text_encoder_weights=text_encoder_weights,
            rescale=rescale,
            examples=read_examples(examples),
            classes=read_classes(classes),
            licences=dict(entry.partition("=")[::2] for entry in licence or []),
        )
        check_alone(output, options)
        opened = open_checkpoint(checkpoint, patch_size, ema)
        if not alone:
            options = with_parts(options, checkpoint, opened.model.facts().encoders)
        if opened.ema is not None:
            _say(console, f"{opened.weights}: {_origin(opened)}")
        if opened.inferred:
            _say(console, f"{opened.weights}: no configuration beside it; {_inferred(opened)}")
        with console.status("reading the checkpoint") as status:
            export_model(
                opened,
                output,
                options,
                progress=lambda part: status.update(f"exporting {part}"),
                say=lambda text: _say(console, text),
            )
    except ModuleNotFoundError as missing:
        _fail(console, f"{missing.name} is not installed; flagdit export needs: pip install 'flagdit[export]'")
    except FlagditError as error:
        _fail(console, str(error))
    except KeyboardInterrupt:
        _say(console, f"stopped; the same command goes on where it was, and what is done until then stays in {output}")
        raise typer.Exit(130) from None
    if opened.model.facts().encoders and not options.given():
        _say(
            console,
            "without a text encoder, which --text-encoder gives, prompts must come as features (embeds in Python)",
        )
    _say(console, f"wrote {output}; next: flagdit build {output} -o BUNDLE")
