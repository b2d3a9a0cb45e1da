"""The graphs for ONNX Runtime's CUDA provider of families whose layers are no Flag-DiT's, against the exported ones.

Both run on the CPU, on random inputs: heads beside tails, dense steps, one row and several, texts of unequal lengths.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from diffused import FAMILIES, saved
from test_cuda_graph import Feeds, differences, opened, run, written

from flagdit.engine.bundle.builder import read_model
from flagdit.engine.bundle.ports import letter
from flagdit.engine.compiler import CudaPrecision, build_cuda
from flagdit.engine.compiler.cuda_graph import to_cuda
from flagdit.engine.errors import BuildError
from flagdit.export import ExportOptions, export_model, open_checkpoint

TOLERANCE = {"float32": 2e-6, "float16": 5e-3}
"""Of the largest magnitude of an output; found: 5e-7 and 2e-3."""
TEXT = 6
SHORTER = 2


@pytest.fixture(scope="module", params=FAMILIES)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    _, source = saved(request.param, folder / "source")
    options = ExportOptions(name=request.param, dtype="float16", size=(16, 16))
    export_model(open_checkpoint(source), folder / request.param, options)
    return folder / request.param


def feeds(directory: Path, sizes: tuple[int, int, int], *, rests: bool = False) -> Feeds:
    """Random inputs, except where numbers mean something; the last row's text is shorter, and fills up with junk.

    rests: no token of the text is computed, and what it left is behind the tails of those that attend to it.
    """
    rng, session = np.random.default_rng(0), opened(directory / "denoise.onnx")
    letters = dict(zip("AMRT", (*sizes, TEXT), strict=True))
    made: Feeds = {}
    for port in session.get_inputs():
        shape = [letters.get(letter(axis), axis) for axis in port.shape]
        if rests and port.shape[0] == "M":
            shape[0] += TEXT
        elif rests and [letter(axis) for axis in port.shape[:2]] == ["R", "T"]:
            shape[1] = 0
        whole = port.type == "tensor(int64)"
        made[port.name] = rng.integers(0, 9, shape) if whole else rng.standard_normal(shape).astype(np.float32)
        if port.name.endswith("_cos"):
            angles = rng.uniform(-3, 3, shape).astype(np.float32)
            made |= {port.name: np.cos(angles), port.name.replace("_cos", "_sin"): np.sin(angles)}
        elif port.name.endswith("_sin"):
            made[port.name] = np.sin(np.arccos(made[port.name.replace("_sin", "_cos")]))
    made["modulation"] *= 0.3
    if "attention_scale" in made:
        made["attention_scale"][:] = 0.3
    if "special" in made:
        made["special"] = (rng.permutation(sizes[0]) < 2)[:, None].astype(np.float32)
    if "text_bias" in made:
        made["text_bias"][:] = 0
        made["text_bias"][-1, ..., -SHORTER:] = -1e4
    return made


def rested(directory: Path) -> bool:
    """Whether its text may rest."""
    return any("_text" in output.name for output in opened(directory / "denoise.onnx").get_outputs())


def family_of(directory: Path) -> str:
    """Its name here: that of the folder."""
    return directory.name


SIZES = pytest.mark.parametrize(
    "sizes", [(7, 5, 2), (7, 0, 2), (4, 3, 1), (3, 9, 4)], ids="A,M,R={0[0]},{0[1]},{0[2]}".format
)


@SIZES
@pytest.mark.parametrize("precision", TOLERANCE)
def test_it_computes_what_the_exported_graph_does(
    directory: Path, precision: CudaPrecision, sizes: tuple[int, int, int]
) -> None:
    given = feeds(directory, sizes)
    found = differences(
        run(opened(directory / "denoise.onnx"), given), run(opened(written(directory, precision)), given)
    )
    assert max(found.values()) <= TOLERANCE[precision], found


@pytest.mark.parametrize("precision", TOLERANCE)
def test_a_text_may_rest(directory: Path, precision: CudaPrecision) -> None:
    """No token of it is computed: what attends to it finds it behind the tail."""
    if not rested(directory):
        pytest.skip("the text adds to no cache")
    given = feeds(directory, (7, 9, 2), rests=True)
    found = differences(
        *(run(opened(path), given) for path in (directory / "denoise.onnx", written(directory, precision)))
    )
    assert "key_text.0" not in found and max(found.values()) <= TOLERANCE[precision], found


def test_each_input_shows(directory: Path) -> None:
    """Whatever input is another one is seen in the velocity, so the comparison above would see one that is not read."""
    anew, given = opened(written(directory, "float32")), feeds(directory, (7, 5, 2))
    wanted = run(opened(directory / "denoise.onnx"), given)
    for name, array in given.items():
        other = np.zeros_like(array) if name == "text_bias" else array[::-1]
        if array.shape[0] < 2 or np.array_equal(other, array):
            other = array * 1.1
        found = differences(wanted, run(anew, given | {name: other}))
        assert found["velocity"] > 10 * TOLERANCE["float32"], name


@pytest.mark.parametrize("rests", [False, True], ids=["computed", "rests"])
def test_what_fills_up_a_text_does_not(directory: Path, rests: bool) -> None:
    """Behind a shorter text anything may lie: no token of the picture sees it, nor what it left in the caches."""
    given = feeds(directory, (7, 5, 2), rests=rests)
    if "text_bias" not in given or (rests and not rested(directory)):
        pytest.skip("texts of one length, or none that rests")
    session, other = opened(written(directory, "float32")), dict(given)
    for port in session.get_inputs():
        axes = [letter(axis) for axis in port.shape]
        behind = None
        if axes[0] == "R" and "T" in axes and port.name != "text_bias":
            behind = (-1, *[slice(None)] * (axes.index("T") - 1), slice(-SHORTER, None))
        elif rests and port.shape[0] == "M":
            behind = (slice(-SHORTER, None), -1)
        if behind is not None:
            other[port.name] = given[port.name].copy()
            other[port.name][behind] = 7
    assert any(not np.array_equal(other[name], given[name]) for name in given)
    wanted, found = (
        {name: array for name, array in run(session, feed).items() if "_text" not in name} for feed in (given, other)
    )
    assert max(differences(wanted, found).values()) <= TOLERANCE["float32"]


def test_attributes_may_be_left_out(directory: Path) -> None:
    """Another tool may write a graph without those that are ONNX's own; then their defaults hold."""
    model, path = ir.load(directory / "denoise.onnx"), directory / "left-out.onnx"
    left = 0
    for node in model.graph:
        size = node.inputs[0].shape[-1] if node.op_type == "Attention" else 1
        for name, default in (("epsilon", 1e-5), ("scale", size**-0.5)):
            if math.isclose(node.attributes.get_float(name, 0), default, rel_tol=1e-6):
                node.attributes.pop(name)
                left += 1
    to_cuda(model, "float32")
    ir.save(model, path)
    given = feeds(directory, (7, 5, 2))
    found = differences(run(opened(directory / "denoise.onnx"), given), run(opened(path), given))
    assert left and max(found.values()) <= TOLERANCE["float32"]


def no_lengths(graph: ir.Graph) -> None:
    """Every key of a text counts."""
    for node in graph:
        if node.op_type == "Attention" and len(node.inputs) > 6:
            node.resize_inputs(3)


def open_gates(graph: ir.Graph) -> None:
    """No gate goes through tanh."""
    for node in graph:
        if node.op_type == "Where":
            node.replace_input_with(1, node.inputs[2])


def tails_behind(graph: ir.Graph) -> None:
    """Tails come after the head, or, where they were behind the picture, before it: then a text is not last."""
    tails = [value for value in graph.inputs if "_tail" in value.name]
    users = [use.node for value in tails for use in value.uses()]
    for turned in [node for node in users if node.op_type == "Transpose"]:
        (shaped,) = turned.outputs[0].uses()
        (joined,) = shaped.node.outputs[0].uses()
        for index, value in enumerate((*joined.node.inputs[1:], joined.node.inputs[0])):
            joined.node.replace_input_with(index, value)


def one_scale_for_all(graph: ir.Graph) -> None:
    """Norms of the streams take the first one's scale."""
    norms = [node for node in graph if node.op_type in ("RMSNormalization", "LayerNormalization")]
    rows = [node for node in norms if node.inputs[1].shape is None]
    for node in rows[1:]:
        node.replace_input_with(1, rows[0].inputs[1])


FAULTS: dict[str, tuple[Callable[[ir.Graph], None], set[str]]] = {
    "lengths": (no_lengths, {"next-dit", "lumina2", "z-image"}),
    "gates": (open_gates, {"next-dit", "lumina2", "z-image"}),
    "order of keys": (tails_behind, {"lumina2", "z-image"}),
    "scales": (one_scale_for_all, set(FAMILIES)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_graph_shows(directory: Path, fault: str, tmp_path: Path) -> None:
    plant, shows = FAULTS[fault]
    model = ir.load(directory / "denoise.onnx")
    to_cuda(model, "float32")
    plant(model.graph)
    ir.save(model, directory / "broken.onnx")
    given = feeds(directory, (7, 5, 2))
    found = differences(run(opened(directory / "denoise.onnx"), given), run(opened(directory / "broken.onnx"), given))
    assert (found["velocity"] > 10 * TOLERANCE["float32"]) is (family_of(directory) in shows), found


def test_all_attention_is_whole(directory: Path) -> None:
    """With lengths or nothing for a mask, and with heads as one axis; what was made of constants is small."""
    graph = ir.load(written(directory, "float16")).graph
    attentions = [node for node in graph if node.op_type == "Attention"]
    assert all(len(node.inputs) in (3, 7) and "q_num_heads" in node.attributes for node in attentions)
    assert "Softmax" not in {node.op_type for node in graph}
    constants = [value for name, value in graph.initializers.items() if name.startswith("cuda.")]
    assert constants and all(value.const_value.size <= 4096 for value in constants)


def bias_of_the_tail(graph: ir.Graph) -> None:
    """A bias whose text is not where the head ends."""
    (bias,) = [value for value in graph.inputs if value.name == "text_bias"]
    cuts = [use.node.outputs[0] for use in bias.uses() if use.node.op_type == "Slice"]
    joined = {use.node for value in (bias, *cuts) for use in value.uses() if use.node.op_type == "Concat"}
    for node in joined:
        first, text, *more = node.inputs
        for index, value in enumerate((text, first, *more)):
            node.replace_input_with(index, value)


def unknown_gate(graph: ir.Graph) -> None:
    """A feed-forward of another kind."""
    for node in graph:
        if node.op_type in ("Sigmoid", "Gelu"):
            node.op_type = "Softplus"
            node.attributes.clear()


@pytest.mark.parametrize("other", [bias_of_the_tail, unknown_gate], ids=lambda other: other.__name__)
def test_another_kind_of_layer_stays_as_exported(
    directory: Path, other: Callable[[ir.Graph], None], tmp_path: Path
) -> None:
    if other is bias_of_the_tail and family_of(directory) not in ("lumina2", "z-image"):
        pytest.skip("no text in its stream")
    model, said = ir.load(directory / "denoise.onnx"), list[str]()
    other(model.graph)
    copy = shutil.copytree(directory, tmp_path / "copy")
    ir.save(model, copy / "denoise.onnx")
    with pytest.raises(BuildError, match="a graph of another kind"):
        to_cuda(model, "float16")
    build_cuda(copy, read_model(copy), copy, precision="float16", notes=said.append)
    assert len(said) == 1 and "stay as exported" in said[0]
