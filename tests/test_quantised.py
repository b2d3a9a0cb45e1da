"""Graphs whose products are int8 or fp8 for TensorRT: what is rounded in them, and to which values."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from diffused import FAMILIES

from flagdit.engine.bundle.ports import letter
from flagdit.engine.compiler.build import read_graph
from flagdit.engine.compiler.find_scales import load_wide
from flagdit.engine.compiler.products import products_of
from flagdit.engine.compiler.quantised import by_input, to_quantised, values_of
from flagdit.engine.compiler.scales import Low, Scales
from flagdit.engine.errors import BuildError
from flagdit.export.storage import PER_TOKEN

Array = np.ndarray[Any, np.dtype[Any]]
SIZES = {"A": 12, "M": 4, "R": 2, "T": 9}
CLIP = {"clip_l": 77, "clip_g": 77, "t5": 256}
LOWS: tuple[Low, ...] = ("int8", "fp8")
MOST = {"int8": 127, "fp8": 448}


def scales_of(path: Path, largest: float = 3.0) -> Scales:
    """Some for every product: half as much for every other channel."""
    inputs = by_input(products_of(load_wide(path).graph))
    steps = {x.name: tuple(largest / (1 + k % 2) for k in range(x.shape[-1])) for x in inputs}
    return Scales(graph="0" * 64, prompts=("a",), calls=1, largest=steps, typical=dict.fromkeys(steps, largest))


def feeds(session: ort.InferenceSession) -> dict[str, Array]:
    rng, made = np.random.default_rng(0), {}
    for port in session.get_inputs():
        shape = [SIZES.get(letter(axis), axis) if isinstance(axis, str) else axis for axis in port.shape]
        kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(bool)": bool}[port.type]
        made[port.name] = (0.5 * rng.standard_normal(shape)).astype(kind)
    return made


def opened(model: ir.Model, folder: Path, name: str) -> ort.InferenceSession:
    ir.save(model, folder / name)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(folder / name, options)


@pytest.fixture(params=FAMILIES)
def graph(request: pytest.FixtureRequest, of_family: Any, tmp_path: Path) -> Path:
    """`denoise` of a family, with its weights beside it."""
    folder = of_family(request.param)[1]
    for name in ("denoise.onnx", "weights.safetensors"):
        shutil.copyfile(folder / name, tmp_path / name)
    return tmp_path / "denoise.onnx"


def test_what_every_token_goes_through_is_found_and_nothing_else(graph: Path) -> None:
    model = ir.load(graph)
    names = {product.weight.name.removesuffix(".wide") for product in products_of(model.graph)}
    assert names == {name for name in model.graph.initializers if PER_TOKEN.fullmatch(name)}


def test_weights_in_int8_are_found_too(model_dir8: Path) -> None:
    graph = ir.load(model_dir8 / "denoise.onnx").graph
    assert len(products_of(graph)) == sum(PER_TOKEN.fullmatch(name) is not None for name in graph.initializers)


@pytest.mark.parametrize("low", LOWS)
def test_no_large_product_is_left_out_and_the_graph_is_valid(graph: Path, low: Low) -> None:
    """Both operands of every product come from a pair, in half; but for the model's ends, and those of the text."""
    model = read_graph(graph, low, scales=scales_of(graph))
    ir.save(model, graph.parent / "low.onnx")
    onnx.checker.check_model(graph.parent / "low.onnx", full_check=True)
    made = {node.name: [made_by(value) for value in node.inputs] for node in model.graph if node.op_type == "MatMul"}
    pairs = [ops for ops in made.values() if "DequantizeLinear" in ops]
    assert pairs == [["DequantizeLinear"] * 2] * len(products_of(ir.load(graph).graph))
    for node in model.graph:
        if node.op_type == "DequantizeLinear":
            assert node.inputs[1].dtype == ir.DataType.FLOAT16
        if node.op_type == "QuantizeLinear":
            assert node.inputs[2].dtype == {"int8": ir.DataType.INT8, "fp8": ir.DataType.FLOAT8E4M3FN}[low]


def made_by(value: ir.Value | None) -> str:
    node = value.producer() if value is not None else None
    return node.op_type if node is not None else ""


def rounded(values: Array, scale: Array, low: Low) -> Array:
    """Each value to the nearest level, by NumPy alone."""
    levels = values.astype(np.float32) / scale
    if low == "int8":
        return np.clip(np.rint(levels), -128, 127) * scale
    return np.clip(levels, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale


def up(scale: Array) -> Array:
    """To the next float16."""
    near = np.asarray(scale, np.float16)
    return np.where(near < scale, np.nextafter(near, np.float16(np.inf)), near).astype(np.float32)


def simulated(x: Array, matrix: Array, largest: Array, others: list[Array], low: Low) -> Array:
    """x W^T as it should be. others: all matrices that x is multiplied with."""
    if low == "fp8":
        scale = up(np.abs(matrix).max() / np.float32(448))
        return rounded(x, up(largest.max() / np.float32(448)), low) @ rounded(matrix, scale, low).T
    columns = np.max([np.abs(other).max(0) for other in others], 0)
    smooth = largest**0.75 / columns**0.25
    smooth = (smooth / np.exp(np.mean(np.log(smooth)))).astype(np.float32)
    wide = matrix * smooth
    scale = up(np.abs(wide).max(1, keepdims=True) / np.float32(127))
    return rounded(x * (1 / smooth), up((largest / smooth).max() / np.float32(127)), low) @ rounded(wide, scale, low).T


@pytest.mark.parametrize("low", LOWS)
def test_products_are_those_of_rounded_values(model_dir: Path, low: Low, tmp_path: Path) -> None:
    """Every product of a graph, with the input that it has there; some of which are larger than the scales say."""
    graph = model_dir / "denoise.onnx"
    shutil.copyfile(model_dir / "weights.safetensors", tmp_path / "weights.safetensors")
    scales, model = scales_of(graph), load_wide(graph)
    groups = {
        x.name: (x, products, [values_of(p.weight) for p in products])
        for x, products in by_input(products_of(model.graph)).items()
    }
    to_quantised(model, low, scales, half=None)
    for x, products, _ in groups.values():
        model.graph.outputs.extend([x, *(product.node.outputs[0] for product in products)])
    names = {x.name: [product.node.outputs[0].name for product in products] for x, products, _ in groups.values()}
    session = opened(model, tmp_path, "low.onnx")
    got = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds(session)), strict=True))
    beyond = 0
    for name, (_, _, matrices) in groups.items():
        largest = np.array(scales.largest[name], np.float32)
        beyond += int((np.abs(got[name]) > largest).sum())
        for output, matrix in zip(names[name], matrices, strict=True):
            wanted = simulated(got[name], matrix, largest, matrices, low)
            # A value on the border of two levels may fall to either side.
            off = np.abs(got[output] - wanted)
            assert np.quantile(off, 0.98) < 1e-5 * np.abs(wanted).max(), output
            assert off.max() < 2e-2 * np.abs(wanted).max(), output
    assert beyond > 0


@pytest.mark.parametrize("low", LOWS)
def test_a_plain_graph_has_the_same_values(model_dir: Path, low: Low, tmp_path: Path) -> None:
    """As TensorRT before 10.15 gets it, JetPack 6's among them: without operators of opset 23."""
    graph = model_dir / "denoise.onnx"
    shutil.copyfile(model_dir / "weights.safetensors", tmp_path / "weights.safetensors")
    plain = read_graph(graph, low, plain=True, scales=scales_of(graph))
    assert plain.opset_imports[""] == 20
    sessions = (
        opened(read_graph(graph, low, scales=scales_of(graph)), tmp_path, "a.onnx"),
        opened(plain, tmp_path, "b.onnx"),
    )
    onnx.checker.check_model(tmp_path / "b.onnx", full_check=True)
    given = feeds(sessions[0])
    for one, other in zip(*(session.run(None, given) for session in sessions), strict=True):
        difference = (one.astype(np.float32) - other.astype(np.float32)).ravel()
        # float16 takes some values over the border of two levels, which are far apart in fp8.
        assert np.linalg.norm(difference) < {"int8": 2e-2, "fp8": 6e-2}[low] * np.linalg.norm(one.astype(np.float32))


def test_products_of_a_few_giant_tokens_stay_in_half(model_dir: Path) -> None:
    """In int8; fp8 has levels for small and for large ones."""
    graph = model_dir / "denoise.onnx"
    scales, inputs = scales_of(graph), by_input(products_of(load_wide(graph).graph))
    x, products = next((x, products) for x, products in inputs.items() if len(products) == 2)  # w1 and w3
    giant = scales.model_copy(update={"typical": {**scales.typical, x.name: 0.19 * 3.0}})
    every = sum(map(len, inputs.values()))
    assert to_quantised(load_wide(graph), "int8", giant) == every - len(products)
    assert to_quantised(load_wide(graph), "int8", scales) == to_quantised(load_wide(graph), "fp8", giant) == every
    giants = scales.model_copy(update={"typical": dict.fromkeys(scales.typical, 0.1)})
    with pytest.raises(
        BuildError, match=r"^every input of a product has a few giant tokens, .*; choose fp8 or float16$"
    ):
        to_quantised(load_wide(graph), "int8", giants)


def test_scales_of_another_graph(model_dir: Path) -> None:
    scales = scales_of(model_dir / "denoise.onnx")
    few = dict(list(scales.largest.items())[1:])
    with pytest.raises(BuildError, match=r": no scale is known of it; find them anew, from the model's own directory$"):
        read_graph(model_dir / "denoise.onnx", "int8", scales=scales.model_copy(update={"largest": few}))
    with pytest.raises(BuildError, match=r"^denoise\.onnx: fp8 needs scales$"):
        read_graph(model_dir / "denoise.onnx", "fp8")
