"""The int8, int8-bf16 and CUDA engines of every family against its graph in fp32. Tiny random models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from built import HEIGHT, WIDTH, Built, built_of
from diffused import FAMILIES
from exported import Array, Feeds

from flagdit.cpp_ext import Cpu
from flagdit.engine import DENSE, Pipeline, RasConfig, cpu
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.compiler import CpuPrecision, CudaPrecision, build_cuda
from flagdit.engine.compiler.build_cpu import file_of
from flagdit.export.storage import PER_TOKEN

VELOCITY = {**dict.fromkeys(FAMILIES, 0.02), "z-image": 0.04}
"""Root mean square of what a velocity, a key or a value is off, over its own; found: .007 to .014, and .024."""
LATENTS = 0.06
"""The same of a picture's latents after eight dense steps; found: .008 to .032."""
REGIONS = 0.7
"""What a picture in regions is off, over what these regions themselves make it differ from the dense one, which is
much where weights are random: another region is chosen where two are much alike. Found: .26 to .5."""
FIXED = 0.02
"""The same of a head beside a tail, over the dense step; found: up to .01, where values fall to another level."""

fast_int8 = pytest.mark.skipif(not cpu.here().int8, reason="this CPU has no int8 dot products")
precisions = pytest.mark.parametrize("precision", [pytest.param("int8", marks=fast_int8), "int8-bf16"])


@pytest.fixture(scope="module", params=FAMILIES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built_of(request.param, tmp_path_factory.mktemp("int8"))


def off(found: Array, wanted: Array) -> float:
    """Root mean square, relative."""
    return float(np.sqrt(np.square(found - wanted).mean() / np.square(wanted).mean()))


def test_matrices_that_every_token_goes_through_are_int8(built: Built) -> None:
    """All of `denoise` but the ends of the model; what only `condition` multiplies with is not."""
    model = ir.load(built.bundle / "denoise.onnx")
    matrices = {name for name, value in model.graph.initializers.items() if len(value.shape) == 2}
    stored = {name for name in matrices if model.graph.initializers[name].dtype == ir.DataType.INT8}
    assert stored == {name for name in matrices if PER_TOKEN.fullmatch(name)}
    ends = ("x_embedder.", "final_layer.", "position_", "x_pad_token")
    assert {n for n in matrices - stored if not n.startswith(ends) and not n.endswith(".scale")} == set()
    condition = ir.load(built.bundle / "condition.onnx")
    assert ir.DataType.INT8 not in {value.dtype for value in condition.graph.initializers.values()}


@precisions
def test_an_evaluation_is_near_that_in_fp32(built: Built, precision: CpuPrecision) -> None:
    feeds = with_tail(built)
    assert_near(built, built.run(precision, feeds), built.exported.run("denoise", feeds))


def with_tail(built: Built) -> Feeds:
    """Inputs of a step of 20 tokens beside those that another dense step left."""
    feeds = built.feeds(np.random.default_rng(0).permutation(len(built.feeds()["tokens"])))
    return behind(feeds, built.exported.run("denoise", feeds), 20)


def behind(feeds: Feeds, dense: Feeds, active: int) -> Feeds:
    """The inputs of the first tokens only; the caches of the others are those of a dense step."""
    count = len(feeds["tokens"])
    made = {n: x[:active] if len(x) == count else x for n, x in feeds.items()}
    return {n: dense[n.replace("_tail", "_head")][active:] if "_tail" in n else x for n, x in made.items()}


def assert_near(built: Built, found: Feeds, wanted: Feeds) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert 0 < off(found[name], array) < VELOCITY[built.family], name


def caches_swapped(graph: ir.Graph) -> None:
    """The first layer reads the second one's values, and the other way round."""
    tails = [value for value in graph.inputs if value.name.startswith("value_tail")][:2]
    uses = [[(use.node, use.idx) for use in value.uses()] for value in tails]
    for places, value in zip(uses, reversed(tails), strict=True):
        for node, index in places:
            node.replace_input_with(index, value)


def another_vector(graph: ir.Graph, op: str, attribute: str) -> None:
    """One operator takes another vector of the modulation."""
    node = [node for node in graph if node.op_type == op and node.domain == "flagdit"][-1]
    shape = node.inputs[2].shape
    most = int(np.prod([int(str(size)) for size in shape[1:-1]])) - 1
    number = node.attributes[attribute].as_int()
    node.attributes[attribute] = ir.AttrInt64(attribute, number + 1 if number < most else number - 1)


def other_levels(graph: ir.Graph) -> None:
    """A level is worth a tenth more."""
    unit = graph.initializers["int8.unit"]
    unit.const_value = ir.tensor(unit.const_value.numpy() * np.float32(1.1), name=unit.name)


FAULTS = {
    "caches, int8": ("int8", caches_swapped),
    "levels, int8": ("int8", other_levels),
    "caches": ("int8-bf16", caches_swapped),
    "scale of a projection": ("int8-bf16", lambda graph: another_vector(graph, "Project", "scale")),
    "scale of a feed-forward": ("int8-bf16", lambda graph: another_vector(graph, "FeedForward", "scale")),
}


@fast_int8
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_an_engine_shows(built: Built, fault: str, tmp_path: Path) -> None:
    """Of a graph that computes something else the comparison above says so."""
    precision, plant = FAULTS[fault]
    broken = Path(shutil.copytree(built.bundle, tmp_path / "broken"))
    model = ir.load(broken / file_of(precision))
    plant(model.graph)
    ir.save(model, broken / file_of(precision))
    feeds = with_tail(built)
    found = Built(built.family, built.exported, broken).run(precision, feeds)
    with pytest.raises(AssertionError):
        assert_near(built, found, built.exported.run("denoise", feeds))


@precisions
@pytest.mark.parametrize("active", [7, 30])
def test_head_and_tail_make_the_dense_step(built: Built, precision: CpuPrecision, active: int) -> None:
    """In any order of slots; then the first of them against the engine's own caches of the rest."""
    order = np.random.default_rng(active).permutation(len(built.feeds()["tokens"]))
    feeds, plain = built.feeds(order), built.run(precision, built.feeds())
    dense = built.run(precision, feeds)
    real = built.exported.places(HEIGHT // 2, WIDTH // 2)[1]
    assert off(dense["velocity"][real[order]], plain["velocity"][order][real[order]]) < FIXED
    found = built.run(precision, behind(feeds, dense, active))
    for name, array in found.items():
        assert off(array, dense[name][: len(array)]) < FIXED, name
    rested = built.run(precision, built.exported.resting(behind(feeds, dense, active), dense))
    for name, array in rested.items():
        assert "_text" in name or off(array, found[name]) < FIXED, name


def test_every_part_is_found(built: Built) -> None:
    """Of a layer nothing is left to operators that pass over memory once more."""
    nodes = list(ir.load(built.bundle / file_of("int8-bf16")).graph)
    ours = [node.op_type for node in nodes if node.domain == "flagdit"]
    outputs = built.exported.spec["graphs"]["denoise"]["outputs"]
    caches = sum("key" in tensor["name"] and "_head" in tensor["name"] for tensor in outputs)
    streams = 2 if built.family.startswith("sd3") else 1  # of which the last text ends with its keys
    layers = caches - (built.family == "sd3.5")  # one has two attentions
    assert ours.count("Attention") == caches
    assert ours.count("Project") == caches + (streams - 1) * layers
    assert ours.count("FeedForward") == streams * layers - (streams - 1)
    assert ours.count("Linear") == caches + (streams - 1) * (layers - 1)
    others = {node.op_type for node in nodes if node.domain != "flagdit"}
    assert not {"Sigmoid", "Gelu", "RMSNormalization", "RotaryEmbedding", "Softmax"} & others
    assert [node.op_type for node in nodes].count("LayerNormalization") == 1  # the model's end


@pytest.fixture(scope="module")
def exact(built: Built) -> tuple[Array, Array]:
    """Latents in fp32, of a dense run and of one in regions."""
    return painted(built, "float32", DENSE), painted(built, "float32", RasConfig(0.5))


def painted(built: Built, precision: str, ras: RasConfig) -> Array:
    pipeline = Pipeline.load(built.bundle, threads=1, precision=precision)  # type: ignore[arg-type]
    options: dict[str, Any] = {"size": (WIDTH, HEIGHT), "steps": 8, "guidance": 2.5, "ras": ras}
    result = pipeline(prompts=["a red apple on the left", "a star"], seeds=[0, 5], **options)
    assert result.report.precision == precision
    latents: Array = result.latents
    return latents


@precisions
def test_a_picture_is_near_that_in_fp32(
    built: Built, exact: tuple[Array, Array], precision: CpuPrecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dense, and in regions: nearer to these regions in fp32 than they are to the dense picture."""
    monkeypatch.setattr(cpu, "here", lambda: Cpu(int8=True, tiles=True))  # the operators run anywhere, if slowly
    dense, regions = exact
    assert 0 < off(painted(built, precision, DENSE), dense) < LATENTS
    assert 0 < off(painted(built, precision, RasConfig(0.5)), regions) < REGIONS * off(dense, regions)


HALF = {"float32": 1e-5, "float16": 1e-2}
"""What an output of a graph for CUDA is off at most, over its largest magnitude; ONNX Runtime's CPU has no bfloat16.
tests/test_cuda_families.py looks closer, at weights that are not stored as int8."""


@pytest.mark.parametrize("fault", [False, True], ids=["right", "wrong"])
@pytest.mark.parametrize("precision", HALF)
def test_the_graph_for_cuda_on_the_cpu(built: Built, precision: CudaPrecision, fault: bool, tmp_path: Path) -> None:
    """With weights that are stored as int8; a bundle of it opens, and has a self-test."""
    model, said = built.bundle.parent / "model", list[str]()
    build_bundle(model, tmp_path / "bundle", lambda *given: build_cuda(*given, precision=precision, notes=said.append))
    assert said == []  # all layers are written anew
    (engine,) = Bundle.load(tmp_path / "bundle").manifest.engines
    graph = ir.load(tmp_path / "bundle" / engine.file)
    if fault:
        caches_swapped(graph.graph)
        ir.save(graph, tmp_path / "bundle" / engine.file)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(tmp_path / "bundle" / engine.file, options)
    feeds = with_tail(built)
    given = {
        port.name: feeds[port.name].astype(np.float16) if port.type == "tensor(float16)" else feeds[port.name]
        for port in session.get_inputs()
    }
    half = {port.name for port in session.get_inputs() if port.type == "tensor(float16)"}
    assert half >= {name for name in feeds if "_tail" in name and precision == "float16"}
    wanted = built.exported.run("denoise", feeds)
    found = dict(zip(wanted, session.run(list(wanted), given), strict=True))
    worst = max(float(np.abs(found[name] - x).max() / np.abs(x).max()) for name, x in wanted.items())
    assert (worst < HALF[precision]) is not fault
