"""Prompts -> token features, through the bundle's tokenizer and text encoder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import Prompts, Session
from flagdit.engine.layout import FloatArray

__all__ = ["Prompts", "TextEncoder"]


class TextEncoder:
    """Tokenizer and encoder of one bundle."""

    def __init__(self, session: Session, prompts: Prompts) -> None:
        self.session, self.prompts = session, prompts

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
        ids = np.array([self.prompts.tokens(prompt)], np.int64)
        (text,) = self.session.run({"input_ids": ids, "attention_mask": np.ones_like(ids)}).values()
        return np.asarray(text[0], np.float32)
