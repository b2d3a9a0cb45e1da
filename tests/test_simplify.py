"""Graphs are made as simple as onnxscript makes them, but for one rule, which takes time by the square of the nodes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
import torch
from onnxscript import rewriter
from onnxscript.rewriter.rules.common import slice_split_rule
from torch import Tensor, nn

from flagdit.export.simplify import RULES, simplify


class Roundabout(nn.Module):
    """Does little, in many nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 8) -> (N, 8)."""
        y = self.linear(x * 1.0).reshape(-1, 2, 4).transpose(1, 2).transpose(1, 2)
        again = self.linear(x * 1.0)
        return y.flatten(1) + again + torch.arange(8).float().reshape(2, 4).flatten() / 2


def traced(module: nn.Module) -> ir.Model:
    torch.manual_seed(0)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        rows = {0: torch.export.Dim("N", min=1, max=64)}
        program = torch.onnx.export(
            module.eval(), (torch.zeros(5, 8),), dynamo=True, optimize=False, dynamic_shapes=(rows,), verbose=False
        )
    assert program is not None
    return program.model


def described(model: ir.Model) -> list[tuple[Any, ...]]:
    """Its nodes, with values by their numbers and constants as they are: names say how often a rule was used before."""
    known: dict[int, Any] = {}

    def value(item: ir.Value | None) -> Any:
        if item is None:
            return None
        constant = item.const_value
        return known.setdefault(id(item), len(known)) if constant is None else np.array(constant.numpy()).tolist()

    return [
        (
            node.op_type,
            [value(i) for i in node.inputs],
            [value(o) for o in node.outputs],
            {name: str(attribute.value) for name, attribute in node.attributes.items()},
        )
        for node in model.graph
    ]


def default(_: ir.Node) -> None:
    return None


def test_simple_as_onnxscript_makes_it() -> None:
    ours, theirs = traced(module := Roundabout()), traced(module)
    before = len(list(ours.graph))
    simplify(ours, default)
    onnxscript.optimizer.optimize_ir(theirs, should_fold=default)
    assert described(ours) == described(theirs)
    assert len(list(ours.graph)) < before / 2


def test_the_rule_that_walks_the_graph_at_each_node_is_left_out() -> None:
    assert slice_split_rule not in list(RULES)
    assert len(list(RULES)) == len(rewriter._DEFAULT_REWRITE_RULES) - 1
