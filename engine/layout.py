"""Tokens of an image: where they are, which carry no latent, and how patches become images again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import MAX_TOKENS
from flagdit.engine.errors import RequestError
from flagdit.engine.manifest import ModelSpec

FloatArray = npt.NDArray[np.float32]
Ntk = float | Literal["auto"] | None


@dataclass(frozen=True)
class TokenLayout:
    """Lines of patches; each may be closed by a token that carries no latent ([nextline]).

    height and width are in latents. A token's id is its place in the sequence.
    """

    height: int
    width: int
    patch: int
    channels: int
    closes_lines: bool = True

    @classmethod
    def of(cls, spec: ModelSpec, size: tuple[int, int] | None) -> TokenLayout:
        """The layout of `size` (width, height), by default the model's own. Raises RequestError if it cannot tile."""
        width, height = size or spec.latent.size
        _, patch, _ = spec.tokens.patch
        if min(width, height) < patch or width % patch or height % patch:
            near = "x".join(str(max(patch, round(n / patch) * patch)) for n in (width, height))
            raise RequestError(f"size {width}x{height} is not made of {patch}x{patch} patches; the nearest is {near}")
        layout = cls(height, width, patch, spec.latent.channels, "line" in spec.tokens.closes)
        if layout.tokens > MAX_TOKENS:
            raise RequestError(f"size {width}x{height} has {layout.tokens} tokens; allowed are {MAX_TOKENS}")
        return layout

    @property
    def rows(self) -> int:
        return self.height // self.patch

    @property
    def columns(self) -> int:
        return self.width // self.patch

    @property
    def pinned(self) -> int:
        """Tokens that close a line: they carry no latent and are recomputed in every step."""
        return self.rows if self.closes_lines else 0

    @property
    def stride(self) -> int:
        """Tokens in a line."""
        return self.columns + self.closes_lines

    @property
    def extent(self) -> tuple[int, int, int]:
        """Frames, lines and columns of patches."""
        return 1, self.rows, self.columns

    @property
    def patches(self) -> int:
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        return self.patches + self.pinned

    @property
    def patch_values(self) -> int:
        return self.channels * self.patch**2

    def slots(self) -> npt.NDArray[np.int32]:
        """Token ids (N,) in the first slot order: pinned tokens, then the patches row by row."""
        ids = np.arange(self.tokens, dtype=np.int32).reshape(self.rows, self.stride)
        return np.concatenate([ids[:, self.columns :].ravel(), ids[:, : self.columns].ravel()])

    def places(self) -> npt.NDArray[np.int64]:
        """Index in the sequence, frame, line and column (N, 4) of each token; -1 where it has none."""
        index = np.arange(self.tokens, dtype=np.int64)
        line, column = np.divmod(index, self.stride)
        column[column == self.columns] = -1
        return np.stack([index, np.zeros_like(index), line, column], axis=1)

    def patchify(self, images: FloatArray) -> FloatArray:
        """Patch vectors (patches, B, P) of images (B, C, H, W), ordered (channel, ph, pw)."""
        b, c, p = len(images), self.channels, self.patch
        x = images.reshape(b, c, self.rows, p, self.columns, p).transpose(2, 4, 0, 1, 3, 5)
        return np.ascontiguousarray(x, np.float32).reshape(self.patches, b, self.patch_values)

    def unpatchify(self, patches: FloatArray) -> FloatArray:
        """Images (B, C, H, W) of patch vectors (patches, B, P)."""
        b, c, p = patches.shape[1], self.channels, self.patch
        x = patches.reshape(self.rows, self.columns, b, c, p, p).transpose(2, 3, 0, 4, 1, 5)
        return np.ascontiguousarray(x).reshape(b, c, self.height, self.width)

    def arranged(self, values: FloatArray, token: npt.NDArray[np.int32]) -> FloatArray:
        """Images (B, C, H, W) of values (N, B, P) that lie in slots, given the tokens (N, B) in them."""
        out = np.empty((self.patches, *values.shape[1:]), np.float32)
        for sample in range(values.shape[1]):
            out[self.patch_index(token[self.pinned :, sample]), sample] = values[self.pinned :, sample]
        return self.unpatchify(out)

    def patch_index(self, token: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Row-major patch number of patch tokens' ids."""
        return token - token // self.stride if self.closes_lines else token


def model_shift(spec: ModelSpec, size: tuple[int, int] | None) -> float:
    """The time shift that suits the model at a size, by default its own. Raises RequestError if that cannot tile."""
    return spec.flow.shift_at(TokenLayout.of(spec, size).patches)


def ntk_factor(spec: ModelSpec, layout: TokenLayout, ntk: Ntk) -> float:
    """The factor for `place`: 1 for None, else `ntk`, else ("auto") the area over the training area, at least 1.

    That is what Lumina-T2X's demo takes; at least 1, so that nothing changes at the training size and below it.
    """
    if ntk is None:
        return 1.0
    return max(1.0, layout.patches / TokenLayout.of(spec, None).patches) if ntk == "auto" else float(ntk)
