"""int8: weights stored so, and the engines that multiply so."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY, write_text_encoder

from flagdit.engine import BuildError, cpu
from flagdit.engine.compiler import CPU_PRECISIONS, CpuPrecision
from flagdit.engine.compiler.amx import to_amx
from flagdit.engine.compiler.build import read_graph
from flagdit.engine.compiler.build_cpu import file_of
from flagdit.engine.session import GraphFile, dtype_of, open_session
from flagdit.export import ExportOptions, FlagDiT, export_model, load_checkpoint
from flagdit.export.parts.text.small import export_text_encoder
from flagdit.export.storage import PER_TOKEN, SCALE, quantise, store, widen

Feeds = dict[str, np.ndarray]

fast_int8 = pytest.mark.skipif(not cpu.here().int8, reason="this CPU has no int8 dot products")
int8_engines = pytest.mark.parametrize("precision", [pytest.param("int8", marks=fast_int8), "int8-bf16"])


@pytest.fixture(params=[0, 9], ids="M={}".format)
def feeds(request: pytest.FixtureRequest) -> Feeds:
    """Inputs of the tiny model's denoise for 7 active tokens in two rows."""
    rng, (a, m, r, t) = np.random.default_rng(0), (7, request.param, 2, 5)
    layers, heads, d = TINY.n_layers, TINY.n_heads, TINY.head_dim
    angles = rng.uniform(-3, 3, (a, r, d // 2))
    made = {
        "tokens": rng.standard_normal((a, r, 48)),
        "special": np.zeros((a, 1)),
        "rope_cos": np.cos(angles),
        "rope_sin": np.sin(angles),
        "attention_scale": np.array([d**-0.5]),
        "modulation": 0.3 * rng.standard_normal((r, layers, 6, TINY.dim)),
        "final_modulation": 0.3 * rng.standard_normal((r, 2, TINY.dim)),
        "text_bias": np.zeros((r, 1, 1, t)),
    }
    for layer in range(layers):
        for name in ("key", "value"):
            made[f"text_{name}.{layer}"] = rng.standard_normal((r, heads, t, d))
            made[f"{name}_tail.{layer}"] = rng.standard_normal((m, r, heads, d))
    return {name: array.astype(np.float32) for name, array in made.items()}


def run(graph: Path, feeds: Feeds) -> Feeds:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def run_engine(bundle: Path, precision: CpuPrecision, feeds: Feeds) -> Feeds:
    """Run an engine through memory that is bound; keys and values may be bfloat16, as bits."""
    session = open_session(GraphFile.beside(bundle / file_of(precision)), 1, precision)
    inputs = {name: narrow(x) if dtype_of(session, name) == np.uint16 else x for name, x in feeds.items()}
    outputs = {"velocity": np.empty_like(feeds["tokens"])}
    for layer in range(TINY.n_layers):
        for name in ("key", "value"):
            head, tail = f"{name}_head.{layer}", f"{name}_tail.{layer}"
            outputs[head] = np.empty((*feeds["tokens"].shape[:2], *feeds[tail].shape[2:]), dtype_of(session, head))
    session.bind({**inputs, **outputs}).run()
    return {name: widen_bits(value) if value.dtype == np.uint16 else value for name, value in outputs.items()}


def narrow(x: np.ndarray) -> np.ndarray:
    return (torch.from_numpy(x).bfloat16().view(torch.int16).numpy()).view(np.uint16)


def widen_bits(bits: np.ndarray) -> np.ndarray:
    wide: np.ndarray = (bits.astype(np.uint32) << 16).view(np.float32)
    return wide


def test_rounding_is_at_most_half_a_level() -> None:
    matrix = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)) * torch.logspace(-20, 4, 5)[:, None]
    matrix[3] = 0
    levels, scale = quantise(matrix)
    assert levels.dtype == torch.int8 and scale.shape == (5, 1)
    assert levels.abs().amax(1).tolist() == [127, 127, 127, 0, 127]
    assert bool(((matrix - levels * scale).abs() <= 0.501 * scale).all())


def test_only_what_every_token_goes_through_is_int8(flag_dit: FlagDiT, model_dir8: Path) -> None:
    stored = load_file(model_dir8 / "weights.safetensors")
    narrow = {name for name, tensor in stored.items() if tensor.dtype == torch.int8}
    assert narrow == {name for name in flag_dit.state_dict() if PER_TOKEN.fullmatch(name)}
    assert len(narrow) == 7 * TINY.n_layers
    assert {name.removesuffix(SCALE) for name in stored} == flag_dit.state_dict().keys()


def test_a_model_directory_loads_into_torch(flag_dit: FlagDiT, model_dir8: Path) -> None:
    """As a checkpoint, from which the same files are made again."""
    loaded = load_checkpoint(model_dir8).state_dict()
    assert loaded.keys() == flag_dit.state_dict().keys()
    expected = widen(store(flag_dit.state_dict(), "int8"))
    for name, tensor in loaded.items():
        torch.testing.assert_close(tensor, expected[name], atol=0, rtol=0)


def test_the_graph_computes_with_the_stored_weights(model_dir8: Path, feeds: Feeds, tmp_path: Path) -> None:
    """The fp32 graph of int8 weights is that of the same weights stored wide, in torch's own rounding."""
    export_model(load_checkpoint(model_dir8), tmp_path / "wide", ExportOptions(dtype="float32"))
    expected = run(tmp_path / "wide" / "denoise.onnx", feeds)
    for name, value in run(model_dir8 / "denoise.onnx", feeds).items():
        # the ends of the model are stored as float16, which the wide export keeps
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)


@int8_engines
def test_int8_products_are_near(bundle8: Path, feeds: Feeds, precision: CpuPrecision) -> None:
    expected = run(bundle8 / "denoise.onnx", feeds)
    for name, value in run_engine(bundle8, precision, feeds).items():
        error = np.sqrt(np.square(value - expected[name]).mean() / np.square(expected[name]).mean())
        assert 0 < error < 0.02, name


@int8_engines
def test_a_row_does_not_depend_on_the_others(bundle8: Path, feeds: Feeds, precision: CpuPrecision) -> None:
    """A batch is its pictures, to the bit: one scale for all would tie them together."""
    before = run_engine(bundle8, precision, feeds)
    louder = {name: feeds[name].copy() for name in ("tokens", "modulation")}
    louder["tokens"][:, 1] *= 50
    louder["modulation"][1] *= 5
    after = run_engine(bundle8, precision, feeds | louder)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name][:, 0], value[:, 0], err_msg=name)
        assert not np.array_equal(after[name][:, 1], value[:, 1])


@pytest.mark.parametrize("precision", CPU_PRECISIONS)
def test_the_engine_adds_no_weights(bundle8: Path, precision: CpuPrecision) -> None:
    graph = onnx.load(bundle8 / file_of(precision), load_external_data=False).graph
    held = {entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"}
    assert held == {"weights.safetensors"}


def test_what_becomes_of_the_operators(bundle8: Path) -> None:
    graph = onnx.load(bundle8 / file_of("int8"), load_external_data=False).graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("MatMulIntegerToFloat") == 7 * TINY.n_layers
    assert operators.count("QuantizeLinear") == 4 * TINY.n_layers  # q, k and v share one; so do w1 and w3
    assert operators.count("MatMul") == 3  # patches, [nextline] and the last projection
    graph = onnx.load(bundle8 / file_of("int8-bf16"), load_external_data=False).graph
    ours = Counter(node.op_type for node in graph.node if node.domain == "flagdit")
    assert ours == dict.fromkeys(("Project", "Attention", "Linear", "FeedForward"), TINY.n_layers)
    others = Counter(node.op_type for node in graph.node if node.domain != "flagdit")
    assert not {"Attention", "Sigmoid", "RMSNormalization", "RotaryEmbedding", "Concat"} & others.keys()
    assert others["MatMul"] == 3


def follow(node: ir.Node, op: str) -> ir.Node | None:
    """The next such node after this one, along first uses."""
    while node.op_type != op:
        users = [use.node for use in node.outputs[0].uses()]
        if not users:
            return None
        node = users[0]
    return node


def changed(model_dir: Path, takes: str, op: str) -> ir.Model:
    """The graph, in which what comes after some node, however far, is not what it was."""
    model = ir.load(model_dir / "denoise.onnx")
    for node in model.graph:
        if node.op_type == takes and (after := follow(node, op)) is not None:
            after.op_type = "Other"
            return model
    raise AssertionError("no such node")


@pytest.mark.parametrize(("takes", "op"), [("Tanh", "Mul"), ("Concat", "Transpose"), ("Attention", "Transpose")])
def test_attention_of_another_kind_is_refused(model_dir8: Path, takes: str, op: str) -> None:
    with pytest.raises(BuildError, match="attention of another kind; export the model again with this flagdit"):
        to_amx(changed(model_dir8, takes, op))


@pytest.mark.parametrize(
    ("takes", "op", "fewer"),
    [
        ("RMSNormalization", "Mul", {}),  # modulated by somebody else
        ("RotaryEmbedding", "Reshape", {"Project": 1, "Linear": -3}),
        ("Sigmoid", "Mul", {"FeedForward": 1, "Linear": -3}),
    ],
)
def test_a_part_of_another_kind_is_left_to_onnx_runtime(
    model_dir8: Path, takes: str, op: str, fewer: dict[str, int]
) -> None:
    """Its products are int8 all the same, and all other parts are found."""
    model = changed(model_dir8, takes, op)
    assert to_amx(model) == 7 * TINY.n_layers
    found = Counter(node.op_type for node in model.graph if node.domain == "flagdit")
    for part in ("Project", "Attention", "Linear", "FeedForward"):
        assert found[part] == TINY.n_layers - fewer.get(part, 0), part
    assert "Other" in {node.op_type for node in model.graph}
    half = {value.name for value in model.graph.outputs if value.dtype == ir.DataType.BFLOAT16}
    assert half == {value.name for value in model.graph.outputs if value.name != "velocity"}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_other_targets_get_the_weights_wide(model_dir8: Path, feeds: Feeds, tmp_path: Path, dtype: str) -> None:
    """What TensorRT is given holds no int8, and computes the same."""
    shutil.copy(model_dir8 / "weights.safetensors", tmp_path)
    model = read_graph(model_dir8 / "denoise.onnx", dtype)
    assert "INT8" not in {str(value.dtype) for value in model.graph.initializers.values()}
    ir.save(model, tmp_path / "wide.onnx")
    expected = run(model_dir8 / "denoise.onnx", feeds)
    cast = {i.name: i.type for i in ort.InferenceSession(tmp_path / "wide.onnx").get_inputs()}
    given = {name: value.astype(np.float16 if "16" in cast[name] else np.float32) for name, value in feeds.items()}
    for name, value in run(tmp_path / "wide.onnx", given).items():
        error = np.abs(value.astype(np.float32) - expected[name]).max() / np.abs(expected[name]).max()
        assert error < {"float32": 1e-6, "float16": 3e-3}[dtype], name


def test_a_text_encoder_in_int8_widens_only_what_it_looks_up(tmp_path: Path) -> None:
    source = write_text_encoder(tmp_path / "source", width=128)
    found = {}
    ids = np.array([[2, 5, 9, 3]], np.int64)
    for name in ("wide", "int8"):
        (tmp_path / name).mkdir()
        export_text_encoder(source, tmp_path / name, 12, precision="int8" if name == "int8" else "float32")
        graph = tmp_path / name / "text_encoder.onnx"
        found[name] = run(graph, {"input_ids": ids, "attention_mask": np.ones_like(ids)})["text"]
    error = np.sqrt(np.square(found["int8"] - found["wide"]).mean() / np.square(found["wide"]).mean())
    assert 0 < error < 0.05
    model = ir.load(tmp_path / "int8" / "text_encoder.onnx")
    widened = [node.inputs[0] for node in model.graph if node.op_type == "DequantizeLinear"]
    assert widened and {value.producer().op_type for value in widened} == {"Gather"}
    tables = [value for name, value in model.graph.initializers.items() if "embeddings" in name and "blocks" in name]
    assert tables and all({node.op_type for node, _ in value.uses()} == {"Gather"} for value in tables)
