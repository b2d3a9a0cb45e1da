"""A directory of a text encoder as Hugging Face has it: what has to hold before any of its weights is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flagdit.export.errors import ExportError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
LATE_POSITIONS = frozenset(
    {"camembert", "data2vec-text", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"}
)
"""Models whose first token has the position after that of padding, so that they take fewer tokens than positions."""


def check_text_encoder(source: Path, width: int, max_tokens: int, *, examples: Sequence[str] = ()) -> None:
    """Raise ExportError unless the directory holds an encoder for a model that takes features `width` wide.

    max_tokens: of the longest prompt, for which the encoder must have positions. examples: prompts that have to fit.
    """
    if not source.is_dir():
        raise ExportError(
            f"{source}: there is no such directory; give that of the text encoder, with its tokenizer.json"
        )
    for name in ("tokenizer.json", "config.json"):
        if not (source / name).is_file():
            raise ExportError(f"{source}: has no {name}, so it is no text encoder directory")
    _check_weights(source)
    config = read_config(source)
    has = getattr(config, "hidden_size", None)
    if getattr(config, "is_encoder_decoder", False) or not isinstance(has, int):
        raise ExportError(
            f"{source}: a {config.model_type} is no encoder with one last hidden state; give the encoder that the "
            "checkpoint was trained with"
        )
    if has != width:
        raise ExportError(
            f"{source}: the text encoder's features are {has} wide, and the checkpoint takes {width}; give the encoder "
            "that it was trained with"
        )
    most = positions(config)
    if most is not None and max_tokens > most:
        raise ExportError(
            f"max_text_tokens is {max_tokens}, and the text encoder has {most} positions; allowed are 2 to {most}: "
            f"--max-text-tokens {most}"
        )
    _check_tokenizer(source / "tokenizer.json", getattr(config, "vocab_size", None), max_tokens, examples=examples)


def read_config(source: Path) -> Any:
    """The encoder's configuration, never from a hub, and without code of its own. Raises ExportError."""
    from transformers import AutoConfig  # seconds to import, and only needed with a text encoder

    try:
        return AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExportError(f"{source}: config.json is not of a text encoder ({reason})") from None


def positions(config: Any) -> int | None:
    """The most tokens that an encoder has positions for; None where positions have no end."""
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or most < 1:
        return None
    padding = getattr(config, "pad_token_id", None) or 0
    return most - padding - 1 if config.model_type in LATE_POSITIONS else most


def check_folder_of_weights(source: Path) -> None:
    """Raise ExportError unless the directory holds a configuration and safetensors."""
    if not source.is_dir():
        raise ExportError(f"{source}: there is no such directory; give that of the text encoder")
    if not (source / "config.json").is_file():
        raise ExportError(f"{source}: has no config.json, so it is no text encoder directory")
    _check_weights(source)


def _check_weights(source: Path) -> None:
    """Refuse a directory without safetensors: after minutes of other work is too late to find that out."""
    if (source / WEIGHTS).is_file():
        return
    if (source / INDEX).is_file():
        try:
            names = sorted(set(json.loads((source / INDEX).read_text())["weight_map"].values()))
            missing = [name for name in names if not (source / name).is_file()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportError(f"{source / INDEX}: not an index of weights ({error})") from None
        if missing:
            raise ExportError(f"{source}: {', '.join(missing)} of {INDEX} missing; fetch the encoder again")
        return
    pickled = sorted(path.name for pattern in PICKLED for path in source.glob(pattern))
    if not pickled:
        raise ExportError(f"{source}: holds no {WEIGHTS}; fetch the encoder again")
    raise ExportError(
        f"{source}: holds {', '.join(pickled[:3])} and no {WEIGHTS}; pickles can run code and are not read. Fetch "
        f'{WEIGHTS}, or where you trust the file: python -c "from transformers import AutoModel as A; '
        f"A.from_pretrained('{source}').save_pretrained('{source}')\""
    )


def _check_tokenizer(path: Path, vocabulary: int | None, max_tokens: int, *, examples: Sequence[str]) -> None:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises plain Exception
        raise ExportError(f"{path}: not a tokenizer ({error})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    last = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if vocabulary is not None and last >= vocabulary:
        raise ExportError(
            f"{path}: has a token {last}, and the encoder knows 0 to {vocabulary - 1}; give its own tokenizer"
        )
    if not tokenizer.encode("").ids:
        raise ExportError(
            f"{path}: makes no token of an empty prompt, which guidance needs; it lacks its special tokens"
        )
    for number, text in enumerate(examples, 1):
        count = len(tokenizer.encode(text).ids)
        if count > max_tokens:
            raise ExportError(
                f"example {number} has {count} tokens; allowed are {max_tokens} (--max-text-tokens), please shorten "
                f"it: {text[:60]!r}"
            )
