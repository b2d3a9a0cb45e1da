"""Matrices in blocks: 32 inputs of an output in 8 or 4 bits each, and one scale in fp32.

Products are laid out for ONNX Runtime's MatMulNBits, which multiplies such blocks of 4 bits with activations in fp32.
An 8-bit code is two of them, 16 high + low: a row has the blocks of all high halves, then those of the low ones, and is
multiplied with its input twice over. ONNX Runtime's own 8 bits either round the activations, too, and keep a second
copy of the weights, or take some hundred times as long (docs/models.md).

Letters: N outputs, K inputs of a matrix (of a table: tokens and their width); J = K / 32 blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from flagdit.export.tensors import Shape

BLOCK = 32
"""Of 32, 64 and 128 the one with the smallest error."""

SMALLEST = 1e-30
"""Magnitude of a scale where a block holds zeros."""

AT_ONCE = 1 << 17
"""Numbers that are searched together, so that they stay in a core's cache."""

ENDS = {8: (-128, 119), 4: (-8, 7)}
"""Of codes; 119 = 16 * 7 + 7 is the last one whose halves are both in 4 bits."""

DIVISORS = {8: (-128.0, -124.0, -120.0, 119.0), 4: tuple(-8.8 + 0.2 * i for i in range(9))}
"""What the largest number of a block becomes, in codes: of these scales the best is taken. Beyond an end it clips."""


@dataclass(frozen=True)
class Blocks:
    """How a matrix is stored. bits: 8 or 4. table: whether rows are looked up (int8 as they are), not multiplied."""

    bits: int
    table: bool = False

    @property
    def copies(self) -> int:
        """How often a product has its input: once for each half of a code."""
        return self.bits // 4

    @property
    def dtype(self) -> torch.dtype:
        """Of the codes."""
        return torch.int8 if self.table else torch.uint8

    def codes_shape(self, shape: Shape) -> Shape:
        """Of what is stored for a matrix (N, K): (N, 1 or 2 times J, 16) bytes, of a table (N, K)."""
        n, k = shape
        return (n, k) if self.table else (n, self.copies * k // BLOCK, BLOCK // 2)

    def scale_shape(self, shape: Shape) -> Shape:
        """(N, J), and for both halves of a code (N, 2 J)."""
        n, k = shape
        return (n, k // BLOCK * (1 if self.table else self.copies))

    def of(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and scales of a matrix (N, K), K a multiple of 32."""
        parts = [self._of(rows) for rows in _rows(matrix)]
        return torch.cat([codes for codes, _ in parts]), torch.cat([scale for _, scale in parts])

    def _of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        # Sums round alike however the numbers lie in memory, so that codes do not depend on where they came from.
        blocks = rows.float().contiguous().reshape(len(rows), -1, BLOCK)
        if self.table:
            scale = blocks.abs().amax(-1).clamp_min(SMALLEST) / 127
            return (blocks / scale[..., None]).round().to(torch.int8).reshape(rows.shape), scale
        scale = best_scale(blocks, self.bits)
        codes = _codes(blocks, scale, self.bits)
        if self.bits == 4:
            return _packed(codes), scale
        high = ((codes + 8) / 16).floor()
        return torch.cat([_packed(high), _packed(codes - 16 * high)], 1), torch.cat([16 * scale, scale], 1)

    def widen(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The matrix (N, K) that they stand for."""
        if self.table:
            blocks = codes.float().reshape(len(codes), -1, BLOCK) * scale[..., None]
            return blocks.reshape(len(codes), -1)
        nibbles = torch.stack([codes & 15, codes >> 4], -1).flatten(-2)  # (N, J or 2 J, 32)
        blocks = (nibbles.float() - 8) * scale[..., None]
        return blocks.reshape(len(codes), self.copies, -1).sum(1)


def fits(shape: Shape) -> bool:
    """Whether a tensor can be stored so."""
    return len(shape) == 2 and shape[1] % BLOCK == 0


def best_scale(blocks: Tensor, bits: int) -> Tensor:
    """The scales (N, J) of blocks (N, J, 32), by the squared error of the weights.

    Each of some scales gives codes; the scale that suits those best, by least squares, leaves an error of
    |w|^2 - <w, q>^2 / <q, q>. It may be negative, since codes reach further below zero.
    """
    at = blocks.abs().argmax(-1, keepdim=True)
    top = blocks.gather(-1, at)[..., 0]
    top = torch.where(top.abs() < SMALLEST, torch.full_like(top, SMALLEST), top)
    scale, most = torch.empty_like(top), torch.full_like(top, -1.0)
    for divisor in DIVISORS[bits]:
        codes = _codes(blocks, top / divisor, bits)
        dot, square = (blocks * codes).sum(-1), (codes * codes).sum(-1).clamp_min(1.0)
        gain = dot * dot / square
        better = gain > most
        scale, most = torch.where(better, dot / square, scale), torch.where(better, gain, most)
    return torch.where(scale.abs() < SMALLEST, torch.full_like(scale, SMALLEST), scale)


def _codes(blocks: Tensor, scale: Tensor, bits: int) -> Tensor:
    return (blocks / scale[..., None]).round_().clamp_(*ENDS[bits])


def _packed(codes: Tensor) -> Tensor:
    """Bytes (N, J, 16) of codes (N, J, 32) from -8 to 7: the first of two in the low half, 8 is zero."""
    nibbles = (codes + 8).to(torch.uint8)
    return nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)


def _rows(matrix: Tensor) -> Iterator[Tensor]:
    step = max(1, AT_ONCE // max(1, matrix.shape[1]))
    for first in range(0, len(matrix), step):
        yield matrix[first : first + step]
