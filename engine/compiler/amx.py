"""Graph with weights in int8 -> graph of the core's own CPU operators: few passes over memory instead of many.

Products are int8, as in `int8.py`; attention is bf16 with fp32 sums, and so are the keys and values at the graph's
border. Norms, rotary embedding, modulation and the residual stream stay fp32. The operators are those of
cpp_ext/onnxruntime, in the domain "flagdit", four a layer; ONNX Runtime's own do what is left, the model's ends.

Letters: A active tokens, R rows, T text tokens, G kv heads, d head size, K inputs and N outputs of a matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagdit.engine.bundle.ports import keys_or_values
from flagdit.engine.compiler.int8_weights import Int8Weight, int8_weight
from flagdit.engine.compiler.patterns import (
    Heads,
    Inputs,
    Modulated,
    attention_of,
    made_by,
    only_use,
    other,
    vector_of,
)
from flagdit.engine.compiler.precision import import_ir
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir

DOMAIN = "flagdit"
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
    if any(node.op_type == "Attention" and node.domain != DOMAIN for node in model.graph):
        raise BuildError("attention to a text of another kind; export the model again with this flagdit")
    model.opset_imports[DOMAIN] = 1
    return len(rewrite.weights)


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
            if keys_or_values(value.name or "", tuple(value.shape or ())):
                value.dtype = self.ir.DataType.BFLOAT16

    def linear(self, node: ir.Node) -> None:
        """x @ W.T, with a residual if that is what becomes of it."""
        matrix, scales, _ = self.weights[node]
        self.replace(node.outputs[0], "Linear", (node.inputs[0], matrix, scales))

    def feed_forward(self, node: ir.Node) -> None:
        """(silu(x @ W1.T) * (x @ W3.T)) @ W2.T of a modulated x, if that is what `node` is."""
        product = made_by(node.inputs[0], "Mul")
        silu = made_by(product.inputs[0], "Mul") if product is not None else None
        if product is None or silu is None:
            return
        gate, value = made_by(silu.inputs[0], "MatMul"), made_by(product.inputs[1], "MatMul")
        sigmoid = made_by(silu.inputs[1], "Sigmoid")
        if gate not in self.weights or value not in self.weights or sigmoid is None:
            return
        if sigmoid.inputs[0] is not gate.outputs[0] or gate.inputs[0] is not value.inputs[0]:
            return
        x = Modulated.of(gate.inputs[0])
        inputs = (*x.inputs, *self.matrices(gate, node, value))
        self.replace(node.outputs[0], "FeedForward", inputs, **x.attributes)

    def attention(self, node: ir.Node) -> None:
        """Attention to head and tail, (A, R, G, d) and (M, R, G, d), and to the text if there is one; its heads."""
        query, *cached = (made_by(value, "Transpose") for value in node.inputs)
        turned = only_use(node.outputs[0], "Transpose")
        flat = only_use(turned.outputs[0], "Reshape") if turned is not None else None
        scaled = made_by(query.inputs[0], "Mul") if query is not None else None
        joined = [made_by(t.inputs[0], "Concat") for t in cached if t is not None]
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
        total = only_use(flat, "Add")
        product = made_by(other(total, flat), "Mul") if total is not None else None
        for part in product.inputs if product is not None else ():
            node = attention_of(part)
            turned = made_by(node.inputs[0], "Transpose") if node is not None else None
            if total is None or product is None or part is None or node is None or turned is None:
                continue
            if len(node.inputs) == 4 and turned.inputs[0] is query:
                expand = made_by(node.inputs[3], "Expand")
                bias = expand.inputs[0] if expand is not None else node.inputs[3]
                inputs = (*node.inputs[1:3], bias, other(product, part))
                return total.outputs[0], inputs, node.attributes["scale"].as_float()
        return flat, (), 1.0

    def project(self, *heads: ir.Value | None) -> tuple[ir.Value, ...]:
        """Query, key and value from the same modulated x."""
        query, key, value = (Heads.of(x) for x in heads)
        products = [part.product for part in (query, key, value)]
        x = Modulated.of(products[0].inputs[0])
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
        product = only_use(out, "Mul")
        total = only_use(product.outputs[0], "Add") if product is not None else None
        if product is None or total is None:
            self.put((out,), op, inputs, **attributes, gate=0)
            return
        residual, gate = other(total, product.outputs[0]), other(product, out)
        assert gate is not None
        vectors, number = vector_of(gate)
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
