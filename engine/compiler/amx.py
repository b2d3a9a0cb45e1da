"""Graph with weights in int8 -> graph of the core's own CPU operators: few passes over memory instead of many.

Products are int8, as in `int8.py`; attention is bf16 with fp32 sums, and so are the keys and values at the graph's
border. Norms, rotary embedding, modulation and the residual stream stay fp32. The operators are those of
cpp_ext/onnxruntime, in the domain "flagdit", four a layer; ONNX Runtime's own do what is left, the model's ends.

Letters: A active tokens, R rows, T text tokens, G kv heads, d head size, K inputs and N outputs of a matrix.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flagdit.engine.compiler.int8_weights import Int8Weight, int8_weight
from flagdit.engine.compiler.precision import import_ir
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir

DOMAIN = "flagdit"
HALF = re.compile(r"((key|value)_(head|tail)|text_(key|value))\.\d+")
"""Names of what is bf16 at the graph's border."""

Inputs = tuple["ir.Value | None", ...]
NONE = (None, None)  # two optional inputs that are not there


def to_amx(model: ir.Model) -> int:
    """Put the operators into `model`, in place. Returns how many products with int8 weights there are.

    Raises BackendError if onnx_ir is not installed, BuildError if the graph is not made as flagdit.export makes it.
    """
    rewrite = _Amx(model.graph)
    for node in tuple(model.graph):
        if node.op_type == "Attention" and len(node.inputs) == 3:  # without the mask of a text
            rewrite.attention(node)
    for node in tuple(rewrite.weights):
        rewrite.feed_forward(node)
    rewrite.halve_border()
    rewrite.prune(model)  # of the products, those are left that are no part of another operator
    for node in tuple(model.graph):
        if node in rewrite.weights:
            rewrite.linear(node)
    rewrite.prune(model)
    model.opset_imports[DOMAIN] = 1
    return len(rewrite.weights)


def _made_by(value: ir.Value | None, *ops: str) -> ir.Node | None:
    """The node that makes `value`, if it is such a one."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in ops and not node.domain else None


def _only_use(value: ir.Value, op: str) -> ir.Node | None:
    """The one node that `value` goes to, if it is such a one."""
    users = {use.node for use in value.uses()}
    return next((node for node in users if node.op_type == op), None) if len(users) == 1 else None


def _attention_of(flat: ir.Value | None) -> ir.Node | None:
    """The attention whose output (A, R, H * d) is."""
    reshaped = _made_by(flat, "Reshape")
    turned = _made_by(reshaped.inputs[0], "Transpose") if reshaped is not None else None
    return _made_by(turned.inputs[0], "Attention") if turned is not None else None


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The other one of two operands."""
    return next(operand for operand in node.inputs if operand is not value)


def _integer(value: ir.Value | None) -> int | None:
    """What a constant of one number is."""
    constant = import_ir().convenience.get_const_tensor(value) if value is not None else None
    return int(constant.numpy().reshape(())) if constant is not None and constant.size == 1 else None


def _vector_of(value: ir.Value) -> tuple[ir.Value, int]:
    """(R, ..., K) and the number of the vector (K) of each row that `value` is, one after another cut out of it."""
    number, stride = 0, 1
    while True:
        squeezed = _made_by(value, "Squeeze")
        cut = _made_by(squeezed.inputs[0] if squeezed is not None else value, "Slice")
        if cut is None or cut.inputs[0] is None or cut.inputs[0].shape is None:
            return value, number
        start, end, axis = (_integer(bound) for bound in cut.inputs[1:4])
        whole, size = cut.inputs[0], cut.inputs[0].shape[1]
        if start is None or start < 0 or end != start + 1 or axis != 1 or not isinstance(size, int):
            return value, number
        value, number, stride = whole, number + start * stride, stride * size


@dataclass(frozen=True)
class _Modulated:
    """x / rms(x) * weight * (1 + scale) + shift, of vectors `scale` and `shift` of every row of `vectors`."""

    x: ir.Value
    weight: ir.Value
    vectors: ir.Value
    attributes: dict[str, float]

    @classmethod
    def of(cls, value: ir.Value | None) -> _Modulated:
        """How `value` is made. Raises BuildError if it is not made so."""
        total = _made_by(value, "Add")
        product = _made_by(total.inputs[0], "Mul") if total is not None else None
        norm = _made_by(product.inputs[0], "RMSNormalization") if product is not None else None
        more = _made_by(product.inputs[1], "Add") if product is not None else None
        if total is None or norm is None or more is None or _integer(more.inputs[1]) != 1:
            raise BuildError(f"{value}: not modulated as expected; export the model again with this flagdit")
        x, weight, scale, shift = (*norm.inputs[:2], more.inputs[0], total.inputs[1])
        assert x is not None and weight is not None and scale is not None and shift is not None
        (vectors, scale_number), (same, shift_number) = _vector_of(scale), _vector_of(shift)
        if vectors is not same:
            raise BuildError(f"{value}: scale and shift of two tensors; export the model again with this flagdit")
        epsilon = norm.attributes["epsilon"].as_float()
        return cls(x, weight, vectors, {"epsilon": epsilon, "scale": scale_number, "shift": shift_number})

    @property
    def inputs(self) -> Inputs:
        return self.x, self.weight, self.vectors


@dataclass(frozen=True)
class _Heads:
    """x W^T, with a norm over all heads and a rotation or without, as heads of `size` values."""

    product: ir.Node
    norm: ir.Node | None
    rotary: ir.Node | None
    size: int

    @classmethod
    def of(cls, value: ir.Value | None) -> _Heads:
        """How `value` (A, R, heads, size) is made. Raises BuildError if it is not made so."""
        heads = _made_by(value, "Reshape")
        size = value.shape[3] if value is not None and value.shape is not None and len(value.shape) == 4 else None
        last = heads.inputs[0] if heads is not None else None
        rotary = _made_by(last, "RotaryEmbedding")
        last = rotary.inputs[0] if rotary is not None else last
        norm = _made_by(last, "LayerNormalization")
        product = _made_by(norm.inputs[0] if norm is not None else last, "MatMul")
        if product is None or not isinstance(size, int):
            raise BuildError(f"{value}: heads of another kind; export the model again with this flagdit")
        return cls(product, norm, rotary, size)


class _Amx:
    """One rewriting. An operator takes the place of several nodes, which prune() then removes."""

    def __init__(self, graph: ir.Graph) -> None:
        self.ir, self.graph = import_ir(), graph
        self.weights: dict[ir.Node, Int8Weight] = {
            node: weight for node in graph if (weight := int8_weight(node)) is not None
        }

    def prune(self, model: ir.Model) -> None:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        RemoveUnusedNodesPass()(model)

    def halve_border(self) -> None:
        """Keys and values are bf16 in the caches and of the text: attention rounds them to it in any case."""
        for value in (*self.graph.inputs, *self.graph.outputs):
            if HALF.fullmatch(value.name or ""):
                value.dtype = self.ir.DataType.BFLOAT16

    def linear(self, node: ir.Node) -> None:
        """x @ W.T, with a residual if that is what becomes of it."""
        matrix, scales, _ = self.weights[node]
        self.replace(node.outputs[0], "Linear", (node.inputs[0], matrix, scales))

    def feed_forward(self, node: ir.Node) -> None:
        """(silu(x @ W1.T) * (x @ W3.T)) @ W2.T of a modulated x, if that is what `node` is."""
        product = _made_by(node.inputs[0], "Mul")
        silu = _made_by(product.inputs[0], "Mul") if product is not None else None
        if product is None or silu is None:
            return
        gate, value = _made_by(silu.inputs[0], "MatMul"), _made_by(product.inputs[1], "MatMul")
        sigmoid = _made_by(silu.inputs[1], "Sigmoid")
        if gate not in self.weights or value not in self.weights or sigmoid is None:
            return
        if sigmoid.inputs[0] is not gate.outputs[0] or gate.inputs[0] is not value.inputs[0]:
            return
        x = _Modulated.of(gate.inputs[0])
        inputs = (*x.inputs, *self.matrices(gate, node, value))
        self.replace(node.outputs[0], "FeedForward", inputs, **x.attributes)

    def attention(self, node: ir.Node) -> None:
        """Attention to head and tail, (A, R, G, d) and (M, R, G, d), and to the text if there is one; its heads."""
        query, *cached = (_made_by(value, "Transpose") for value in node.inputs)
        turned = _only_use(node.outputs[0], "Transpose")
        flat = _only_use(turned.outputs[0], "Reshape") if turned is not None else None
        scaled = _made_by(query.inputs[0], "Mul") if query is not None else None
        joined = [_made_by(t.inputs[0], "Concat") for t in cached if t is not None]
        pairs = [concat.inputs for concat in joined if concat is not None and len(concat.inputs) == 2]
        if flat is None or scaled is None or len(pairs) != 2:
            raise BuildError(f"{node.name}: attention of another kind; export the model again with this flagdit")
        (key, key_tail), (value, value_tail) = pairs
        out, text, text_scale = self.text(flat.outputs[0], scaled.inputs[0])
        made = self.project(scaled.inputs[0], key, value)
        inputs = (made[0], scaled.inputs[1], *made[1:], key_tail, value_tail, *text)
        self.put((out,), "Attention", inputs, text_scale=text_scale)

    def text(self, flat: ir.Value, query: ir.Value | None) -> tuple[ir.Value, Inputs, float]:
        """What is `flat` + gate * attention of the same query to the text, its inputs, and the scale of its scores."""
        total = _only_use(flat, "Add")
        product = _made_by(_other(total, flat), "Mul") if total is not None else None
        for part in product.inputs if product is not None else ():
            node = _attention_of(part)
            turned = _made_by(node.inputs[0], "Transpose") if node is not None else None
            if total is None or product is None or part is None or node is None or turned is None:
                continue
            if len(node.inputs) == 4 and turned.inputs[0] is query:
                expand = _made_by(node.inputs[3], "Expand")
                bias = expand.inputs[0] if expand is not None else node.inputs[3]
                inputs = (*node.inputs[1:3], bias, _other(product, part))
                return total.outputs[0], inputs, node.attributes["scale"].as_float()
        return flat, (), 1.0

    def project(self, *heads: ir.Value | None) -> tuple[ir.Value, ...]:
        """Query, key and value from the same modulated x."""
        query, key, value = (_Heads.of(x) for x in heads)
        products = [part.product for part in (query, key, value)]
        x = _Modulated.of(products[0].inputs[0])
        angles = {part.rotary.inputs[1:3] if part.rotary is not None else NONE for part in (query, key)}
        if len({product.inputs[0] for product in products}) > 1 or value.norm or value.rotary or len(angles) > 1:
            raise BuildError(f"{heads[0]}: projections of another kind; export the model again with this flagdit")
        norms = [part.norm.inputs[1:3] if part.norm is not None else NONE for part in (query, key)]
        epsilon = query.norm.attributes["epsilon"].as_float() if query.norm is not None else 0.0
        inputs = (*x.inputs, *self.matrices(*products), *angles.pop(), *norms[0], *norms[1])
        made = tuple(head for head in heads if head is not None)
        return self.put(made, "Project", inputs, **x.attributes, size=query.size, norm_epsilon=epsilon)

    def matrices(self, *products: ir.Node) -> Inputs:
        """Weights and scales of products. Raises BuildError if one has none that are int8."""
        for product in products:
            if product not in self.weights:
                raise BuildError(f"{product.name}: weights that are not int8; export the model again with this flagdit")
        return tuple(part for product in products for part in self.weights[product][:2])

    def replace(self, out: ir.Value, op: str, inputs: Inputs, **attributes: float) -> None:
        """Put an operator in the place of what makes `out`, and of residual + gate * out if that becomes of it."""
        product = _only_use(out, "Mul")
        total = _only_use(product.outputs[0], "Add") if product is not None else None
        if product is None or total is None:
            self.put((out,), op, inputs, **attributes, gate=0)
            return
        residual, gate = _other(total, product.outputs[0]), _other(product, out)
        assert gate is not None
        vectors, number = _vector_of(gate)
        self.put((total.outputs[0],), op, (*inputs, residual, vectors), **attributes, gate=number)

    def put(self, old: tuple[ir.Value, ...], op: str, inputs: Inputs, **attributes: Any) -> tuple[ir.Value, ...]:
        """An operator that makes values in the place of what made them: it comes where the first one was made."""
        made = self.ir.node(op, inputs, attributes, domain=DOMAIN, num_outputs=len(old))
        before = old[0].producer()
        assert before is not None
        self.graph.insert_before(before, made)
        for new, value in zip(made.outputs, old, strict=True):
            new.type, new.shape, new.name = value.type, value.shape, value.name
            self.ir.convenience.replace_all_uses_with(value, new, replace_graph_outputs=True)
            value.name = None
        outputs: tuple[ir.Value, ...] = tuple(made.outputs)
        return outputs
