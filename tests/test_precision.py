"""Half-precision graphs against the fp32 graphs they were made from, in ONNX Runtime."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from tiny import random_flag_dit

from flagdit.engine.compiler import precision
from flagdit.engine.compiler.precision import to_half
from flagdit.engine.errors import BackendError
from flagdit.export import ExportOptions, FlagDiTConfig, export_model

KEY_OR_VALUE = re.compile(r"(text_)?(key|value)(_head|_tail)?\.\d+")
"""The names of what is half at the border of a Flag-DiT's graphs."""

GRAPHS = ("condition", "denoise")
GQA = FlagDiTConfig(
    dim=64, n_layers=2, n_heads=4, n_kv_heads=2, patch_size=4, in_channels=3, cap_feat_dim=16, multiple_of=32
)
TOLERANCE = {"float16": 2e-3}  # of the largest magnitude of an output; ONNX Runtime's CPU has no bfloat16
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(bool)": np.bool_}

Feeds = dict[str, np.ndarray]


@pytest.fixture(scope="module", params=["float32", "float16", "bfloat16"], ids="stored-{}".format)
def directory(request: pytest.FixtureRequest, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("precision") / "model"
    if request.param == "float32":  # the one that all tests share is stored so; it has as many kv heads as heads
        return shutil.copytree(model_dir, path)
    export_model(random_flag_dit(GQA), path, ExportOptions(dtype=request.param, size=(32, 32)))
    return path


def half(directory: Path, graph: str, dtype: str) -> Path:
    model = ir.load(directory / f"{graph}.onnx")
    to_half(model, dtype)
    path = directory / f"{graph}.{dtype}.onnx"
    ir.save(model, path)
    return path


def feeds(session: ort.InferenceSession, sizes: dict[str, int]) -> Feeds:
    """Random inputs, except where the numbers mean something."""
    rng = np.random.default_rng(0)
    shapes = {i.name: [sizes.get(d, d) for d in i.shape] for i in session.get_inputs()}
    made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    masked = np.arange(sizes["T"]) >= sizes["T"] - 2
    if "t" in made:
        return made | {"t": np.linspace(0, 1, sizes["S"], dtype=np.float32), "text_mask": ~masked[None].repeat(2, 0)}
    angles = rng.uniform(-3, 3, shapes["rope_cos"])
    fixed = {"rope_cos": np.cos(angles), "rope_sin": np.sin(angles), "attention_scale": np.array([0.25])}
    bias = np.broadcast_to(np.where(masked, -1e4, 0), shapes["text_bias"])
    return made | {name: value.astype(np.float32) for name, value in (fixed | {"text_bias": bias}).items()}


def run(session: ort.InferenceSession, given: Feeds) -> Feeds:
    cast = {i.name: given[i.name].astype(TYPES[i.type]) for i in session.get_inputs()}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, cast), strict=True))


@pytest.mark.parametrize("tail", [0, 5], ids="M={}".format)
@pytest.mark.parametrize("graph", GRAPHS)
def test_float16_agrees_with_float32(directory: Path, graph: str, tail: int) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    single = ort.InferenceSession(directory / f"{graph}.onnx", options)
    given = feeds(single, {"A": 7, "M": tail, "R": 2, "T": 6, "S": 3})
    expected = run(single, given)
    got = run(ort.InferenceSession(half(directory, graph, "float16"), options), given)
    assert list(got) == list(expected)
    for name, value in expected.items():
        error = np.abs(got[name].astype(np.float32) - value).max() / np.abs(value).max()
        assert error < TOLERANCE["float16"], name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_the_graph_is_valid_and_half_where_it_counts(directory: Path, graph: str, dtype: str) -> None:
    path = half(directory, graph, dtype)
    onnx.checker.check_model(path, full_check=True)  # infers every type anew
    model = ir.load(path)
    wanted = ir.DataType[dtype.upper()]
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.dtype != ir.DataType.BOOL:
            assert value.dtype == (wanted if KEY_OR_VALUE.fullmatch(value.name) else ir.DataType.FLOAT), value.name
    for node in model.graph:
        if node.op_type in ("MatMul", "Gemm", "Attention"):
            assert {value.dtype for value in node.inputs} == {wanted}, node.name


def test_matrices_stored_as_they_are_used_are_not_cast(directory: Path) -> None:
    model = ir.load(directory / "denoise.onnx")
    stored = next(v.dtype for n, v in model.graph.initializers.items() if n.endswith("wq.weight"))
    to_half(model, "float16")
    casts = [n for n in model.graph if n.op_type == "Cast" and n.inputs[0].is_initializer() and n.inputs[0].shape]
    assert bool([n for n in casts if len(n.inputs[0].shape) > 1]) == (stored == ir.DataType.BFLOAT16)


def test_a_key_that_is_both_output_and_operand_is_cast_once(directory: Path) -> None:
    model = ir.load(half(directory, "denoise", "float16"))
    key = next(value for value in model.graph.outputs if value.name == "key_head.0")
    assert key.producer().op_type == "Cast"
    assert [node.op_type for node in key.consumers()] == ["Concat"]


def test_without_onnx_ir_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx_ir", None)  # importing it now fails
    with pytest.raises(BackendError, match=r"onnx-ir is not installed.*pip install 'flagdit\[rtx\]'"):
        precision.import_ir()
