"""Tokenizers as one file that the tokenizers library, and ours, read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from flagdit.export.errors import ExportError

SAYS = ("tokenizer_config.json", "special_tokens_map.json", "vocab.json", "tokenizer.model", "spiece.model")


def save_tokenizer(source: Path, path: Path, *, end: bool = False) -> Any:
    """Write the tokenizer of a directory, as the transformers library sets it up: LLaMA's file by itself lacks the end
    token that `end` asks for, CLIP's folder often has no such file at all. Returns it, None if only its file was there.

    Raises ExportError if there is none.
    """
    if not any((source / name).is_file() for name in SAYS):
        if not (source / "tokenizer.json").is_file():
            raise ExportError(f"{source}: has no tokenizer.json, so it is no text encoder directory")
        shutil.copyfile(source / "tokenizer.json", path)
        return None
    from transformers import AutoTokenizer

    more = {"add_eos_token": True} if end else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False, **more)
        tokenizer.backend_tokenizer.save(str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExportError(f"{source}: the tokenizer cannot be loaded ({reason}); fetch it again") from None
    path.chmod(0o644)
    return tokenizer


def padding_of(tokenizer: Any, source: Path) -> int:
    """The token that fills texts up. Raises ExportError if the tokenizer names none."""
    found = getattr(tokenizer, "pad_token_id", None)
    if not isinstance(found, int):
        raise ExportError(f"{source}: the tokenizer has no token to fill texts up with; fetch it again")
    return found
