"""Graphs whose operators of opset 23 are written out, against the graphs themselves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from diffused import FAMILIES

from flagdit.engine.bundle.ports import letter
from flagdit.engine.bundle.reader import DEMO
from flagdit.engine.compiler.build import needs_plain
from flagdit.engine.compiler.plain import OPSET, WAYS, to_plain
from flagdit.engine.compiler.precision import to_half
from flagdit.engine.errors import BuildError

SIZES = {"A": 12, "M": 4, "R": 2, "T": 9, "S": 3}
CLIP = {"clip_l": 77, "clip_g": 77, "t5": 256}
KINDS: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
    "tensor(int64)": np.int64,
}
TOLERANCE = {"float32": 1e-5, "float16": 1e-2}


def outputs(path: Path, lengths: dict[str, int]) -> list[Any]:
    """Of random inputs."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options)
    rng, feeds = np.random.default_rng(0), {}
    for port in session.get_inputs():
        sizes = SIZES | ({"T": lengths[port.name]} if port.name in lengths else {})
        shape = [sizes.get(letter(axis), axis) for axis in port.shape]
        values = rng.standard_normal(shape) * 0.5
        kind = KINDS[port.type]
        feeds[port.name] = values.astype(kind) if kind not in (np.bool_, np.int64) else (values > -9).astype(kind)
    return session.run(None, feeds)


@pytest.mark.parametrize("name", ["demo", *FAMILIES])
def test_a_plain_graph_computes_the_same(name: str, of_family: Any, tmp_path: Path) -> None:
    """Of every family, `condition` and `denoise`; heads that share keys, masks and gates among them."""
    folder = DEMO if name == "demo" else of_family(name)[1]
    shutil.copyfile(folder / "weights.safetensors", tmp_path / "weights.safetensors")
    for graph, precision in (("condition", "float32"), ("denoise", "float32"), ("denoise", "float16")):
        model = ir.load(folder / f"{graph}.onnx")
        if precision == "float16":
            to_half(model, "float16")
        ir.save(model, tmp_path / "before.onnx")
        assert to_plain(model) or graph == "condition"
        ir.save(model, tmp_path / "plain.onnx")
        plain = onnx.load(tmp_path / "plain.onnx", load_external_data=False)
        lengths = CLIP if name.startswith("sd") else {}
        before, after = (outputs(tmp_path / f"{file}.onnx", lengths) for file in ("before", "plain"))
        assert not {node.op_type for node in plain.graph.node} & WAYS.keys()
        assert [(o.domain, o.version) for o in plain.opset_import] == [("", OPSET)]
        for got, wanted in zip(after, before, strict=True):
            limit = TOLERANCE[precision] * max(np.abs(wanted).max(), 1e-6)
            np.testing.assert_allclose(got.astype(np.float32), wanted.astype(np.float32), atol=limit, rtol=0)


def test_what_is_made_otherwise_is_refused() -> None:
    model = ir.load(DEMO / "denoise.onnx")
    node = next(node for node in model.graph if node.op_type == "Attention")
    node.attributes["is_causal"] = ir.AttrInt64("is_causal", 1)
    with pytest.raises(BuildError, match=r"Attention .* is not made as flagdit\.export makes it"):
        to_plain(model)


@pytest.mark.parametrize(
    ("target", "version", "plain"),
    [
        ("tensorrt", "10.3.0.26", True),
        ("tensorrt", "10.14.1", True),
        ("tensorrt", "10.15.1", False),
        ("tensorrt", "11.1.0", False),
        ("tensorrt-rtx", "1.7.1", False),
    ],
)
def test_versions_that_need_it(target: Any, version: str, plain: bool) -> None:
    assert needs_plain(target, version) is plain
