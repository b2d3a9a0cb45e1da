"""`flagdit export`: a checkpoint in, a model directory out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from flagdit.export.errors import ExportError, FlagditError


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of a size written WxH."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise ExportError(f"size {text!r} is not WIDTHxHEIGHT, for instance 64x64")
    return int(match[1]), int(match[2])


def read_examples(path: Path | None) -> tuple[str, ...]:
    """The prompts of a text file. Raises ExportError if it cannot be read."""
    if path is None:
        return ()
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: cannot be read as UTF-8 text ({error})") from None


def _fail(console: Console, message: str) -> NoReturn:
    console.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(2) from None


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file, or a directory that holds one.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model directory to write.")],
    name: Annotated[str, typer.Option(help="What the model is called in reports.")] = "flag-dit",
    size: Annotated[str, typer.Option(help="WxH of the latents the model was trained at.")] = "128x128",
    patch_size: Annotated[int, typer.Option(min=1, help="Patch size, if there is no config.json to say.")] = 2,
    dtype: Annotated[
        str, typer.Option(help="Stored matrices: float32, float16, bfloat16, or int8 for CPUs.")
    ] = "float16",
    shift: Annotated[float, typer.Option(help="Time shift of sampling; 4 for Lumina-T2I.")] = 1.0,
    text_encoder: Annotated[
        Path | None, typer.Option(help="Hugging Face directory of the text encoder, to put into the model.")
    ] = None,
    max_text_tokens: Annotated[int, typer.Option(min=2, help="Longest prompt, in tokens.")] = 128,
    examples: Annotated[
        Path | None,
        typer.Option(help="A text file of prompts that the model was made for, one a line; calibration takes 24."),
    ] = None,
    text_int8: Annotated[bool, typer.Option(help="Store the text encoder's matrices as int8.")] = False,
    licence: Annotated[
        list[str] | None, typer.Option(help="PART=SPDX-ID, for instance weights=MIT; may be repeated.")
    ] = None,
) -> None:
    """Export a Flag-DiT checkpoint to ONNX.

    Writes a model directory: condition.onnx, denoise.onnx, weights.safetensors and model.json, which says what
    everything is. Go on with [bold]flagdit build[/].
    """
    console = Console(stderr=True)
    try:
        from flagdit.export.checkpoint import load_checkpoint  # torch takes seconds to import
        from flagdit.export.exporter import ExportOptions, check, export_model

        options = ExportOptions(
            name=name,
            size=parse_size(size),
            dtype=dtype,
            shift=shift,
            text_encoder=text_encoder,
            max_text_tokens=max_text_tokens,
            text_int8=text_int8,
            examples=read_examples(examples),
            licences=dict(entry.partition("=")[::2] for entry in licence or []),
        )
        check(output, options)
        with console.status("reading the checkpoint") as status:
            model = load_checkpoint(checkpoint, patch_size)
            export_model(model, output, options, lambda part: status.update(f"exporting {part}"))
    except ModuleNotFoundError as missing:
        _fail(console, f"{missing.name} is not installed; flagdit export needs: pip install 'flagdit[export]'")
    except FlagditError as error:
        _fail(console, str(error))
    text = f"wrote {output}; next: flagdit build {output} -o BUNDLE"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
