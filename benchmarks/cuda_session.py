"""A graph in ONNX Runtime's CUDA provider, with what a benchmark asks of the core's sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import typer

from flagdit.engine.session import Array


class CudaSession:
    """A graph in ONNX Runtime's CUDA provider."""

    def __init__(self, path: Path) -> None:
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise typer.BadParameter("onnxruntime-gpu is not installed", param_hint="--device cuda")
        self._session = onnxruntime.InferenceSession(str(path), providers=["CUDAExecutionProvider"])
        if "CUDAExecutionProvider" not in self._session.get_providers():  # it falls back without a word
            raise typer.BadParameter("ONNX Runtime cannot start its CUDA provider", param_hint="--device cuda")

    def bind(self, tensors: Mapping[str, Array]) -> CudaBinding:
        """Copies of the arrays on the GPU are bound. Heads and tails lie apart, which costs the same time."""
        io, outputs = self._session.io_binding(), {output.name for output in self._session.get_outputs()}
        for name, array in tensors.items():
            copy = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), "cuda", 0)
            (io.bind_ortvalue_output if name in outputs else io.bind_ortvalue_input)(name, copy)
        return CudaBinding(self._session, io)


@dataclass(frozen=True)
class CudaBinding:
    """A step on the GPU."""

    session: onnxruntime.InferenceSession
    io: onnxruntime.IOBinding

    def run(self) -> None:
        """Run the step to its end."""
        self.session.run_with_iobinding(self.io)
        self.io.synchronize_outputs()
