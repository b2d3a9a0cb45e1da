"""What a session of TensorRT refuses, in one line each, and that the fake sees what a session leaves out.

Over the emulator of CUDA, as test_tensorrt_cuda.py.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path
from typing import Any

import fake_bindings
import numpy as np
import pytest
from backends import EMULATED
from fake_engine import aligned, arrays_of, bound, installed, load, refused

from flagdit.cpp_ext import GraphCache
from flagdit.engine import Bundle, session
from flagdit.engine.errors import BackendError, BundleError
from flagdit.engine.tensorrt.package import Target

pytest_plugins = ["fake_fixtures"]
pytestmark = pytest.mark.skipif(not EMULATED, reason="needs the emulator: make emulator")


def test_addresses_off_their_place(bundles: dict[Target, Path], target: Target, trt: Any) -> None:
    own, arrays = bound(bundles, target)
    own.bind(arrays).run()
    off = {**arrays, "key_tail.0": aligned(arrays["key_tail.0"].shape, "float32", off=128)}
    refused(lambda: own.bind(off), "key_tail.0 is 128 bytes off its place", "multiples of 256 bytes")


def test_shapes_outside_of_the_profile(bundles: dict[Target, Path], target: Target, trt: Any) -> None:
    own, arrays = bound(bundles, target)
    many = {**arrays, "tokens": aligned((500, *arrays["tokens"].shape[1:]), "float32")}
    refused(lambda: own.bind(many), "tokens is (500, 2, ", "the engine's profile allows (1, 1, ", "build it again")


def test_arrays_that_are_missing_or_others(bundles: dict[Target, Path], target: Target, trt: Any) -> None:
    own, arrays = bound(bundles, target)
    without = {name: array for name, array in arrays.items() if name != "modulation"}
    refused(lambda: own.bind(without), "modulation is not bound", kind=BundleError)
    double = {**arrays, "tokens": aligned(arrays["tokens"].shape, "float64")}
    refused(lambda: own.bind(double), "tokens is float32 (A, R, ", "got float64 (8, 2, ", kind=BundleError)
    host = {**arrays, "tokens": arrays["tokens"].values}
    refused(lambda: own.bind(host), "tokens is float32", "on cuda; got float32", "on cpu", kind=BundleError)
    short = {**arrays, "velocity": aligned((7, *arrays["velocity"].shape[1:]), "float32")}
    refused(lambda: own.bind(short), "velocity is (8, 2, ", "for these inputs; got (7, 2, ", kind=BundleError)
    refused(lambda: own.bind({**arrays, "x": arrays["tokens"]}), "has no input or output x", kind=BundleError)


def test_a_capture_before_a_run(bundles: dict[Target, Path], target: Target, trt: Any) -> None:
    own, arrays = bound(bundles, target)
    binding, graphs = own.bind(arrays), GraphCache(2)
    assert not binding.settled
    refused(lambda: graphs.run(1, own.stream, binding.run), "captured before it has run")
    binding.run()
    assert binding.settled
    made = arrays["velocity"].values.copy()
    assert np.abs(made - 1).max() > 0.01
    for _ in range(2):
        arrays["velocity"].values[...] = 0
        graphs.run(1, own.stream, binding.run)
        np.testing.assert_array_equal(arrays["velocity"].values, made)


def test_contexts_share_their_memory_and_go_before_the_engine(
    bundles: dict[Target, Path], target: Target, trt: Any
) -> None:
    own, arrays = bound(bundles, target)
    large = own.bind(arrays)
    small = own.bind(arrays_of(own, 4))
    large.run()
    small.run()
    assert len(trt.scratch) == 1
    del own
    gc.collect()
    large.run()
    del large, small
    gc.collect()
    assert trt.broken == []


def test_statuses_are_looked_at(
    bundles: dict[Target, Path], target: Target, trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What returns False is one line with what the logger was told, and none of its second line."""
    own, arrays = bound(bundles, target)
    context, binding = fake_bindings.IExecutionContext, own.bind(arrays)
    for name, words in {
        "set_optimization_profile_async": ["does not take profile 0"],
        "set_input_shape": ["does not take ", "the engine's profile allows ("],
        "set_tensor_address": ["does not take the address of ", "0x"],
        "execute_async_v3": ["does not run it"],
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(context, name, lambda self, *_: self._no("planted"))
            call = binding.run if name == "execute_async_v3" else lambda: own.bind(arrays)
            refused(call, f"denoise.{target}.engine: TensorRT", "(fake: planted)", *words)
    monkeypatch.setattr(fake_bindings.ICudaEngine, "create_execution_context", lambda *_: None)
    monkeypatch.setattr(fake_bindings.RtxEngine, "create_execution_context", lambda *_: None)
    refused(lambda: own.bind(arrays), "makes no execution context")


CONTEXT, BINDING = fake_bindings.IExecutionContext, "flagdit.engine.tensorrt.binding"
LEFT_OUT: dict[str, tuple[Any, str, Any, str]] = {
    "alignment": (BINDING, "ALIGNED", 1, "must have at least 256-byte alignment"),
    "profiles": (BINDING, "_profile_of", lambda *_: 0, "tokens is outside of the profile"),
    "a profile": (CONTEXT, "set_optimization_profile_async", lambda *_: True, "no profile is chosen"),
    "shapes": (CONTEXT, "infer_shapes", lambda self: [], "velocity has no shape"),
    "an address": (CONTEXT, "set_tensor_address", lambda *_: True, "has no address"),
    "enough memory": (
        CONTEXT,
        "set_device_memory",
        lambda self, memory, size: setattr(self, "_memory", (memory, 1)),
        "too little memory",
    ),
}
BROKEN: dict[str, tuple[Any, str, Any, str]] = {
    "asking for the size": (
        CONTEXT,
        "update_device_memory_size_for_shapes",
        lambda self: 1 << 20,
        "the size of memory was not asked for since the last shape",
    ),
    "saying whose memory it is": (
        "flagdit.engine.tensorrt.engine.LoadedEngine",
        "context",
        lambda self: self.engine.create_execution_context(),
        "memory is given to a context that has its own",
    ),
}


def put(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, instead: Any) -> None:
    """where: a class, or what it is called."""
    changed = (f"{where}.{name}", instead) if isinstance(where, str) else (where, name, instead)
    monkeypatch.setattr(*changed)


@pytest.mark.parametrize("rule", LEFT_OUT)
def test_the_fake_sees_what_is_left_out(
    bundles: dict[Target, Path], target: Target, trt: Any, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    """Each rule, by a session that does not keep it: False, and a reason in the log."""
    where, name, instead, words = LEFT_OUT[rule]
    own, arrays = bound(bundles, target)
    if rule == "alignment":
        arrays["tokens"] = aligned(arrays["tokens"].shape, "float32", off=128)
    if rule == "profiles":
        arrays["tokens"] = aligned((500, *arrays["tokens"].shape[1:]), "float32")
    put(monkeypatch, where, name, instead)
    refused(lambda: own.bind(arrays).run(), words)


@pytest.mark.parametrize("rule", BROKEN)
def test_the_fake_sees_what_is_undefined(
    bundles: dict[Target, Path], target: Target, trt: Any, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    where, name, instead, words = BROKEN[rule]
    own, arrays = bound(bundles, target)
    put(monkeypatch, where, name, instead)
    with suppress(BackendError):
        own.bind(arrays).run()
    assert trt.broken == [words]


def test_the_fake_sees_a_capture_too_early_and_an_engine_that_goes_first(
    bundles: dict[Target, Path], target: Target, trt: Any
) -> None:
    own, arrays = bound(bundles, target)
    bindings = [own.bind(arrays)]
    bindings[0]._has_run = True
    early = "(fake: operation not permitted when stream is capturing)"
    refused(lambda: GraphCache(2).run(1, own.stream, bindings[0].run), early)
    own._loaded.engine = None
    gc.collect()
    bindings.clear()
    gc.collect()
    assert trt.broken == ["an engine must outlive its contexts"]


def test_engines_of_another_version_or_gpu(
    bundles: dict[Target, Path], target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"tensorrt-rtx": "1.8.0.1", "tensorrt": "10.16.2"}
    installed(monkeypatch, target, version=versions[target])
    again = f"flagdit build MODEL -o BUNDLE --target {target}"
    refused(lambda: bound(bundles, target), "the engine is of another version", versions[target], again)
    installed(monkeypatch, target, architecture=120)
    refused(lambda: bound(bundles, target), "cannot run on this GPU", "for sm 90", again)
    for version in ("9.2", "0.1", "99.0", "unknown"):
        installed(monkeypatch, target, version=version)
        refused(lambda: bound(bundles, target), f" is {version}; allowed are ")


def test_an_engine_with_other_ports(bundles: dict[Target, Path], target: Target, trt: Any) -> None:
    bundle = Bundle.load(bundles[target])
    (engine,) = bundle.manifest.engines
    content = bundle.read(engine.file)
    for change in (
        {"inputs": engine.inputs[1:]},
        {"outputs": (*engine.outputs, engine.outputs[0].model_copy(update={"name": "more"}))},
        {"outputs": (engine.outputs[0].model_copy(update={"dtype": "float16"}), *engine.outputs[1:])},
    ):
        other = engine.model_copy(update=change)
        refused(lambda other=other: session.open_plan(other, content), "than the manifest says", kind=BundleError)


def test_an_engine_with_wrong_numbers(
    bundles: dict[Target, Path], target: Target, trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = fake_bindings.IExecutionContext._compute

    def wrong(self: Any) -> None:
        right(self)
        self._view("velocity")[0] *= 1.1

    monkeypatch.setattr(fake_bindings.IExecutionContext, "_compute", wrong)
    refused(lambda: load(bundles, target), "computes wrong numbers", "velocity")
