"""Flag-DiT, the demo's family: the exporter's own model, under the official names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from flagdit.export import FlagDiT, FlagDiTConfig
from flagdit.export.parts import text_attention
from painters.painter import CHANNELS, HEADS, LAYERS, PATCH, TEXT, WIDTH, Painter, attention

CONFIG = FlagDiTConfig(
    dim=WIDTH,
    n_layers=LAYERS,
    n_heads=HEADS,
    patch_size=PATCH,
    in_channels=CHANNELS,
    learn_sigma=False,
    cap_feat_dim=TEXT,
    multiple_of=128,
)


def plain_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """`attend` of the product in plain matmuls: q (A, R, H, d), k and v (R, H, N, d) -> (A, R, H*d)."""
    return attention(q.permute(1, 2, 0, 3), k, v, scale, bias).permute(2, 0, 1, 3).flatten(2)


class FlagPainter(Painter):
    """A Flag-DiT."""

    def __init__(self, config: FlagDiTConfig = CONFIG) -> None:
        super().__init__()
        self.net: FlagDiT = FlagDiT(config)

    def forward(self, image: Tensor, t: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        out = self.net(image, t, text, mask)
        assert isinstance(out, Tensor)
        return out

    def config(self) -> Mapping[str, Any]:
        return asdict(self.net.config)

    def begin_with(self, model: FlagDiT) -> None:
        self.net.load_state_dict(model.state_dict())

    def blocks(self) -> list[nn.Module]:
        return [*self.net.blocks]

    def tokens(self, made: Any, image: Tensor) -> Tensor:
        """Without the [nextline] tokens."""
        lines, columns = (side // self.net.config.patch_size for side in image.shape[-2:])
        x: Tensor = made[0].unflatten(0, (lines, columns + 1))[:, :-1]
        return x.flatten(0, 1).transpose(0, 1)

    def compile_parts(self, device: str) -> None:
        """Only what runs per token: the table of RoPE, which is the same for all, would be computed per element.

        On a GPU one block for all layers and sizes, in seconds; on a CPU all layers together, once for every size.
        """
        if device == "cpu":
            text_attention.attend = plain_attention
            self.net.run = torch.compile(self.net.run, dynamic=False)  # type: ignore[method-assign]
            return
        for block in self.net.blocks:
            block.compile(dynamic=True)
