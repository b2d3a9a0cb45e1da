"""Weights that an operator lays out anew are in memory once, and still there for whoever else reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from operator_numpy import int8_product
from operator_session import near, random

from flagdit.engine.session import GraphFile, open_session

EXACT = 1e-6
"""Relative, rms: sums are of integers."""
STATUS = Path("/proc/self/status")
SIDE = 4096

HOLDS = """
import sys
from pathlib import Path
from flagdit.engine.session import GraphFile, open_session, onnxruntime
from flagdit.cpp_ext import has_amx
onnxruntime()
held = lambda: int(dict(line.split(":", 1) for line in open("/proc/self/status"))["VmRSS"].split()[0]) << 10
before = held()
session = open_session(GraphFile.beside(Path(sys.argv[1])), 1, "int8-bf16")
print(held() - before)
"""


def linear(weights: str, output: str) -> object:
    return helper.make_node("Linear", ["x", weights, "s"], [output], domain="flagdit", gate=0)


def branches(weights: str, output: str) -> list[object]:
    """Nodes that make `weights` fp32 in a subgraph, whatever x is."""
    cast = helper.make_node("Cast", [weights], ["wide"], to=TensorProto.FLOAT)
    branch = helper.make_graph([cast], "branch", [], [helper.make_tensor_value_info("wide", TensorProto.FLOAT, None)])
    some = [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0), helper.make_node("IsNaN", ["sum"], ["nan"])]
    return [*some, helper.make_node("If", ["nan"], [output], then_branch=branch, else_branch=branch)]


def graph(weights: dict[str, np.ndarray], nodes: list[object], outputs: dict[str, int]) -> object:
    """A model with scales `s` and an input `x`, whose weights are in a file of the name `w`."""
    side = next(iter(weights.values())).shape[0]
    tensors = [numpy_helper.from_array(np.full((side, 1), 0.01, np.float32), "s")]
    at = 0
    for name, array in weights.items():
        tensor = TensorProto(name=name, data_type=TensorProto.INT8, dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "w"), ("offset", at), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)
        at += array.nbytes
    borders = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["A", "R", side])]
    made = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("flagdit", 1)]
    return helper.make_model(
        helper.make_graph(nodes, "one", borders, made, tensors), opset_imports=opsets, ir_version=10
    )


def test_others_read_what_they_share() -> None:
    """`own` has one reader; those of `two` are two products, those of `also` a product and an operator of ONNX Runtime,
    those of `inner` a product and a node of a subgraph.
    """
    rng = np.random.default_rng(0)
    weights = {name: rng.integers(-127, 128, (256, 256)).astype(np.int8) for name in ("own", "two", "also", "inner")}
    nodes = [linear("own", "a"), linear("two", "b"), linear("two", "c"), linear("also", "d"), linear("inner", "f")]
    nodes += [helper.make_node("Cast", ["also"], ["e"], to=TensorProto.FLOAT), *branches("inner", "g")]
    model = graph(weights, nodes, dict.fromkeys("abcdefg", TensorProto.FLOAT))
    data = b"".join(array.tobytes() for array in weights.values())
    session = open_session(GraphFile("one", model.SerializeToString(), {"w": data}), 1, "int8-bf16")
    x = random((5, 2, 256))
    made = session.run({"x": x})
    for output, name in zip("abcdf", ("own", "two", "two", "also", "inner"), strict=True):
        near(made[output], int8_product(x, (weights[name], np.full((256, 1), 0.01, np.float32))), EXACT)
    assert np.array_equal(made["e"], weights["also"])
    assert np.array_equal(made["g"], weights["inner"])
    assert data == b"".join(array.tobytes() for array in weights.values())


def passed_on() -> dict[str, tuple[list[object], list[object]]]:
    """Nodes, and functions of the file, that read `w` once, as it says, and hand it to two products, `a` and `b`."""
    twice = [linear("v", "a"), linear("v", "b")]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("flagdit", 1)]
    made: dict[str, tuple[list[object], list[object]]] = {
        "Identity": ([helper.make_node("Identity", ["w"], ["v"]), *twice], []),
        "Cast": ([helper.make_node("Cast", ["w"], ["v"], to=TensorProto.INT8), *twice], []),
    }
    for domain in ("own", "flagdit"):
        function = helper.make_function(domain, "Twice", ["x", "v", "s"], ["a", "b"], twice, opsets)
        made[f"function of {domain}"] = (
            [helper.make_node("Twice", ["x", "w", "s"], ["a", "b"], domain=domain)],
            [function],
        )
    return made


@pytest.mark.parametrize("way", passed_on())
def test_weights_that_are_passed_on_stay(way: str) -> None:
    """ONNX Runtime drops what passes them on, so that two products read `w` itself."""
    (nodes, functions), side = passed_on()[way], 256
    matrix = np.random.default_rng(0).integers(-127, 128, (side, side)).astype(np.int8)
    model = graph({"w": matrix}, nodes, dict.fromkeys("ab", TensorProto.FLOAT))
    model.functions.extend(functions)
    model.opset_import.append(helper.make_opsetid("own", 1))
    session = open_session(GraphFile("one", model.SerializeToString(), {"w": matrix.tobytes()}), 1, "int8-bf16")
    x = random((5, 2, side))
    for output in session.run({"x": x}).values():
        near(output, int8_product(x, (matrix, np.full((side, 1), 0.01, np.float32))), EXACT)


@pytest.mark.skipif(not STATUS.exists(), reason="the system does not say what a process holds")
def test_weights_are_held_once(tmp_path: Path) -> None:
    weights = {f"w{i}": np.ones((SIDE, SIDE), np.int8) for i in range(4)}
    nodes = [linear(name, f"y{name}") for name in weights]
    model = graph(weights, nodes, {f"y{name}": TensorProto.FLOAT for name in weights})
    (tmp_path / "one.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "w").write_bytes(b"".join(array.tobytes() for array in weights.values()))
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "one.onnx")]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 0.9 < grown / (len(weights) * SIDE**2) < 1.4
