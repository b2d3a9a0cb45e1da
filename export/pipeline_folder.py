"""A pipeline's folder, as diffusers saves it: text encoders, tokenizers and autoencoder beside the transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flagdit.export.errors import ExportError
from flagdit.export.options import ExportOptions
from flagdit.export.parts.text.encoder import Encoder
from flagdit.export.parts.text.given import Folder

SUFFIXES = ("", "_2", "_3")


def folders(said: Sequence[str]) -> dict[str, Folder]:
    """Text encoders by the name of their features, of texts DIRECTORY or NAME=DIRECTORY. Raises ExportError."""
    found: dict[str, Folder] = {}
    for text in said:
        name, _, path = text.rpartition("=")
        name = name or "text"
        if name in found:
            raise ExportError(f"two text encoders are {name}; give each as NAME=DIRECTORY")
        folder = Path(path)
        found[name] = Folder(folder, _tokenizer(folder))
    return found


def _tokenizer(folder: Path) -> Path:
    """Where the tokenizer of an encoder is: in its own folder, or as diffusers has it in one beside it."""
    beside = folder.parent / folder.name.replace("text_encoder", "tokenizer")
    return beside if folder.name.startswith("text_encoder") and beside.is_dir() else folder


def with_parts(options: ExportOptions, path: Path, wanted: Sequence[Encoder]) -> ExportOptions:
    """The options with what a pipeline's folder has besides, of what they do not give themselves."""
    if not (path / "transformer").is_dir():
        return options
    given = options.given()
    for encoder, suffix in zip(wanted, SUFFIXES, strict=False):
        folder = path / f"text_encoder{suffix}"
        if encoder.name not in given and folder.is_dir():
            given[encoder.name] = Folder(folder, _tokenizer(folder))
    vae = path / "vae" if options.vae is None and (path / "vae").is_dir() else options.vae
    return replace(options, text_encoder=None, text_encoders=given, vae=vae)
