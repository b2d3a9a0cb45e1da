"""The matrix products that every token goes through in every layer, found in a graph: what is worth quantising.

Letters: A tokens, R rows, K inputs and N outputs of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from flagdit.engine.compiler.patterns import made_by
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir

Step = Callable[["ir.Node"], Iterable["ir.Node"]]


class Product(NamedTuple):
    """x (A, R, K) times W^T: `node` multiplies x with what `turned`, a Transpose, makes of W (N, K), a constant."""

    node: ir.Node
    turned: ir.Node

    @property
    def x(self) -> ir.Value:
        """(A, R, K), of image or text."""
        value = self.node.inputs[0]
        assert value is not None
        return value

    @property
    def weight(self) -> ir.Value:
        """W (N, K)."""
        value = self.turned.inputs[0]
        assert value is not None
        return value


def products_of(graph: ir.Graph) -> list[Product]:
    """All of `denoise` but those at the model's ends: what `tokens` come to first, and what `velocity` comes from.

    Those of a text that goes through the layers with the image are among them. Raises BuildError if there are none.
    """
    found = [product for node in graph if (product := _product(node)) is not None]
    ends = {id(node) for node in (*_first(graph), *_last(graph))}
    inner = [product for product in found if id(product.node) not in ends]
    if not inner:
        raise BuildError("no matrix product of a layer in the graph; export the model again with this flagdit")
    return inner


def _product(node: ir.Node) -> Product | None:
    """What a node multiplies, if that is tokens of rows with a stored matrix."""
    turned = made_by(node.inputs[1], "Transpose") if node.op_type == "MatMul" and not node.domain else None
    x = node.inputs[0]
    if turned is None or x is None or x.shape is None or len(x.shape) != 3 or not _is_stored(turned.inputs[0]):
        return None
    return Product(node, turned)


def _is_stored(value: ir.Value | None) -> bool:
    """Whether it is a matrix of the weights, as it is or widened: a cast, or a cast times a scale."""
    scaled = made_by(value, "Mul")
    cast = made_by(scaled.inputs[0] if scaled is not None else value, "Cast")
    stored = cast.inputs[0] if cast is not None else value
    return stored is not None and stored.is_initializer() and len(stored.shape or ()) == 2


def _first(graph: ir.Graph) -> list[ir.Node]:
    """The products that what is painted goes into, without another product between."""
    (tokens,) = [value for value in graph.inputs if value.name == "tokens"]
    return _reached(tokens.consumers(), lambda node: (use for out in node.outputs for use in out.consumers()))


def _last(graph: ir.Graph) -> list[ir.Node]:
    """The products that the velocity is made of, without another product between."""
    (velocity,) = [value for value in graph.outputs if value.name == "velocity"]
    start = velocity.producer()
    return _reached([] if start is None else [start], _before)


def _before(node: ir.Node) -> Iterable[ir.Node]:
    makers = (value.producer() for value in node.inputs if value is not None)
    return (maker for maker in makers if maker is not None)


def _reached(start: Iterable[ir.Node], further: Step) -> list[ir.Node]:
    """The products that are met first on the ways of values, not of shapes, from `start`."""
    found, seen, stack = [], set(), list(start)
    while stack:
        node = stack.pop()
        if id(node) in seen or node.op_type == "Shape":
            continue
        seen.add(id(node))
        if node.op_type == "MatMul":
            found.append(node)
        else:
            stack.extend(further(node))
    return found
