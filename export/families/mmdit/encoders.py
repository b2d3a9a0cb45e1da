"""The text features of an MMDiT: two CLIPs side by side, filled up with zeros to the width of T5's, which follow them.

T5 may be left out, as in diffusers: zeros take its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from flagdit.export.graph_source import Port
from flagdit.export.parts.text.encoder import Encoder

CLIP_TOKENS = 77
WIDTHS = {"clip_l": 768, "clip_g": 1280}


@dataclass(frozen=True)
class Encoders:
    """Widths of the two CLIPs; tokens of T5; whether T5 is there."""

    clip_l: int
    clip_g: int
    t5_tokens: int = 256
    t5: bool = True
    width: int = 4096

    @classmethod
    def fitting(cls, pooled: int, joint: int, *, t5: bool = True) -> Encoders:
        """Those of a model whose pooled features are so wide: the released ones, or shares like theirs."""
        clip_l = pooled * WIDTHS["clip_l"] // sum(WIDTHS.values())
        return cls(clip_l, pooled - clip_l, t5=t5, width=joint)

    def wanted(self) -> tuple[Encoder, ...]:
        """The encoders: what is longer than CLIP reads it leaves to T5."""
        clips = [
            Encoder(name, width, pooled=width, layer=-2, max_tokens=CLIP_TOKENS, fixed=True, truncate=True)
            for name, width in (("clip_l", self.clip_l), ("clip_g", self.clip_g))
        ]
        return (*clips, Encoder("t5", self.width, max_tokens=self.t5_tokens, fixed=True, optional=True))

    def ports(self) -> tuple[Port, ...]:
        """What `condition` takes of them."""
        clips = [
            port
            for name in ("clip_l", "clip_g")
            for port in (
                Port(name, ("R", CLIP_TOKENS, getattr(self, name))),
                Port(f"{name}_pooled", ("R", getattr(self, name))),
            )
        ]
        return (*clips, *([Port("t5", ("R", "T", self.width))] if self.t5 else []))

    @property
    def tokens(self) -> int:
        """Of every text."""
        return CLIP_TOKENS + self.t5_tokens

    @property
    def text_axis(self) -> int | str:
        """Of what `condition` makes: T, or without T5 a number, since no input has a length then."""
        return "T" if self.t5 else self.tokens

    def join(self, features: list[Tensor], width: int) -> tuple[Tensor, Tensor]:
        """Text (R, T, width) and pooled text (R, Y) of what the ports name."""
        clip = torch.cat([features[0], features[2]], -1)
        clip = F.pad(clip, (0, width - clip.shape[-1]))
        rest = features[4] if self.t5 else torch.zeros_like(clip[:, :1]).expand(-1, self.t5_tokens, -1)
        return torch.cat([clip, rest], 1), torch.cat([features[1], features[3]], -1)
