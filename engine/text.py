"""Prompts -> token features, through the bundle's tokenizer and text encoder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import Session, check_prompt, check_tokens
from flagdit.engine.errors import BundleError
from flagdit.engine.layout import FloatArray
from flagdit.engine.tokenizer import Tokenizer

CHARACTERS = 16
"""Of a token, at most; a prompt of more is refused before it is cut into tokens."""


class Prompts:
    """Which prompts a bundle takes: its tokenizer says that, without the encoder."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        """Raises BundleError if the tokenizer makes more of an empty text than the encoder takes."""
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        if (count := len(tokenizer.encode(""))) > max_tokens:
            raise BundleError(f"the tokenizer makes {count} tokens of an empty text; the model takes {max_tokens}")

    def tokens(self, prompt: str) -> list[int]:
        """Token ids."""
        return self._tokenizer.encode(prompt)

    def check(self, prompt: str, name: str = "prompt") -> None:
        """Raise RequestError unless there is a prompt, it is text, and it is short enough; `name` says which it is."""
        check_prompt(prompt, name, min(CHARACTERS * self._max_tokens + 1000, self._tokenizer.longest))
        check_tokens(name, len(self._tokenizer.encode(prompt)), self._max_tokens)


class TextEncoder(Prompts):
    """Tokenizer and encoder of one bundle."""

    def __init__(self, session: Session, tokenizer: Tokenizer, max_tokens: int) -> None:
        """Raises as Prompts does."""
        super().__init__(tokenizer, max_tokens)
        self.session = session

    def encode(self, prompts: list[str]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Features (R, T, Y), zeros behind each text, and mask (R, T) of R prompts; "" is the unconditional text."""
        features = {prompt: self.features(prompt) for prompt in set(prompts)}
        longest = max(len(f) for f in features.values())
        width = next(iter(features.values())).shape[1]
        text = np.zeros((len(prompts), longest, width), np.float32)
        mask = np.zeros((len(prompts), longest), np.bool_)
        for row, prompt in enumerate(prompts):
            length = len(features[prompt])
            text[row, :length], mask[row, :length] = features[prompt], True
        return text, mask

    def features(self, prompt: str) -> FloatArray:
        """Features (T, Y) of one prompt, which do not depend on its neighbours in a batch: it is encoded alone."""
        ids = np.array([self._tokenizer.encode(prompt)], np.int64)
        (text,) = self.session.run({"input_ids": ids, "attention_mask": np.ones_like(ids)}).values()
        return np.asarray(text[0], np.float32)
