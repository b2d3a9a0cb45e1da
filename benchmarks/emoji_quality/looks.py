"""How a crop resembles every icon on its background, by colours and by shapes; nothing in here is learned.

Letters: I icons (N names times S styles), s SIDE, Q colour bins. Both resemblances are 0 to 1.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from data import EmojiData
from emoji_quality.colour import FloatArray, lab
from icons import SIZES

SIDE = min(SIZES)
"""What crops are compared at: the size of the smallest objects."""
CELL = 4
"""Side of the cells that directions are counted in."""
DIRECTIONS = 8
STEPS = np.array([20, 25, 25])
"""Size of a colour bin along L, a and b."""
LOW = np.array([0, -100, -125])
BINS = (6, 9, 10)
GREY = np.array([0.299, 0.587, 0.114], np.float32)


class Looks:
    """All icons of a vocabulary at SIDE, ready to be put on a background."""

    def __init__(self, data: EmojiData) -> None:
        icons = data.icons.pixels[SIDE][[data.index[name] for name in data.names]].astype(np.float32)
        self.shape = icons.shape[:2]
        icons = icons.reshape(-1, SIDE, SIDE, 4)  # (I, s, s, 4)
        self.clear = 1 - icons[..., 3] / 255  # (I, s, s)
        self.grey = icons[..., :3] @ GREY  # (I, s, s), premultiplied
        self.solid = solid_histograms(icons)  # (I, Q)

    def colours(self, crop: FloatArray, rows: FloatArray) -> FloatArray:
        """What share of the colours of a crop (s, s, 3) each icon (N, S) has too, on background rows (s, 3)."""
        behind = self.clear.mean(2) / SIDE @ shares(rows)  # (I, Q)
        common: FloatArray = np.minimum(self.solid + behind, shares(crop.reshape(-1, 3)).mean(0)).sum(1)
        return common.reshape(self.shape)

    def shapes(self, crops: FloatArray, rows: FloatArray) -> FloatArray:
        """Likeness (O, N, S) of the edges of crops (O, s, s, 3) to those of each icon, on background rows (s, 3)."""
        behind = (rows @ GREY)[:, None]
        likeness: FloatArray = gradients(crops @ GREY) @ gradients(self.grey + self.clear * behind).T
        return likeness.reshape(-1, *self.shape)


def solid_histograms(icons: FloatArray) -> FloatArray:
    """Histograms (I, Q) of premultiplied icons (I, s, s, 4), each pixel counted by its opacity."""
    opacity = icons[..., 3] / 255
    colours = icons[..., :3] / np.maximum(opacity, 1 / 255)[..., None]
    counts = [o.ravel() @ shares(c.reshape(-1, 3)) for o, c in zip(opacity, colours, strict=True)]
    return np.array(counts, np.float32) / np.float32(SIDE**2)


def shares(rgb: FloatArray) -> FloatArray:
    """How much each of some colours (P, 3) belongs to each bin of CIE Lab: (P, Q), rows sum to 1."""
    at = np.clip((lab(rgb) - LOW) / STEPS, 0, np.array(BINS) - 1)  # (P, 3)
    along = [np.maximum(0, 1 - np.abs(at[:, i, None] - np.arange(bins))) for i, bins in enumerate(BINS)]
    joint: FloatArray = np.einsum("pl,pa,pb->plab", *along).astype(np.float32)
    return joint.reshape(len(rgb), -1)


def gradients(grey: FloatArray) -> FloatArray:
    """How much edge of which direction is where in pictures (B, s, s): unit vectors, a histogram for each cell."""
    padded = F.pad(torch.from_numpy(grey)[:, None], (1, 1, 1, 1), mode="replicate")
    along = F.conv2d(padded, kernels()).relu()  # (B, DIRECTIONS, s, s)
    cells = F.avg_pool2d(along, CELL).flatten(1).sqrt()  # the root: else a few strong edges are all that counts
    return F.normalize(cells, dim=1).numpy()


def kernels() -> torch.Tensor:
    """Slopes (DIRECTIONS, 1, 3, 3) along each direction."""
    angles = 2 * torch.pi * torch.arange(DIRECTIONS) / DIRECTIONS
    kernels = torch.zeros(DIRECTIONS, 1, 3, 3)
    kernels[:, 0, 1, 2], kernels[:, 0, 1, 0] = angles.cos(), -angles.cos()
    kernels[:, 0, 2, 1], kernels[:, 0, 0, 1] = angles.sin(), -angles.sin()
    return kernels


def resized(crop: FloatArray, side: int = SIDE) -> FloatArray:
    """A square crop (a, a, 3) at another side: means of areas when it shrinks."""
    image = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))[None]
    return F.interpolate(image, (side, side), mode="bilinear", antialias=True)[0].numpy().transpose(1, 2, 0)
