"""Graphs that tests share are those that the exporter traces (tests/traced.py)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from traced import Traced

from flagdit.export import onnx_graph
from flagdit.export.onnx_graph import WeightsFile
from flagdit.export.parts.text.classes import Lookup


class Line(nn.Module):
    def __init__(self, slope: float = 2.0, *, between: Any = None) -> None:
        super().__init__()
        self.model = nn.Linear(4, 4, device="meta")
        self.slope, self.between = slope, between

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.between is None else self.between(x)
        out: Tensor = self.model(x) * self.slope
        return out


class Counted:
    """The exporter's own function, and how often it is called."""

    def __init__(self, folder: Path) -> None:
        own = onnx_graph.trace
        self.own, self.count = own.trace if isinstance(own, Traced) else own, 0
        self.shared = Traced(self, folder)

    def __call__(self, *args: Any, **named: Any) -> ir.Model:
        self.count += 1
        return self.own(*args, **named)

    def traced(self, module: nn.Module, weights: WeightsFile | None = None, **named: Any) -> ir.Model:
        """As everybody asks for it."""
        return self.shared(module, *LINE, weights=weights, **{**NAMES, **named})


LINE: tuple[Any, ...] = ((torch.empty(3, 4, device="meta"),), (onnx_graph.dynamic_axes(("N", None)),))
NAMES = {"inputs": ["x"], "outputs": ["y"], "opset": 21}


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    (tmp_path / "traced").mkdir()
    return Counted(tmp_path / "traced")


def weights_of(folder: Path, **tensors: Tensor) -> WeightsFile:
    """A file of a line's weights."""
    folder.mkdir()
    made = {"weight": torch.randn(4, 4), "bias": torch.randn(4)} | tensors
    save_file(made, folder / "weights.safetensors")
    return WeightsFile.open(folder / "weights.safetensors")


def saved(model: ir.Model, weights: WeightsFile) -> bytes:
    """A graph's file, but for numbers in names, which count what one process made."""
    path = weights.path.parent / "graph.onnx"
    onnx_graph.save(model, path, weights)
    return re.sub(rb"_\d+", b"", path.read_bytes())


def test_a_graph_is_traced_once_and_is_the_exporters(counted: Counted, tmp_path: Path) -> None:
    weights = [weights_of(tmp_path / name) for name in "ab"]
    for each in weights:
        found = counted.traced(Line(), each)
        (bias,) = (v for n, v in found.graph.initializers.items() if n.endswith("bias"))
        assert bias.const_value is not None
        np.testing.assert_array_equal(bias.const_value.numpy(), each.tensor("bias").numpy())
        assert saved(found, each) == saved(counted.own(Line(), *LINE, weights=each, **NAMES), each)
    assert counted.count == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_may_be_narrower(counted: Counted, tmp_path: Path, dtype: torch.dtype) -> None:
    counted.traced(Line(), weights_of(tmp_path / "wide"))
    narrow = weights_of(tmp_path / "narrow", weight=torch.randn(4, 4).to(dtype), bias=torch.randn(4).to(dtype))
    own = counted.own(Line(), *LINE, weights=narrow, **NAMES)
    assert saved(counted.traced(Line(), narrow), narrow) == saved(own, narrow)
    assert counted.count == 1


def test_what_makes_another_graph_is_traced(counted: Counted, tmp_path: Path) -> None:
    weights = weights_of(tmp_path / "a")
    counted.traced(Line(), weights)
    others: list[tuple[nn.Module, dict[str, Any]]] = [
        (Line(3.0), {}),
        (Line(between=nn.ReLU()), {}),
        (Line().double(), {}),
        (Line(), {"opset": 22}),
        (Line(), {"outputs": ["z"]}),
    ]
    for count, (module, named) in enumerate(others, 2):
        counted.traced(module, weights, **named)
        assert counted.count == count


def test_numbers_that_the_optimiser_could_use_are_another_graph(counted: Counted, tmp_path: Path) -> None:
    counted.traced(Line(), weights_of(tmp_path / "a"))
    for count, bias in enumerate((torch.zeros(4), torch.ones(4), torch.full((4,), torch.nan)), 2):
        weights = weights_of(tmp_path / str(count), bias=bias)
        for _ in range(2):
            counted.traced(Line(), weights)
        assert counted.count == count


def test_a_module_that_has_numbers_is_known_by_them(counted: Counted) -> None:
    def lookup(seed: int) -> nn.Module:
        table = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, 4)).astype(np.float32))
        return Lookup(table, torch.arange(3))

    ids = torch.ones(2, 5, dtype=torch.int64)
    axes = onnx_graph.dynamic_axes(("R", "T"))
    for seed in (0, 1, 0, 1):
        counted.shared(lookup(seed), (ids, ids), (axes, axes), inputs=["i", "m"], outputs=["text"], opset=21)
    assert counted.count == 2


def test_a_function_without_a_name_is_traced_each_time(counted: Counted, tmp_path: Path) -> None:
    weights = weights_of(tmp_path / "a")
    for _ in range(2):
        counted.traced(Line(between=lambda x: x + 1), weights)
    assert counted.count == 2


def test_nothing_half_written_is_read(counted: Counted, tmp_path: Path) -> None:
    weights = weights_of(tmp_path / "a")
    counted.traced(Line(), weights)
    (path,) = counted.shared.folder.glob("*.onnx")
    path.rename(path.with_suffix(".part")).write_bytes(path.with_suffix(".part").read_bytes()[:100])
    assert saved(counted.traced(Line(), weights), weights)
    assert counted.count == 2
