"""The graph for ONNX Runtime's CUDA provider against the one it is made of, both on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from tiny import random_flag_dit

from flagdit.engine.bundle.builder import build_bundle, read_model
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.compiler import CudaPrecision, build_cuda
from flagdit.engine.compiler.cuda_graph import to_cuda
from flagdit.engine.compiler.graph_writer import MOST, Writer
from flagdit.engine.compiler.patterns import integer
from flagdit.engine.errors import BuildError
from flagdit.export import ExportOptions, FlagDiTConfig, export_model

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
TOLERANCE = {"float32": 1e-5, "float16": 5e-3}
"""Of the largest magnitude of an output; found: 9e-7 and 2e-3, random weights. ONNX Runtime's CPU has no bfloat16."""
GQA = {"dim": 64, "n_heads": 4, "n_kv_heads": 2}
MODELS = {"float32": {"dim": 64, "n_heads": 4}, "float16": GQA, "int8": GQA, "plain": {**GQA, "qk_norm": False}}

Feeds = dict[str, np.ndarray]


@pytest.fixture(scope="module", params=MODELS)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, stored = tmp_path_factory.mktemp("cuda") / "model", request.param
    config = FlagDiTConfig(n_layers=3, patch_size=4, in_channels=3, cap_feat_dim=16, multiple_of=32, **MODELS[stored])
    dtype = "float32" if stored == "plain" else stored
    export_model(random_flag_dit(config), path, ExportOptions(dtype=dtype, size=(32, 32)))
    return path


def written(directory: Path, precision: CudaPrecision) -> Path:
    engine = build_cuda(directory, read_model(directory), directory, precision=precision)[0]
    return directory / engine.file


def opened(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(path, options)


def feeds(session: ort.InferenceSession, sizes: dict[str, int], proportional: float = 1.0) -> Feeds:
    """Random inputs, except where the numbers mean something; the last row's text is two tokens shorter."""
    rng = np.random.default_rng(0)
    shapes = {i.name: [sizes.get(d, d) for d in i.shape] for i in session.get_inputs()}
    made = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    angles = rng.uniform(-3, 3, shapes["rope_cos"])
    made |= {"rope_cos": np.cos(angles), "rope_sin": np.sin(angles), "text_bias": np.zeros(shapes["text_bias"])}
    made["attention_scale"] = np.array([proportional * shapes["text_key.0"][3] ** -0.5])
    made["text_bias"][-1, ..., -2:] = -1e4
    made["modulation"] *= 0.3
    return {name: value.astype(np.float32) for name, value in made.items()}


def run(session: ort.InferenceSession, given: Feeds) -> Feeds:
    cast = {i.name: given[i.name].astype(TYPES[i.type]) for i in session.get_inputs()}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, cast), strict=True))


def differences(expected: Feeds, got: Feeds) -> dict[str, float]:
    """Of each output, over its largest magnitude."""
    assert list(got) == list(expected)
    assert {name: value.shape for name, value in got.items()} == {name: v.shape for name, v in expected.items()}
    return {
        name: float(np.abs(got[name] - v.astype(np.float32)).max() / np.abs(v).max())
        for name, v in expected.items()
        if v.size > 0
    }


@pytest.mark.parametrize("sizes", [(7, 5, 2), (7, 0, 2), (4, 3, 1), (3, 9, 4)], ids="A,M,R={0[0]},{0[1]},{0[2]}".format)
@pytest.mark.parametrize("precision", TOLERANCE)
def test_it_computes_what_the_exported_graph_does(
    directory: Path, precision: CudaPrecision, sizes: tuple[int, int, int]
) -> None:
    single = opened(directory / "denoise.onnx")
    given = feeds(single, dict(zip("AMRT", (*sizes, 6), strict=True)), proportional=1.1)
    found = differences(run(single, given), run(opened(written(directory, precision)), given))
    assert max(found.values()) <= TOLERANCE[precision], found


FAULTS = {
    "lengths that count every token": ("text_bias", lambda x: np.zeros_like(x)),
    "a scale that is not the run's": ("attention_scale", lambda x: x / 1.1),
    "a tail that is ignored": ("value_tail.1", np.zeros_like),
    "one row's modulation for all": ("modulation", lambda x: np.broadcast_to(x[:1], x.shape)),
    "angles of another token": ("rope_cos", lambda x: x[::-1]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_input_shows(directory: Path, fault: str) -> None:
    """What the comparison above would miss, it would miss here: an input that is wrong is seen in the velocity."""
    single = opened(directory / "denoise.onnx")
    given = feeds(single, {"A": 7, "M": 5, "R": 2, "T": 6}, proportional=1.1)
    name, wrong = FAULTS[fault]
    found = differences(
        run(single, given), run(opened(written(directory, "float32")), given | {name: wrong(given[name])})
    )
    assert found["velocity"] > 10 * TOLERANCE["float32"]


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_the_border_is_the_contracts(directory: Path, precision: CudaPrecision, tmp_path: Path) -> None:
    """A bundle that has it opens, so check_denoise takes it; keys and values are half, and tokens are not."""
    bundle, said = tmp_path / "bundle", list[str]()
    build_bundle(directory, bundle, lambda *given: build_cuda(*given, precision=precision, notes=said.append))
    assert said == []  # all layers are written anew
    (engine,) = Bundle.load(bundle).manifest.engines
    types = {tensor.name: tensor.dtype for tensor in (*engine.inputs, *engine.outputs)}
    half = {name for name, dtype in types.items() if dtype == precision}
    assert half == {name for name in types if "key" in name or "value" in name}
    assert types["tokens"] == types["velocity"] == "float32"
    model = ir.load(bundle / engine.file)
    assert not [
        v for v in model.graph.initializers.values() if v.const_value.size > 4096 and v.const_value.name[:5] == "cuda."
    ]
    ops = [node.op_type for node in model.graph]
    layers = read_model(directory).config["n_layers"]
    assert ops.count("Attention") == 2 * layers and {"Softmax", "If"}.isdisjoint(ops)


def test_another_kind_of_layer_is_refused(directory: Path) -> None:
    model = ir.load(directory / "denoise.onnx")
    for node in model.graph:
        if node.op_type == "Sigmoid":
            node.op_type = "Tanh"
    with pytest.raises(BuildError, match="is made of a layer, and by no part of one: a graph of another kind"):
        to_cuda(model, "float16")
    with pytest.raises(BuildError, match="no layer with attention to a cache"):
        to_cuda(ir.load(directory / "place.onnx"), "float16")


@pytest.mark.parametrize(
    ("count", "launches"), [(1, 0), (32, 1), (48, 3), (72, 4), (144, 7), (288, 10), (37, 4), (284, 18)]
)
def test_parts_take_few_launches(count: int, launches: int) -> None:
    graph = ir.Graph([], [], nodes=[ir.node("Identity", [ir.val("x")])], opset_imports={"": 24})
    write = Writer(graph, graph[0], ir.DataType.FLOAT)
    assert len(write.parts(ir.val("y"), count, 1)) == count
    assert len(graph) - 1 == launches and max(len(node.outputs) for node in graph) <= MOST


@pytest.mark.parametrize(("number", "found"), [(1.0, 1), (-3, -3), (1.5, None), (np.inf, None), (np.nan, None)])
def test_a_number_that_is_not_whole_is_no_integer(number: float, found: int | None) -> None:
    """So 1.5 + scale is not taken for 1 + scale."""
    assert integer(ir.Value(name="n", const_value=ir.tensor(np.array(number)))) == found
