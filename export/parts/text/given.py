"""Text encoders that are given for a model: what has to hold before work begins, and their entries in `model.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from flagdit.export.describe import describe
from flagdit.export.errors import ExportError
from flagdit.export.parts.text.encoder import Encoder
from flagdit.export.parts.text.large import export_large
from flagdit.export.parts.text.precision import AUTO, precision_of, said
from flagdit.export.parts.text.small import TEXT_GRAPH, export_text_encoder
from flagdit.export.parts.text.source import check_folder_of_weights, check_text_encoder, read_config
from flagdit.export.parts.text.tokenizer import padding_of, save_tokenizer
from flagdit.export.progress import Told

SMALL = 1 << 30
"""Bytes of weights up to which an encoder is one ONNX file, which cannot have 2 GiB."""

SENTENCES = frozenset({"bert", "distilbert", "mpnet", "roberta", "xlm-roberta"})
"""Models of whole sentences: what they are trained to make are the features of their last layer, whichever layer of a
language model a family reads."""


@dataclass(frozen=True)
class Folder:
    """Where an encoder is: its weights and configuration, and its tokenizer, which diffusers keeps apart."""

    weights: Path
    tokenizer: Path

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.weights.glob("*.safetensors"))


def check_given(
    given: Mapping[str, Folder],
    wanted: Sequence[Encoder],
    max_tokens: int | None,
    *,
    examples: Sequence[str],
) -> None:
    """Raise ExportError unless the encoders are those of the model. No weight is read."""
    names = {encoder.name for encoder in wanted}
    if unknown := sorted(given.keys() - names):
        raise ExportError(f"the model takes no features of {unknown[0]!r}; allowed are {', '.join(sorted(names))}")
    missing = [encoder.name for encoder in wanted if not encoder.optional and encoder.name not in given]
    if given and missing:
        raise ExportError(
            f"the model also needs the text encoder {missing[0]}; give --text-encoder {missing[0]}=DIRECTORY"
        )
    for encoder in wanted:
        if encoder.name in given:
            _check(given[encoder.name], encoder, max_tokens, examples=examples)


def _check(folder: Folder, encoder: Encoder, max_tokens: int | None, *, examples: Sequence[str]) -> None:
    if encoder.filled and (max_tokens or 0) > encoder.max_tokens:
        raise ExportError(
            f"max_text_tokens is {max_tokens}, and the model takes {encoder.max_tokens}; allowed are 2 to "
            f"{encoder.max_tokens}"
        )
    if _is_small(folder, encoder):
        longest = max_tokens or encoder.max_tokens
        check_text_encoder(folder.weights, encoder.width, longest, examples=examples)
        return
    check_folder_of_weights(folder.weights)
    config = read_config(folder.weights)
    found = getattr(config, "hidden_size", None) or getattr(config, "d_model", None)
    if found != encoder.width:
        raise ExportError(
            f"{folder.weights}: the text encoder's features are {found} wide, and the checkpoint takes "
            f"{encoder.width}; give the encoder that it was trained with"
        )
    pooled = getattr(config, "projection_dim", None)
    if encoder.pooled and pooled != encoder.pooled:
        raise ExportError(
            f"{folder.weights}: its pooled features are {pooled} wide, and the checkpoint takes {encoder.pooled}"
        )


def _is_small(folder: Folder, encoder: Encoder) -> bool:
    if encoder.pooled or encoder.fixed or folder.bytes >= SMALL:
        return False
    return encoder.layer == -1 or _of_sentences(folder)


def _of_sentences(folder: Folder) -> bool:
    return (folder.weights / "config.json").is_file() and read_config(folder.weights).model_type in SENTENCES


def export_given(
    given: Mapping[str, Folder],
    wanted: Sequence[Encoder],
    directory: Path,
    *,
    max_tokens: int | None,
    dtype: str,
    precision: str = AUTO,
    progress: Callable[[str], None],
    say: Callable[[str], None] = lambda _: None,
    resumable: bool = False,
) -> list[dict[str, Any]]:
    """Write the encoders that are given; their entries in `model.json`.

    precision: of their weights, "auto" by their size. dtype: the model's, which large ones have that are not so large
    that less is chosen. say: what was chosen.
    """
    entries = []
    for encoder in wanted:
        if encoder.name not in given:
            continue
        label = f"text encoder {encoder.name}" if len(wanted) > 1 else "text_encoder"
        progress(label)
        suffix = f".{encoder.name}" if len(wanted) > 1 else ""
        longest = encoder.max_tokens if encoder.fixed else max_tokens or encoder.max_tokens
        folder = given[encoder.name]
        small = _is_small(folder, encoder)
        otherwise = "float32" if small else "float16" if dtype == "int8" else dtype
        chosen = precision_of(precision, folder.bytes, otherwise)
        say(said(label.replace("_", " "), precision, chosen, folder.bytes))
        if small:
            text = export_text_encoder(folder.weights, directory, longest, precision=chosen, end=encoder.end)
            graph = {"file": TEXT_GRAPH, **describe(ir.load(directory / TEXT_GRAPH))}
            entries.append({"graph": graph, **text, "dtype": chosen, **_said(encoder)})
            continue
        name = f"tokenizer{suffix}.json"
        tokenizer = save_tokenizer(folder.tokenizer, directory / name, end=encoder.end)
        padding = padding_of(tokenizer, folder.tokenizer) if encoder.fixed else None

        graph = export_large(
            folder.weights,
            read_config(folder.weights),
            directory,
            encoder,
            chosen,
            stem=f"text_encoder{suffix}",
            progress=Told(label, progress),
            resumable=resumable,
        )
        graph |= describe(ir.load(directory / graph["file"]))
        text = {"tokenizer": name, "template": "{}", "max_tokens": longest, "padding": padding, "dtype": chosen}
        entries.append({"graph": graph, **text, **_said(encoder)})
    return entries


def _said(encoder: Encoder) -> dict[str, Any]:
    """What is not as it is by default."""
    said: dict[str, Any] = {} if encoder.template == "{}" else {"template": encoder.template}
    if encoder.negative is not None:
        said["negative"] = encoder.negative
    return {**said, **({"truncate": True} if encoder.truncate else {})}
