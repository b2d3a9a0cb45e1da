"""Graph with weights in int8 -> graph of the core's own CPU operators: few passes over memory instead of many.

Products are int8, as in `int8.py`; attention is bf16 with fp32 sums, and so are the keys and values at the graph's
border. Norms, rotary embedding, modulation and the residual stream stay fp32. The operators are those of
cpp_ext/onnxruntime, in the domain "flagdit"; ONNX Runtime's own do what is left, the model's ends.

Letters: A active tokens, R rows, T text tokens, G kv heads, d head size, K inputs and N outputs of a matrix.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from flagdit.engine.compiler.int8_weights import Int8Weight, int8_weight
from flagdit.engine.compiler.precision import constant, import_ir
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir

DOMAIN = "flagdit"
CACHED = re.compile(r"(key|value)_(head|tail)\.\d+")

Inputs = tuple["ir.Value | None", ...]
NONE = (None, None)  # two optional inputs that are not there


def to_amx(model: ir.Model) -> int:
    """Put the operators into `model`, in place. Returns how many products with int8 weights there are.

    Raises BackendError if onnx_ir is not installed, BuildError if the graph is not made as flagdit.export makes it.
    """
    rewrite = _Amx(model.graph)
    for node in tuple(model.graph):
        if node.op_type == "Attention":
            rewrite.attention(node)
        elif node.op_type == "RMSNormalization":
            rewrite.modulate(node)
    for node in tuple(rewrite.weights):
        rewrite.feed_forward(node)
    rewrite.halve_caches()
    rewrite.prune(model)  # of the products, those are left that are no part of another operator
    for node in tuple(model.graph):
        if node in rewrite.weights:
            rewrite.linear(node)
    rewrite.prune(model)
    model.opset_imports[DOMAIN] = 1
    return len(rewrite.weights)


def _made_by(value: ir.Value | None, op: str) -> ir.Node | None:
    """The node that makes `value`, if it is such a one."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op else None


def _only_use(value: ir.Value, op: str) -> ir.Node | None:
    """The one node that `value` goes to, if it is such a one."""
    users = {use.node for use in value.uses()}
    return next((node for node in users if node.op_type == op), None) if len(users) == 1 else None


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The other one of two operands."""
    return next(operand for operand in node.inputs if operand is not value)


def _unsqueezed(value: ir.Value | None) -> ir.Value | None:
    """Before it lost axes of length 1: the operators count values, and a node costs microseconds."""
    node = _made_by(value, "Squeeze")
    return value if node is None else node.inputs[0]


def _is_one(value: ir.Value | None) -> bool:
    constant = import_ir().convenience.get_const_tensor(value) if value is not None else None
    return constant is not None and constant.size == 1 and bool(constant.numpy().reshape(()) == 1)


class _Amx:
    """One rewriting. An operator takes the place of several nodes, which prune() then removes."""

    def __init__(self, graph: ir.Graph) -> None:
        self.ir, self.graph = import_ir(), graph
        self.bf16 = self.ir.DataType.BFLOAT16
        self.weights: dict[ir.Node, Int8Weight] = {
            node: weight for node in graph if (weight := int8_weight(node)) is not None
        }

    def prune(self, model: ir.Model) -> None:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        RemoveUnusedNodesPass()(model)

    def halve_caches(self) -> None:
        """Keys and values of the head and of the tail are bf16: attention rounds them to it in any case."""
        for value in (*self.graph.inputs, *self.graph.outputs):
            if CACHED.fullmatch(value.name or ""):
                value.dtype = self.bf16

    def linear(self, node: ir.Node) -> None:
        """x @ W.T, as heads with norm and rotation if that is what becomes of it, or else with a residual."""
        matrix, scales, _ = self.weights[node]
        x, out = node.inputs[0], node.outputs[0]
        norm, epsilon, rotary = _only_use(out, "LayerNormalization"), 0.0, None
        if norm is not None:
            out, epsilon = norm.outputs[0], norm.attributes["epsilon"].as_float()
        rotary = _only_use(out, "RotaryEmbedding")
        out = rotary.outputs[0] if rotary is not None else out
        heads = _only_use(out, "Reshape")
        if heads is None:
            self.replace(node.outputs[0], "Linear", (x, matrix, scales))
            return
        shape = heads.outputs[0].shape
        if shape is None or len(shape) != 4 or not isinstance(shape[2], int):
            raise BuildError(f"{heads.name}: no (tokens, rows, heads, size); export the model again with this flagdit")
        extra = (*(norm.inputs[1:3] if norm is not None else NONE), *(rotary.inputs[1:3] if rotary is not None else ()))
        inputs = (x, matrix, scales, *extra) if norm is not None or rotary is not None else (x, matrix, scales)
        operator = "ProjectHalf" if heads.outputs[0].dtype == self.bf16 else "Project"
        self.put(heads.outputs[0], heads, operator, inputs, heads=shape[2], epsilon=epsilon)

    def feed_forward(self, node: ir.Node) -> None:
        """(silu(x @ W1.T) * (x @ W3.T)) @ W2.T, if that is what `node` is."""
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
        parts = [part for matrix in (gate, node, value) for part in self.weights[matrix][:2]]
        self.replace(node.outputs[0], "FeedForward", (gate.inputs[0], *parts))

    def attention(self, node: ir.Node) -> None:
        """Attention to head and tail, (A, R, G, d) and (M, R, G, d), or to the text, (R, G, T, d)."""
        query, key, value, *masks = node.inputs
        turned, after = _made_by(query, "Transpose"), _only_use(node.outputs[0], "Transpose")
        flat = _only_use(after.outputs[0], "Reshape") if after is not None else None
        if turned is None or flat is None or (not masks and _made_by(key, "Transpose") is None):
            raise BuildError(f"{node.name}: attention of another kind; export the model again with this flagdit")
        keys, values = _made_by(key, "Transpose"), _made_by(value, "Transpose")
        joined = [_made_by(t.inputs[0], "Concat") for t in (keys, values) if t is not None]
        scaled = _made_by(turned.inputs[0], "Mul")
        if len(joined) == 2 and joined[0] is not None and joined[1] is not None and scaled is not None:
            pairs = zip(joined[0].inputs, joined[1].inputs, strict=True)
            slots = [part for pair in pairs for part in pair]
            self.put(flat.outputs[0], flat, "Attention", (*scaled.inputs, *slots))
            return
        widened = [_made_by(mask, "Expand") for mask in masks]
        biases = [mask if wide is None else wide.inputs[0] for mask, wide in zip(masks, widened, strict=True)]
        factor = node.attributes["scale"].as_float()
        scale = constant(self.graph, f"{DOMAIN}.{factor:g}", np.array([factor], np.float32))
        self.replace(flat.outputs[0], "TextAttention", (turned.inputs[0], scale, key, value, *biases))

    def modulate(self, node: ir.Node) -> None:
        """rms_norm(x) * (1 + scale) + shift, with scale and shift (R, K)."""
        product = _only_use(node.outputs[0], "Mul")
        total = _only_use(product.outputs[0], "Add") if product is not None else None
        if product is None or total is None:
            return
        more = _made_by(_other(product, node.outputs[0]), "Add")
        if more is None or not _is_one(more.inputs[1]):
            return
        shift = _other(total, product.outputs[0])
        inputs = (*node.inputs[:2], _unsqueezed(more.inputs[0]), _unsqueezed(shift))
        self.put(total.outputs[0], total, "Modulate", inputs, epsilon=node.attributes["epsilon"].as_float())

    def replace(self, out: ir.Value, op: str, inputs: Inputs) -> None:
        """Put an operator in the place of what makes `out`, and of residual + gate * out if that becomes of it."""
        product = _only_use(out, "Mul")
        total = _only_use(product.outputs[0], "Add") if product is not None else None
        if product is not None and total is not None:
            residual, gate = _other(total, product.outputs[0]), _other(product, out)
            self.put(total.outputs[0], total, op, (*inputs, residual, _unsqueezed(gate)))
            return
        producer = out.producer()
        assert producer is not None
        self.put(out, producer, op, inputs)

    def put(self, old: ir.Value, before: ir.Node, op: str, inputs: Inputs, **attributes: Any) -> None:
        new = self.add(before, op, inputs, DOMAIN, **attributes)
        new.type, new.shape, new.name = old.type, old.shape, old.name
        self.ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        old.name = None

    def add(self, before: ir.Node, op: str, inputs: Inputs, domain: str = "", **attributes: Any) -> ir.Value:
        made = self.ir.node(op, inputs, attributes, domain=domain)
        self.graph.insert_before(before, made)
        out: ir.Value = made.outputs[0]
        return out
