"""A small CNN that names clean renders of icons. Its features compare pictures; no generated picture trained it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A convolution, normalised, with a nonlinearity."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Classifier(nn.Module):
    """Names and styles of pictures of one object, of any size: what it sees is averaged over the picture."""

    def __init__(self, names: int, styles: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.shape = (names, styles)
        first, *others = widths
        self.stages = nn.ModuleList([block(3, first, 2)])  # every stage halves the picture
        for before, after in zip(widths, others, strict=False):
            self.stages.append(nn.Sequential(block(before, after, 2), block(after, after, 1)))
        self.head = nn.Linear(widths[-1], names * styles)

    def layers(self, images: Tensor) -> list[Tensor]:
        """Features of every stage, (B, width, H/2, W/2), (B, width, H/4, W/4) and so on."""
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Features (B, F) of pictures: those before the last layer."""
        return self.layers(images)[-1].mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, N, S)."""
        logits: Tensor = self.head(self.features(images))
        return logits.view(-1, *self.shape)

    def perceptual(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance (B,) of pictures: of the directions of their features, meaned over places, summed over stages."""
        distance = torch.zeros(len(a))
        for one, other in zip(self.layers(a), self.layers(b), strict=True):
            difference = F.normalize(one, dim=1) - F.normalize(other, dim=1)
            distance = distance + difference.square().sum(1).mean((1, 2))
        return distance
