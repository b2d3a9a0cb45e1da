"""Prompts -> token features, through the bundle's tokenizers and text encoders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import InTurn, Prompts, Session
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.layout import FloatArray
from flagdit.engine.tokenizer import Tokenizer

__all__ = ["Prompts", "TextEncoder", "prompts_of"]


def prompts_of(spec: ModelSpec, tokenizers: Sequence[Tokenizer]) -> Prompts:
    """Which prompts a model takes, by the tokenizers of its encoders. Raises BundleError if an empty one is none."""
    return Prompts.of(
        [
            Prompts(
                tokenizer,
                text.max_tokens,
                template=text.template,
                negative=text.negative,
                padding=text.padding,
                truncate=text.truncate,
            )
            for text, tokenizer in zip(spec.texts, tokenizers, strict=True)
        ]
    )


class TextEncoder:
    """Tokenizers and encoders of one bundle."""

    def __init__(self, sessions: Sequence[Session], prompts: Prompts) -> None:
        self.sessions, self.prompts = list(sessions), prompts

    @property
    def session(self) -> Session:
        """The first encoder."""
        return self.sessions[0]

    def encode(self, prompts: list[str]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Features (R, T, Y) of the first encoder, zeros behind each text, and mask (R, T) of R prompts; "" is the
        unconditional text.
        """
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
        return next(iter(self.all_features(prompt).values()))

    def all_features(self, prompt: str, *, negative: bool = False) -> dict[str, FloatArray]:
        """Features of one prompt by name, (T, Y) or (Y,), of all encoders. negative: of the unconditional branch."""
        out: dict[str, FloatArray] = {}
        for session, tokens in zip(
            self.sessions, self.prompts.all_tokens(prompt, negative=negative or not prompt), strict=True
        ):
            ids = np.array([tokens], np.int64)
            try:
                made = session.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
            finally:  # one that fails is let go of, too
                if isinstance(session, InTurn):
                    session.rest()
            out.update({name: np.asarray(array[0], np.float32) for name, array in made.items()})
        return out
