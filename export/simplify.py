"""A traced graph made simpler: constants folded, and nodes rewritten or removed that do nothing."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes import common
from onnxscript import rewriter
from onnxscript.rewriter.rules.common import slice_split_rule

ROUNDS = 2
"""As onnxscript has it: the second finds what the first made possible."""

RULES = rewriter.RewriteRuleSet([rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule is not slice_split_rule])
"""Those of onnxscript, but the one that looks for pairs, of which no graph here has any: at each node it walks the
whole graph, which took four fifths of the time for 28 layers."""


def simplify(model: ir.Model, should_fold: Callable[[ir.Node], bool | None]) -> None:
    """What onnxscript.optimizer.optimize_ir does, pass by pass, with RULES; in place."""
    rounds = ir.passes.PassManager(
        [
            _Fold(should_fold),
            rewriter.RewritePass(RULES),
            common.RemoveUnusedNodesPass(),
            common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
            common.RemoveUnusedOpsetsPass(),
        ],
        steps=ROUNDS,
    )
    ir.passes.Sequential(
        common.InlinePass(),
        rounds,
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)


class _Fold(ir.passes.InPlacePass):
    def __init__(self, should_fold: Callable[[ir.Node], bool | None]) -> None:
        super().__init__()
        self.should_fold = should_fold

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        folded = onnxscript.optimizer.fold_constants(model, onnx_shape_inference=True, should_fold=self.should_fold)
        return ir.passes.PassResult(model, modified=bool(folded.modified))
