"""What a family wants of a text encoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Encoder:
    """An encoder by the name of its features, which are an input of `condition`.

    width: of the features. pooled: width of the pooled ones, whose input has `_pooled` behind the name; 0 is none.
    layer: -1 is the last one with the norm behind it, -2 the layer before, without. template, negative: what prompts of
    the two branches are put into (none: the same). fixed: whether texts are filled up to max_tokens, and the filling is
    attended to. truncate: whether longer ones are cut. end: whether the tokenizer is to add an end token. optional:
    whether the model runs without it. filled: whether the model itself fills texts up to max_tokens; none is longer.
    """

    name: str
    width: int
    pooled: int = 0
    layer: int = -1
    max_tokens: int = 256
    template: str = "{}"
    negative: str | None = None
    fixed: bool = False
    truncate: bool = False
    end: bool = False
    optional: bool = False
    filled: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.name, f"{self.name}_pooled") if self.pooled else (self.name,)
