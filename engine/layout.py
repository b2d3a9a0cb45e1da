"""Tokens of an image: where they are, which carry no latent, and how patches become images again."""

from __future__ import annotations

import math
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
    """A Flag-DiT sequence: rows of patches, each closed by a [nextline] token (models.md: positions 0..N-1).

    height and width are in latent pixels. A token's id is its place in the sequence.
    """

    height: int
    width: int
    patch: int
    channels: int

    @classmethod
    def of(cls, spec: ModelSpec, size: tuple[int, int] | None) -> TokenLayout:
        """The layout of `size` (width, height), by default the model's own. Raises RequestError if it cannot tile."""
        width, height = size or spec.latent.size
        patch = spec.tokens.patch_size
        if min(width, height) < patch or width % patch or height % patch:
            near = "x".join(str(max(patch, round(n / patch) * patch)) for n in (width, height))
            raise RequestError(f"size {width}x{height} is not made of {patch}x{patch} patches; the nearest is {near}")
        layout = cls(height, width, patch, spec.latent.channels)
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
        """[nextline] tokens: they carry no latent and are recomputed in every step."""
        return self.rows

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
        ids = np.arange(self.tokens, dtype=np.int32).reshape(self.rows, self.columns + 1)
        return np.concatenate([ids[:, -1], ids[:, :-1].ravel()])

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
        return token - token // (self.columns + 1)


def rope_rows(spec: ModelSpec, positions: npt.NDArray[np.int32], ntk: float = 1.0) -> tuple[FloatArray, FloatArray]:
    """cos and sin (N, d/2) of 1-D positions (N,); `ntk` multiplies theta (NTK-aware scaling, Lumina's demo)."""
    d = spec.rope.head_dim
    frequencies = (spec.rope.theta * ntk) ** -(np.arange(0, d, 2, dtype=np.float32) / d)
    angles = positions.astype(np.float32)[:, None] * frequencies.astype(np.float32)
    return np.cos(angles), np.sin(angles)


def ntk_factor(spec: ModelSpec, layout: TokenLayout, ntk: Ntk) -> float:
    """What multiplies theta: 1 for None, else `ntk`, else ("auto") the area over the training area, at least 1.

    That is what Lumina-T2X's demo takes; at least 1, so that nothing changes at the training size and below it.
    """
    if ntk is None:
        return 1.0
    return max(1.0, layout.patches / TokenLayout.of(spec, None).patches) if ntk == "auto" else float(ntk)


def base_tokens(spec: ModelSpec) -> int:
    """Base of proportional attention: the tokens of a picture of the training size, [nextline] included.

    The official demo counts every [nextline] twice: 4224 for 1024 pixels, whose sequence has 4160. So its softmax scale
    is .9991 of the plain one at the training size, where this base changes nothing.
    """
    return TokenLayout.of(spec, None).tokens


def attention_scale(spec: ModelSpec, tokens: int, base_tokens: int | None = None) -> float:
    """Softmax scale; with `base_tokens`, proportional attention: sqrt(log_base(N) / d) (Lumina-T2X)."""
    growth = 1.0 if base_tokens is None else math.log(tokens) / math.log(base_tokens)
    return math.sqrt(growth / spec.rope.head_dim)
