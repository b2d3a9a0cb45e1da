"""Bundles with engines for the fake of NVIDIA's bindings (fake_bindings.py): graphs of `denoise`, whole."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path
from typing import Any, cast

import fake_bindings
import onnx
import pytest

from flagdit.cpp_ext import Gpu, _ext
from flagdit.engine.bundle import Engine, ModelSpec
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.compiler.profiles import Limits, profiles, ranges
from flagdit.engine.tensorrt.package import MODULES, Target

VERSIONS = {"tensorrt-rtx": "1.7.1.116", "tensorrt": "10.3.0"}


def installed(monkeypatch: pytest.MonkeyPatch, target: Target, **how: Any) -> Any:
    """The fake in the place of the target's package."""
    about: dict[str, Any] = {"version": VERSIONS[target], "architecture": Gpu.here().architecture, **how}
    trt = fake_bindings.make(target, calls=ctypes.CDLL(_ext.__file__), **about)
    for name in MODULES[target]:
        monkeypatch.setitem(sys.modules, name, trt)
    return trt


def bundle_of(
    source: Path | str, output: Path, target: Target, *, batch: int = 2, user_allocation: bool = True, **other: Any
) -> Path:
    """A bundle with an engine in float32, the model's own graph, for the GPU at hand. other: fields of its record."""

    def build(folder: Path, spec: ModelSpec, into: Path) -> list[Engine]:
        graph = spec.graphs.denoise
        profile = profiles(graph, ranges(spec, Limits(batch=batch)))
        model = onnx.load(folder / graph.file)  # with its weights
        ports = [
            (t.name, t.dtype, tuple(-1 if isinstance(axis, str) else axis for axis in t.shape), output)
            for tensors, output in ((graph.inputs, False), (graph.outputs, True))
            for t in tensors
        ]
        limits = [{name: (one.min, one.opt, one.max) for name, one in profile.items()}]
        here = (Gpu.here().architecture,)
        content = fake_bindings.plan_of(
            model.SerializeToString(), VERSIONS[target], here, ports, limits, user_allocation=user_allocation
        )
        file = f"denoise.{target}.engine"
        (into / file).write_bytes(content)
        about: dict[str, Any] = {
            "graph": "denoise",
            "file": file,
            "target": target,
            "version": VERSIONS[target],
            "architectures": here,
            "platform": f"{sys.platform}-{platform.machine().lower()}",
            "precision": "float32",
            "profiles": (profile,),
            "inputs": graph.inputs,
            "outputs": graph.outputs,
            "build_seconds": 0.0,
        }
        return [Engine(**cast(Any, {**about, **other}))]

    build_bundle(source, output, build)
    return output
