"""Tokens of an image: where they are, which carry no latent, and how patches become images again."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import Layout
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.model import model_of

FloatArray = npt.NDArray[np.float32]
Ntk = float | Literal["auto"] | None


class TokenLayout(Layout):
    """The layout of latents (B, C, H, W), with arrays made for the caller. A token's id is its place in the sequence.

    height and width are in latents.
    """

    def __init__(
        self,
        height: int,
        width: int,
        patch: int | tuple[int, int, int],
        *,
        channels: int,
        closes_lines: bool = True,
        multiple: int = 1,
    ) -> None:
        """patch: its frames, height and width, or the side of a square. multiple: of tokens, up to which those without
        a place follow the last patch. Raises ValueError if patches do not tile.
        """
        sides = (1, patch, patch) if isinstance(patch, int) else patch
        super().__init__(height, width, channels, sides, closes_lines=closes_lines, multiple=multiple)

    @classmethod
    def of(cls, spec: ModelSpec, size: tuple[int, int] | None) -> TokenLayout:
        """The layout of `size` (width, height), by default the model's own. Raises RequestError if it cannot tile."""
        return cls.like(model_of(spec).layout(size))

    @classmethod
    def like(cls, layout: Layout) -> TokenLayout:
        """The same layout."""
        patch = layout.patch_frames, layout.patch_height, layout.patch_width
        return cls(
            layout.height,
            layout.width,
            patch,
            channels=layout.channels,
            closes_lines=layout.closes_lines,
            multiple=layout.multiple,
        )

    @property
    def extent(self) -> tuple[int, int, int]:
        """Frames, lines and columns of patches."""
        return self.depth, self.lines, self.columns

    def slots(self) -> npt.NDArray[np.int32]:
        """Token ids (N,) in the first slot order: pinned tokens, then the patches line by line."""
        out = np.empty(self.tokens, np.int32)
        self.fill_slots(out)
        return out

    def places(self) -> npt.NDArray[np.int64]:
        """Index in the sequence, frame, line and column (N, 4) of each token; -1 where it has none."""
        out = np.empty((self.tokens, 4), np.int64)
        self.fill_places(out)
        return out

    def patch_index(self, token: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Number of a patch, line by line, of tokens' ids, -1 of one that carries no latent."""
        out = np.empty(token.shape, np.int32)
        self.fill_patches(np.ascontiguousarray(token, np.int32), out)
        return out

    def patchify(self, images: FloatArray) -> FloatArray:
        """Patch vectors (patches, B, P) of images (B, C, H, W), ordered (channel, height, width)."""
        out = np.empty((self.patches, len(images), self.patch_values), np.float32)
        self.cut(np.ascontiguousarray(images[:, :, None], np.float32), out)
        return out

    def unpatchify(self, patches: FloatArray) -> FloatArray:
        """Images (B, C, H, W) of patch vectors (patches, B, P)."""
        out = np.empty((patches.shape[1], self.channels, 1, self.height, self.width), np.float32)
        self.join(np.ascontiguousarray(patches, np.float32), out)
        return out[:, :, 0]

    def arranged(self, values: FloatArray, token: npt.NDArray[np.int32]) -> FloatArray:
        """Images (B, C, H, W) of values (N, B, P) that lie in slots, given the tokens (N, B) in them."""
        out = np.empty((self.patches, *values.shape[1:]), np.float32)
        for sample in range(values.shape[1]):
            out[self.patch_index(token[self.pinned :, sample]), sample] = values[self.pinned :, sample]
        return self.unpatchify(out)


def model_shift(spec: ModelSpec, size: tuple[int, int] | None) -> float:
    """The time shift that suits the model at a size, by default its own. Raises RequestError if that cannot tile."""
    return model_of(spec).shift(size)
