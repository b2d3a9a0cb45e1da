"""Bundles with engines for the fake of NVIDIA's bindings (fake_bindings.py), sessions of them, and what these bind."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path
from typing import Any, cast

import emulated
import fake_bindings
import numpy as np
import onnx
import pytest
from fake_plan import plan_of

from flagdit.cpp_ext import Gpu, _ext
from flagdit.engine import Bundle, Pipeline, session
from flagdit.engine.bundle import Engine, ModelSpec
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.compiler.profiles import Limits, profiles, ranges
from flagdit.engine.errors import BackendError
from flagdit.engine.tensorrt.package import MODULES, Target

VERSIONS = {"tensorrt-rtx": "1.7.1.116", "tensorrt": "10.3.0"}


def installed(monkeypatch: pytest.MonkeyPatch, target: Target, *, cache: Path | None = None, **how: Any) -> Any:
    """The fake in the place of the target's package. cache: the folder of the user's; without it nothing is kept."""
    monkeypatch.delenv("FLAGDIT_NO_RECORDS", raising=False)
    monkeypatch.setenv(*(("FLAGDIT_NO_RECORDS", "1") if cache is None else ("XDG_CACHE_HOME", str(cache))))
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
        content = plan_of(
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


def load(bundles: dict[Target, Path], target: Target) -> Pipeline:
    return Pipeline.load(bundles[target], device="cuda", backend=target, threads=1)


def opened(bundles: dict[Target, Path], target: Target) -> Any:
    """A session alone."""
    bundle = Bundle.load(bundles[target])
    (engine,) = bundle.manifest.engines
    return session.open_plan(engine, bundle.read(engine.file))


def arrays_of(own: Any, active: int = 8) -> dict[str, Any]:
    """What it can be bound to on the emulator's device: 12 tokens, some of them active."""
    sizes = {"A": active, "M": 12 - active, "R": 2, "T": 16}
    return {
        port.name: aligned(tuple(sizes[axis] if isinstance(axis, str) else axis for axis in port.axes), port.dtype)
        for port in own.ports
    }


def bound(bundles: dict[Target, Path], target: Target) -> tuple[Any, dict[str, Any]]:
    own = opened(bundles, target)
    return own, arrays_of(own)


def aligned(shape: tuple[int, ...], dtype: str, off: int = 0) -> emulated.EmulatedArray:
    """Ones on the device, at a multiple of 256 bytes and `off` more."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 512 + off, np.uint8)
    begin = -memory.ctypes.data % 256 + off
    values = memory[begin : begin + size].view(dtype).reshape(shape)
    values[...] = 1
    return emulated.EmulatedArray(values)


def refused(call: Any, *words: str, kind: type[Exception] = BackendError) -> None:
    """In one line that has all these words."""
    with pytest.raises(kind) as error:
        call()
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text
