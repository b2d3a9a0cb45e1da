"""The text features of a small MMDiT: one encoder's, filled up with zeros to 32 tokens, which nothing masks.

Pooled features are their mean over the tokens that the text has.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from flagdit.export.graph_source import Port
from flagdit.export.parts.layers import masked_mean
from flagdit.export.parts.text.encoder import Encoder


@dataclass(frozen=True)
class OneEncoder:
    """Width of its features, which is also that of the pooled ones."""

    width: int
    tokens: int = 32
    """Of every text."""

    @property
    def text_axis(self) -> int:
        """Of what `condition` makes."""
        return self.tokens

    def wanted(self) -> tuple[Encoder, ...]:
        """The encoder; no text is longer than what it is filled up to."""
        return (Encoder("text", self.width, max_tokens=self.tokens, filled=True),)

    def ports(self) -> tuple[Port, ...]:
        """What `condition` takes of it."""
        return Port("text", ("R", "T", self.width)), Port("text_mask", ("R", "T"), torch.bool)

    def join(self, features: list[Tensor], width: int) -> tuple[Tensor, Tensor]:
        """Text (R, 32, width) and pooled text (R, width) of text (R, T, width) and its mask."""
        text, mask = features
        text = text * mask.to(text.dtype)[..., None]
        return F.pad(text, (0, 0, 0, self.tokens))[:, : self.tokens], masked_mean(text, mask)
