"""Graph with weights in int8 -> graph of the core's own CPU operators: few passes over memory instead of many.

Products are int8, as in `int8.py`; attention is bf16 with fp32 sums, and so are the keys and values at the graph's
border. Norms, rotary embedding, modulation and the residual stream stay fp32. The operators are those of
cpp_ext/onnxruntime, in the domain "flagdit"; ONNX Runtime's own do what is left, the model's ends and whatever is
between two parts of a layer.

Parts are found by the nodes that they are made of (`patterns.py`), one by one: attention to a cache, what projects to
its heads, feed-forwards, and then single products. No part has to be there for another to be found, and what becomes
of no operator stays as it is.

Letters: A active tokens, R rows, T text tokens, G kv heads, d head size, K inputs and N outputs of a matrix.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from flagdit.engine.bundle.ports import keys_or_values
from flagdit.engine.compiler.int8_weights import Int8Weight, int8_weight
from flagdit.engine.compiler.patterns import Ending, Heads, Inputs, Modulated, epsilon_of, made_by
from flagdit.engine.compiler.precision import constant, import_ir, settle
from flagdit.engine.compiler.seen import Seen, unknown_attention
from flagdit.engine.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir

DOMAIN = "flagdit"
NONE = (None, None)  # two optional inputs that are not there


def to_amx(model: ir.Model) -> int:
    """Put the operators into `model`, in place. Returns how many products with int8 weights there are.

    Raises BackendError if onnx_ir is not installed, BuildError if it attends otherwise than flagdit.export makes it.
    """
    rewrite = _Amx(model.graph)
    for node in tuple(model.graph):
        if node.op_type == "Attention" and not node.domain and (seen := Seen.of(node)) is not None:
            rewrite.attention(seen)
    for node in tuple(rewrite.weights):
        rewrite.feed_forward(node)
    rewrite.halve_border()
    rewrite.prune(model)  # of the products, those are left that are no part of another operator
    for node in tuple(model.graph):
        if node in rewrite.weights:
            rewrite.linear(node)
    rewrite.prune(model)
    settle(model.graph, rewrite.half)
    for node in model.graph:
        if node.op_type == "Attention" and node.domain != DOMAIN:
            raise unknown_attention(node)
    model.opset_imports[DOMAIN] = 1
    return len(rewrite.weights)


class _Amx:
    """One rewriting. An operator takes the place of several nodes, which prune() then removes."""

    def __init__(self, graph: ir.Graph) -> None:
        self.ir, self.graph = import_ir(), graph
        self.half = self.ir.DataType.BFLOAT16
        self.weights: dict[ir.Node, Int8Weight] = {
            node: weight for node in graph if (weight := int8_weight(node)) is not None
        }

    def prune(self, model: ir.Model) -> None:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        RemoveUnusedNodesPass()(model)

    def halve_border(self) -> None:
        """Keys and values are bf16 in the caches and of the text: attention rounds them to it in any case."""
        for value in self.graph.inputs:
            if keys_or_values(value.name or "", tuple(value.shape or ())):
                value.dtype = self.half

    def linear(self, node: ir.Node) -> None:
        """x @ W.T, with what becomes of it."""
        matrix, scales, _ = self.weights[node]
        ending = Ending.of(node.outputs[0])
        self.end(ending, "Linear", (node.inputs[0], matrix, scales), (ending.bias,))

    def feed_forward(self, node: ir.Node) -> None:
        """(silu(x @ W1.T) * (x @ W3.T)) @ W2.T of a modulated x, or gelu(x @ W1.T + b1) @ W2.T, if that is `node`."""
        gelu = made_by(node.inputs[0], "Gelu")
        if gelu is not None and gelu.attributes.get_string("approximate", "none") == "tanh":
            total = made_by(gelu.inputs[0], "Add")
            first, bias = (made_by(total.inputs[0], "MatMul"), total.inputs[1]) if total is not None else NONE
            if first in self.weights and bias is not None:
                self.put_feed_forward(first, node, None, bias)
            return
        product = made_by(node.inputs[0], "Mul")
        silu = made_by(product.inputs[0], "Mul") if product is not None else None
        if product is None or silu is None:
            return
        gate, value = made_by(silu.inputs[0], "MatMul"), made_by(product.inputs[1], "MatMul")
        sigmoid = made_by(silu.inputs[1], "Sigmoid")
        if gate not in self.weights or value not in self.weights or sigmoid is None:
            return
        if sigmoid.inputs[0] is gate.outputs[0] and gate.inputs[0] is value.inputs[0]:
            self.put_feed_forward(gate, node, value, None)

    def put_feed_forward(self, first: ir.Node, last: ir.Node, gated: ir.Node | None, bias: ir.Value | None) -> None:
        x, attributes = self.modulated(first.inputs[0])
        third = self.matrices(gated) if gated is not None else NONE
        ending = Ending.of(last.outputs[0])
        inputs = (*x, *self.matrices(first, last), *third)
        self.end(ending, "FeedForward", inputs, (bias, ending.bias), **attributes)

    def modulated(self, value: ir.Value | None) -> tuple[Inputs, dict[str, float]]:
        """Inputs and attributes that say how `value` is made; it itself if it is not modulated."""
        try:
            x = Modulated.of(value)
        except BuildError:
            return (value, *NONE), {"epsilon": 0.0, "scale": 0, "shift": 0}
        return x.inputs, x.attributes

    def attention(self, seen: Seen) -> None:
        """Attention to head and tail, (A, R, G, d) and (M, R, G, d), and to the text if there is one; its heads."""
        for heads in seen.heads():
            self.project(*heads)
        before = seen.out.producer()
        assert before is not None
        keys, values = (self.halved(tuple(concat.inputs[:-1]), before) for concat in (seen.keys, seen.values))
        scale = seen.scale
        if isinstance(scale, float):
            scale = constant(self.graph, f"amx.scale.{scale}", np.array([scale], np.float32))
        tails = seen.keys.inputs[-1], seen.values.inputs[-1]
        text: Inputs = (None,) * 4
        if seen.text is not None:
            text = (seen.text.key, seen.text.value, seen.text.bias, seen.text.gate)
        inputs = (seen.asked.inputs[0], scale, keys, values, *tails, *text, seen.bias)
        self.put((seen.out,), "Attention", inputs, text_scale=seen.text.scale if seen.text is not None else 1.0)

    def halved(self, parts: Inputs, before: ir.Node) -> ir.Value:
        """(A, R, G, d) in bf16 of parts of it, behind each other."""
        made = []
        for part in parts:
            assert part is not None
            value = part
            if part.dtype != self.half:
                cast = self.ir.node("Cast", [part], {"to": self.half.value})
                self.graph.insert_before(before, cast)
                value = cast.outputs[0]
                value.dtype, value.shape = self.half, part.shape
            made.append(value)
        if len(made) == 1:
            return made[0]
        joined = self.ir.node("Concat", made, {"axis": 0})
        self.graph.insert_before(before, joined)
        joined.outputs[0].dtype = self.half
        out: ir.Value = joined.outputs[0]
        return out

    def project(self, *values: ir.Value) -> None:
        """Query, key and value from the same x, if they are that; modulated or not."""
        try:
            heads = [Heads.of(value) for value in values]
        except BuildError:
            return
        query, key, value = heads
        products = [part.product for part in heads]
        angles = {part.rotary.inputs[1:3] if part.rotary is not None else NONE for part in (query, key)}
        norms = [part.norm.inputs[1:3] if part.norm is not None else NONE for part in (query, key)]
        epsilons = {epsilon_of(part.norm) for part in (query, key) if part.norm is not None}
        same = len({product.inputs[0] for product in products}) == len(angles) == 1 and len(epsilons) < 2
        kinds = {part.each for part in (query, key) if part.norm is not None}
        stored = all(product in self.weights for product in products)
        if not same or not stored or value.norm is not None or value.rotary is not None or len(kinds) > 1:
            return
        x, attributes = self.modulated(products[0].inputs[0])
        if True in kinds:
            attributes["each_head"] = 1
            norms = [(norm[0], None) for norm in norms]
        inputs = (*x, *self.matrices(*products), *angles.pop(), *norms[0], *norms[1], *(part.bias for part in heads))
        epsilon = epsilons.pop() if epsilons else 0.0
        made = self.put(values, "Project", inputs, **attributes, size=query.size, norm_epsilon=epsilon)
        for out in made[1:]:
            out.dtype = self.half

    def matrices(self, *products: ir.Node) -> Inputs:
        """Weights and scales of products."""
        return tuple(chain.from_iterable(self.weights[product][:2] for product in products))

    def end(self, ending: Ending, op: str, inputs: Inputs, biases: Inputs, **attributes: float) -> None:
        """Put an operator in the place of what makes the ending's value."""
        norm = ending.norm
        if norm is not None:
            attributes["out_epsilon"] = epsilon_of(norm)
        more = (ending.residual, ending.gates, *biases, norm.inputs[1] if norm is not None else None)
        self.put((ending.out,), op, (*inputs, *more), **attributes, gate=ending.gate)

    def put(self, old: tuple[ir.Value, ...], op: str, inputs: Inputs, **attributes: Any) -> tuple[ir.Value, ...]:
        """An operator that makes values in the place of what made them: it comes where the first one was made."""
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
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
