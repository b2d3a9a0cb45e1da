"""fp32 graph -> graph whose products TensorRT computes in int8 or fp8: pairs of QuantizeLinear and DequantizeLinear.

TensorRT reads them as what they mean: values that were rounded with a scale that is known when an engine is built, and
so may be multiplied as they are. A matrix is rounded with a scale for each output in int8, which has one exponent for
all of them, and with one in fp8, which has one for every number; what it is multiplied with, with one scale for all
tokens, after outliers have moved into the matrix in int8. In int8 a product stays in half if a few tokens of its input
are far larger than the others, as w2's are: no scale suits both. Attention, norms, the residual stream, and products
at the model's ends stay as they are.

Letters: A tokens, R rows, K inputs and N outputs of a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from flagdit.engine.compiler.graph_writer import Writer
from flagdit.engine.compiler.precision import Half, constant, import_ir
from flagdit.engine.compiler.products import Product, products_of
from flagdit.engine.compiler.scales import Low, Scales
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir

Floats = npt.NDArray[np.float32]

MOST: Mapping[Low, float] = {"int8": 127.0, "fp8": 448.0}
"""The largest level; int8 uses none below -127, so that 0 lies in the middle."""
HALF: Half = "float16"
"""What such graphs are in where they are neither fp32 nor low."""
SMALLEST = 2.0**-24
"""The smallest scale: float16 has none below."""
SMOOTHING = 0.75
"""How far outliers move: of 0, .25, .5, .75 and .9 the best for most inputs of the demo (docs/tensorrt.md)."""
GIANT = 0.25
"""A typical token's largest magnitude, over that of all, below which int8 leaves a product in half. Of the demo's 32
inputs those of w2 have .07 to .22, one other .20, and the rest .27 to .79.
"""
FLAT = 1e-5
"""The smallest magnitude that counts when outliers are moved."""


class Rounding(NamedTuple):
    """How an input (A, R, K) is rounded: divided by `smooth` (K,), if there is one, and then with `scale`, a number."""

    smooth: Floats | None
    scale: Floats

    @classmethod
    def of(cls, largest: Floats, matrices: list[Floats], low: Low) -> Rounding:
        """Of an input that reaches `largest` (K,), for its matrices (N, K)."""
        smooth = smoothing_of(largest, matrices) if low == "int8" else None
        most = (largest if smooth is None else largest / smooth).max()
        return cls(smooth, stored_scale(np.array(most / MOST[low], np.float32)))


def to_quantised(model: ir.Model, low: Low, scales: Scales, half: Half | None = HALF) -> int:
    """Put the pairs into `model`, in fp32, in place; `to_half` comes after. Returns how many products have them.

    half: what a pair makes of fp32; None leaves it fp32, for a CPU that has no attention in half. Raises BuildError if
    there are none, if the scales are of another graph, or if none of them suits int8.
    """
    inputs, write = by_input(products_of(model.graph)), _Quantised(model.graph, low, half)
    chosen = {x: of_x for x, of_x in inputs.items() if not (low == "int8" and has_giants(x, scales))}
    if not chosen:
        raise BuildError(
            "every input of a product has a few giant tokens, which leave int8 no levels for the others; choose fp8 or "
            "float16"
        )
    for x, of_x in chosen.items():
        write.quantise(x, of_x, scales=scales)
    return sum(map(len, chosen.values()))


def has_giants(x: ir.Value, scales: Scales) -> bool:
    """Whether some tokens of x (A, R, K) are so large that the levels of int8 are too coarse for the others."""
    largest = max(scales.largest.get(x.name or "", (0.0,)))
    return scales.typical.get(x.name or "", largest) < GIANT * largest


def by_input(products: list[Product]) -> dict[ir.Value, list[Product]]:
    """The products of each input: queries, keys and values, for example, have one."""
    found: dict[ir.Value, list[Product]] = {}
    for product in products:
        found.setdefault(product.x, []).append(product)
    return found


def values_of(weight: ir.Value) -> Floats:
    """W (N, K) in fp32, from the file that it is stored in."""
    cast = weight.producer()
    stored = weight if cast is None else cast.inputs[0]
    if stored is None or stored.const_value is None:
        raise BuildError(f"{weight.name} is stored as int8; widen it first")
    return stored.const_value.numpy().astype(np.float32)


def smoothing_of(largest: Floats, matrices: list[Floats]) -> Floats:
    """s (K,), with which x / s and W s are rounded in place of x and W. SmoothQuant (2211.10438), equation 4.

    It moves outliers of x, which are in few of the K and reach `largest` (K,), into the matrices (N, K), where every
    output has a scale of its own.
    """
    most = np.max([np.abs(matrix).max(0) for matrix in matrices], 0)
    moved = np.maximum(largest, FLAT) ** SMOOTHING / np.maximum(most, FLAT) ** (1 - SMOOTHING)
    return np.asarray(moved / np.exp(np.log(moved).mean()), np.float32)


def stored_scale(scale: npt.NDArray[np.floating]) -> Floats:
    """The next larger scale that float16 holds: both nodes of a pair then have the same one."""
    near = np.maximum(scale, SMALLEST).astype(np.float16)
    return np.asarray(np.where(near < scale, np.nextafter(near, np.float16(np.inf)), near), np.float32)


class _Quantised:
    """One conversion."""

    def __init__(self, graph: ir.Graph, low: Low, half: Half | None) -> None:
        self.ir, self.graph, self.low = import_ir(), graph, low
        self.half = self.ir.DataType[(half or "float").upper()]
        self.kind = self.ir.DataType.INT8 if low == "int8" else self.ir.DataType.FLOAT8E4M3FN

    def quantise(self, x: ir.Value, products: list[Product], *, scales: Scales) -> None:
        """x (A, R, K), once for all matrices that it is multiplied with, and those."""
        matrices = [values_of(product.weight) for product in products]
        largest = np.array(scales.largest.get(x.name or "", ()), np.float32)
        if largest.shape != matrices[0].shape[1:]:
            raise BuildError(f"{x.name}: no scale is known of it; find them anew, from the model's own directory")
        smooth, scale = Rounding.of(largest, matrices, self.low)
        write = Writer(self.graph, products[0].node, self.half)
        given = x if smooth is None else write.add("Mul", x, self.constant(f"{x.name}.unsmooth", 1 / smooth))
        rounded = self.pair(write, given, scale, f"{x.name}.scale")
        for product, matrix in zip(products, matrices, strict=True):
            product.node.replace_input_with(0, rounded)
            self.quantise_matrix(product, matrix, smooth)

    def quantise_matrix(self, product: Product, matrix: Floats, smooth: Floats | None) -> None:
        """W^T (K, N), times what its input was divided by."""
        write, name = Writer(self.graph, product.node, self.half), product.turned.outputs[0].name
        turned = product.turned.outputs[0]
        if smooth is not None:
            matrix = matrix * smooth
            turned = write.add("Mul", turned, self.constant(f"{name}.smooth", smooth[:, None]))
        most = np.abs(matrix).max(1) if self.low == "int8" else np.abs(matrix).max()
        rounded = self.pair(write, turned, stored_scale(most / MOST[self.low]), f"{name}.scale")
        product.node.replace_input_with(1, rounded)

    def pair(self, write: Writer, value: ir.Value, scale: Floats, name: str) -> ir.Value:
        """`value` (..., N), rounded with one scale or one of each N: in half."""
        zero = self.zero(scale.shape)
        axis = {"axis": 1} if scale.ndim else {}
        low = write.add("QuantizeLinear", value, self.constant(name, scale), zero, **axis)
        low.dtype = self.kind
        half = self.constant(f"{name}.half", scale.astype(self.half.numpy()))
        out = write.add("DequantizeLinear", low, half, zero, **axis)
        out.dtype = self.half
        return out

    def zero(self, shape: tuple[int, ...]) -> ir.Value:
        return self.constant(f"zero.{self.low}.{'.'.join(map(str, shape))}", np.zeros(shape, self.kind.numpy()))

    def constant(self, name: str, array: np.ndarray) -> ir.Value:
        return constant(self.graph, f"quantised.{name}", array)
