"""One operator of the core in a session of ONNX Runtime, and what its tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from flagdit.cpp_ext import OPERATORS

Array = npt.NDArray[np.float32]
BF16, FLOAT = TensorProto.BFLOAT16, TensorProto.FLOAT


def bf16(x: Array) -> npt.NDArray[np.uint16]:
    """Rounded to the nearest even, as bits."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def wide(bits: npt.NDArray[np.uint16]) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Operator:
    """One node in a session of its own; inputs named None are left out."""

    def __init__(
        self,
        op: str,
        inputs: Sequence[str | None],
        constants: Mapping[str, npt.NDArray[np.generic]] = {},
        halves: Sequence[str] = (),
        threads: int = 1,
        **attributes: float,
    ) -> None:
        """halves: which inputs are bf16."""
        kinds = {"Project": (FLOAT, BF16, BF16)}.get(op, (FLOAT,))
        self.outputs = {f"out{i}": kind for i, kind in enumerate(kinds)}
        node = helper.make_node(op, [name or "" for name in inputs], list(self.outputs), domain="flagdit", **attributes)
        given = dict.fromkeys(name for name in inputs if name is not None and name not in constants)
        borders = [helper.make_tensor_value_info(name, BF16 if name in halves else FLOAT, None) for name in given]
        tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
        made = [helper.make_tensor_value_info(name, kind, None) for name, kind in self.outputs.items()]
        graph = helper.make_graph([node], "one", borders, made, tensors)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("flagdit", 1)]
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.register_custom_ops_library(OPERATORS)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.halves = halves

    def all(self, *shapes: tuple[int, ...], **inputs: npt.NDArray[np.generic]) -> list[Array]:
        """The outputs, which are of these shapes."""
        binding = self.session.io_binding()
        for name, array in inputs.items():
            kind = BF16 if name in self.halves else array.dtype.type
            binding.bind_input(name, "cpu", 0, kind, array.shape, array.ctypes.data)
        outs = []
        for (name, kind), shape in zip(self.outputs.items(), shapes, strict=True):
            outs.append(np.full(shape, 7, np.uint16 if kind == BF16 else np.float32))
            dtype = BF16 if kind == BF16 else np.float32
            binding.bind_output(name, "cpu", 0, dtype, shape, outs[-1].ctypes.data)
        self.session.run_with_iobinding(binding)
        return [wide(out) if out.dtype == np.uint16 else out for out in outs]

    def __call__(self, shape: tuple[int, ...], **inputs: npt.NDArray[np.generic]) -> Array:
        """The only output."""
        (out,) = self.all(shape, **inputs)
        return out


def near(got: Array, expected: npt.NDArray[np.floating], tolerance: float) -> None:
    """Every value is there, and the root mean square of what they are off is small."""
    assert np.isfinite(got).all()
    error = np.sqrt(np.square(got - expected).mean() / np.square(expected).mean())
    assert error < tolerance, error


def random(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def passes_without_tiles(file: str) -> None:
    """Run the tests of a file in a process without the CPU's tiles: the same for the kernels of any other CPU."""
    environment = {**os.environ, "FLAGDIT_NO_AMX": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", file]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout  # the test that calls this
