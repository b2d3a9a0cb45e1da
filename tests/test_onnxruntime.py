"""What flagdit relies on in ONNX Runtime, and what its lowest version must not fall short of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from flagdit.engine import Pipeline
from flagdit.engine.session import GraphFile, open_session

SECRET = np.arange(64, dtype=np.float32)


def write_graph(path: Path, location: str) -> None:
    """x + w, with w in a file that the graph names."""
    w = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[64], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "256")):
        w.external_data.add(key=key, value=value)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [64]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "sum", [x], [y], [w])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path.write_bytes(model.SerializeToString())


def read(path: Path) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.zeros(64, np.float32)})
    return np.asarray(y)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with weights, a file beside it, and links out of it."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path in (folder / "own.bin", tmp_path / "secret.bin"):
        path.write_bytes(SECRET.tobytes())
    (folder / "link.bin").symlink_to("../secret.bin")
    (folder / "up").symlink_to("..")
    return folder


def test_weights_beside_the_graph_are_read(bundle: Path) -> None:
    write_graph(bundle / "g.onnx", "own.bin")
    np.testing.assert_array_equal(read(bundle / "g.onnx"), SECRET)


@pytest.mark.parametrize("location", ["../secret.bin", "{outside}/secret.bin", "link.bin", "up/secret.bin"])
def test_weights_outside_the_folder_are_refused(location: str, bundle: Path) -> None:
    """ONNX Runtime 1.23 reads them all."""
    write_graph(bundle / "g.onnx", location.format(outside=bundle.parent))
    with pytest.raises(Exception, match=r"(?i)escapes|outside|not within|absolute"):
        read(bundle / "g.onnx")


def test_a_binding_keeps_its_memory_alive(pipeline: Pipeline) -> None:
    ids = np.full((1, 3), 4, np.int64)
    mask = np.ones_like(ids)
    out = np.empty((1, 3, 16), np.float32)
    session = pipeline.stages.text.session
    binding = session.bind({"input_ids": ids, "attention_mask": mask, "text": out})
    expected = session.run({"input_ids": ids.copy(), "attention_mask": mask})["text"]
    del ids, mask
    binding.run()
    np.testing.assert_array_equal(out, expected)


def test_an_output_of_another_type_is_refused() -> None:
    """It would be read as float32, beyond its end."""
    borders = [
        helper.make_tensor_value_info(name, kind, ["A", 4]) for name, kind in (("x", 1), ("y", TensorProto.INT8))
    ]
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT8)], "g", *([b] for b in borders)
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = open_session(GraphFile("g", model.SerializeToString(), {}), 1)
    with pytest.raises(ValueError, match="dtype: got another one, allowed bool"):
        session.run({"x": np.ones((3, 4), np.float32)})
