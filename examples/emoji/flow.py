"""What a model is trained for: the velocity from noise to data, or that of a teacher.

Letters: B pictures, C channels, T text tokens, Y text width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from painters.painter import Painter, layers_of

if TYPE_CHECKING:
    from draws import Drawn
    from words import TextEncoder

LAYER_SHARE = 0.1
"""Weight of the layers' relative error beside that of the velocity, where a teacher is learned from."""


def times(count: int, noise_shift: float, generator: torch.Generator) -> Tensor:
    """Log-normal times (count,), one in each of as many equally likely parts: batches differ less by their times."""
    device = generator.device
    parts = (torch.arange(count, device=device) + torch.rand(count, generator=generator, device=device)) / count
    return torch.sigmoid(torch.special.ndtri(parts.clamp(1e-6, 1 - 1e-6)) - noise_shift)


class FlowLoss:
    """Mean squared error of the velocity: x_t = t x1 + (1 - t) x0, target x1 - x0, or what a teacher says."""

    def __init__(self, encoder: TextEncoder, device: str, teacher: Painter | None = None) -> None:
        self.device, self.encoder = device, encoder
        self.teacher = None if teacher is None else teacher.to(device)

    def __call__(self, model: Painter, drawn: Drawn, *, taught: bool = False) -> Tensor:
        """The loss of one batch; noise and times come from its seed."""
        generator = torch.Generator(self.device).manual_seed(drawn.seed)
        x1 = drawn.images.to(self.device)
        x0 = torch.randn(x1.shape, generator=generator, device=self.device)
        t = times(len(x1), drawn.size.noise, generator)
        mix = t[:, None, None, None]
        text, mask = self.encoder.features(drawn.tokens)
        with torch.autocast(self.device, torch.bfloat16):
            between = mix * x1 + (1 - mix) * x0
            if taught and self.teacher is not None:
                return self.taught(model, self.teacher, between, t, text, mask)
            velocity = model(between, t, text, mask)
        return (velocity.float() - (x1 - x0)).square().mean()

    def taught(
        self, model: Painter, teacher: Painter, image: Tensor, t: Tensor, text: Tensor, text_mask: Tensor
    ) -> Tensor:
        """Error of the velocity against the teacher's, and a share of that of the layers where both have as many."""
        with torch.no_grad(), layers_of(teacher, image) as wanted:
            target = teacher(image, t, text, text_mask).float()
        with layers_of(model, image) as made:
            velocity = model(image, t, text, text_mask).float()
        error = (velocity - target).square().mean()
        if len(made) != len(wanted):
            return error
        pairs = [(ours.float(), theirs.float()) for ours, theirs in zip(made, wanted, strict=True)]
        inside = torch.stack([(a - b).square().mean() / b.square().mean() for a, b in pairs]).mean()
        return error + LAYER_SHARE * inside
