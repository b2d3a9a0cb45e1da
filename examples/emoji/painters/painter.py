"""What the recipe asks of a model, whatever its family.

Letters: B pictures, T text tokens, Y text width, N tokens of a picture, H heads, d head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from flagdit.export import FlagDiT

SIZE = 64
"""Pixels of a side that a model is made for, first of all."""
WIDTH, LAYERS, HEADS, PATCH, CHANNELS, TEXT = 256, 8, 4, 4, 3, 384


class Painter(nn.Module):
    """A model that says where a picture goes. `net` holds its weights, under the names that `flagdit export` reads."""

    net: nn.Module

    def forward(self, image: Tensor, t: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Velocity (B, C, H, W), data minus noise, of images at times (B,) from 0, noise, to 1, data.

        text (B, T, Y), zero where the mask (B, T) has none.
        """
        raise NotImplementedError

    def config(self) -> Mapping[str, Any]:
        """What stands in config.json beside the weights."""
        raise NotImplementedError

    def begin_with(self, model: FlagDiT) -> None:
        """Take what can be taken of a trained Flag-DiT's weights."""
        raise NotImplementedError

    def blocks(self) -> list[nn.Module]:
        """The layers, in their order."""
        raise NotImplementedError

    def tokens(self, made: Any, image: Tensor) -> Tensor:
        """The tokens (B, N, D) of an image, line by line, in what a layer makes."""
        raise NotImplementedError

    def compile_parts(self, device: str) -> None:
        """Compile what takes the time."""
        raise NotImplementedError


@contextmanager
def layers_of(painter: Painter, image: Tensor) -> Iterator[list[Tensor]]:
    """Within, the tokens (B, N, D) of the image behind every layer are kept in the list."""
    kept: list[Tensor] = []

    def keep(block: nn.Module, given: Any, made: Any) -> None:
        kept.append(painter.tokens(made, image))

    hooks = [block.register_forward_hook(keep) for block in painter.blocks()]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """Softmax attention in plain matmuls, (B, H, N, d) of q, k, v: on a CPU the fused one's backward takes as long as
    the rest of a step. bias is added to the scores.
    """
    scores = (q * scale) @ k.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias
    return scores.float().softmax(-1).to(v.dtype) @ v


def initialise(net: nn.Module, zero: tuple[str, ...]) -> None:
    """Xavier's matrices without biases; modules whose names end in one of `zero` begin as nothing, as in adaLN-zero."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name.endswith(zero):
                nn.init.zeros_(module.weight)
