"""Where a graph has its weights: in the files of its bundle, whatever it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile import edit_graph, reseal

from flagdit.cpp_ext import external_tensors
from flagdit.engine import Bundle, BundleError, Pipeline
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.bundle.reader import DEMO
from flagdit.engine.session import GraphFile, open_session


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def external(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]


def entry(tensor: onnx.TensorProto, key: str) -> onnx.StringStringEntryProto:
    return next(entry for entry in tensor.external_data if entry.key == key)


def relocate(location: str) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        entry(external(model)[0], "location").value = location

    return change


def hide(where: str) -> Callable[[onnx.ModelProto], object]:
    """A weight of /etc/passwd in a place that a check of the graph's own initializers would not see."""

    def change(model: onnx.ModelProto) -> None:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(external(model)[0])
        entry(tensor, "location").value = "/etc/passwd"
        node = onnx.helper.make_node("Constant", [], ["hidden"], value=tensor)
        branch = onnx.helper.make_graph([node], "branch", [], [])
        if where == "node":
            model.graph.node.insert(0, node)
        elif where == "subgraph":
            branch.initializer.append(tensor)
            del branch.node[:]
            model.graph.node.insert(0, onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch))
        elif where == "function":
            model.functions.append(onnx.helper.make_function("here", "f", [], ["hidden"], [node], []))
        else:
            model.graph.sparse_initializer.add().values.CopyFrom(tensor)

    return change


def longer(model: onnx.ModelProto) -> None:
    tensor = external(model)[-1]
    entry(tensor, "offset").value = str(1 << 40)


def twice(model: onnx.ModelProto) -> None:
    external(model)[0].external_data.add(key="location", value="/etc/passwd")


OUTSIDE: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "absolute": (relocate("/etc/passwd"), "are in '/etc/passwd', which is no file of the bundle with a digest"),
    "above": (relocate("../secret"), "are in '../secret', which is no file of the bundle"),
    "through a folder": (relocate("./weights.safetensors"), "are in './weights.safetensors', which is no file"),
    "no digest": (relocate("extra.data"), "are in 'extra.data', which is no file of the bundle"),
    "memory": (relocate("*/_ORT_MEM_ADDR_/*"), "which is no file of the bundle"),
    "node": (hide("node"), "a tensor of a node, "),
    "subgraph": (hide("subgraph"), "a tensor of a node, "),
    "function": (hide("function"), "a tensor of a node, "),
    "sparse": (hide("sparse"), "a tensor of a node, "),
    "behind the end": (longer, "behind its end"),
    "two places": (twice, "has two 'location'"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_weights_are_in_the_bundle(flagdit, copy: Path, tmp_path: Path, case: str) -> None:  # type: ignore[no-untyped-def]
    """Whatever the digests say: they are of the attacker's own graph."""
    change, message = OUTSIDE[case]
    edit_graph(copy / "denoise.onnx", change)
    for path in (copy / "extra.data", tmp_path / "secret"):
        shutil.copyfile(copy / "weights.safetensors", path)
    reseal(copy)
    for attempt in (Bundle.load, Pipeline.load, lambda path: build_bundle(path, tmp_path / "out")):
        with pytest.raises(BundleError) as error:
            attempt(copy)
        assert str(error.value).startswith("denoise.onnx: ") and message in str(error.value)
    code, out, _ = flagdit("inspect", copy)
    assert code == 2 and "intact" not in out and not (tmp_path / "out").exists()


def ways_to_tensors() -> list[list[str]]:
    """Of the onnx package's own schema: the fields from a model to a tensor, through no message twice."""
    ways, unfinished = [], [([], onnx.ModelProto.DESCRIPTOR, {"ModelProto"})]
    while unfinished:
        way, message, passed = unfinished.pop()
        for field in message.fields:
            kind = field.message_type
            if kind is None or kind.name in passed:
                continue
            if kind.name == "TensorProto":
                ways.append([*way, field.name])
            else:
                unfinished.append(([*way, field.name], kind, passed | {kind.name}))
    return ways


@pytest.mark.parametrize("way", ways_to_tensors(), ids=".".join)
def test_a_tensor_is_found_wherever_onnx_may_have_it(way: list[str]) -> None:
    """A weight of the graph is one, and any other is refused."""
    model = onnx.ModelProto()
    place: object = model
    for name in way:
        place = getattr(place, name)
        place = place.add() if hasattr(place, "add") else place
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], bytes(8), raw=True)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    for key, value in (("location", "there"), ("offset", "4"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    place.CopyFrom(tensor)  # type: ignore[attr-defined]
    content = model.SerializeToString()
    if way == ["graph", "initializer"]:
        assert external_tensors("x.onnx", content) == [("w", "there", 4, 8)]
    else:
        with pytest.raises(BundleError, match=r"x\.onnx: a tensor of a node, 'w', has its values in another file"):
            external_tensors("x.onnx", content)


@pytest.mark.parametrize("name", ["condition.onnx", "denoise.onnx", "denoise.int8.onnx", "text_encoder.onnx"])
def test_where_weights_are_is_what_onnx_reads(name: str) -> None:
    content = (DEMO / name).read_bytes()
    expected = [
        (tensor.name, *(entry(tensor, key).value for key in ("location", "offset", "length")))
        for tensor in external(onnx.load_model_from_string(content))
    ]
    assert [
        (*place, str(offset), str(length)) for *place, offset, length in external_tensors(name, content)
    ] == expected


def test_a_session_keeps_none_of_the_bytes_it_was_given() -> None:
    """So they need not be kept; and none of the files is needed."""
    graph = GraphFile.beside(DEMO / "condition.onnx")
    feeds = {
        "t": np.array([0.3], np.float32),
        "text": np.ones((1, 4, 384), np.float32),
        "text_mask": np.ones((1, 4), "?"),
    }
    expected = open_session(graph, 1).run(feeds)
    buffers = {name: bytearray(content) for name, content in graph.data.items()}
    session = open_session(GraphFile(graph.name, graph.content, buffers), 1)  # type: ignore[arg-type]
    for buffer in buffers.values():
        buffer[:] = bytes(len(buffer))
    for name, values in session.run(feeds).items():
        np.testing.assert_array_equal(values, expected[name])
