"""Engines through NVIDIA's Python bindings, whole: over the emulator of CUDA, with a fake of the bindings."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import emulated
import fake_bindings
import numpy as np
import pytest
from backends import EMULATED
from fake_engine import bundle_of, installed

from flagdit.cpp_ext import GraphCache
from flagdit.engine import DENSE, Bundle, Pipeline, RasConfig, session
from flagdit.engine.errors import BackendError, BundleError
from flagdit.engine.request import Request
from flagdit.engine.run import Run
from flagdit.engine.tensorrt.package import MODULES, Target

pytestmark = pytest.mark.skipif(not EMULATED, reason="needs the emulator: make emulator")

PROMPTS = ["a red apple", "a green star on a blue background"]
RUNS: dict[str, dict[str, Any]] = {
    "dense": {"ras": DENSE},
    "second order": {"ras": RasConfig(ratio=0.3, warmup=2, forecast=2), "solver": "ab2"},
    "keys": {"ras": RasConfig(ratio=0.6, ratio_end=0.3, warmup=3, forecast_kv=0.5)},
    "branches apart": {"ras": RasConfig(ratio=0.4, warmup=2, guidance_every=3, guidance_warmup=2)},
    "budget": {"ras": RasConfig(ratio=0.2, warmup=3, error_budget=0.02)},
}


@pytest.fixture(autouse=True)
def no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAGDIT_NO_RECORDS", "1")


@pytest.fixture(scope="module")
def cpu() -> Pipeline:
    return Pipeline.load("demo", device="cpu", precision="float32", threads=1)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[Target, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    targets: tuple[Target, ...] = ("tensorrt-rtx", "tensorrt")
    return {target: bundle_of("demo", folder / target, target) for target in targets}


@pytest.fixture(params=["tensorrt-rtx", "tensorrt"])
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setattr(session, "with_tensorrt", lambda: False)  # this build has the one in C++, too
    return request.param


@pytest.fixture
def trt(target: Target, monkeypatch: pytest.MonkeyPatch) -> Any:
    return installed(monkeypatch, target)


def load(bundles: dict[Target, Path], target: Target) -> Pipeline:
    return Pipeline.load(bundles[target], device="cuda", backend=target, threads=1)


def request_of(run: dict[str, Any], samples: int = 1) -> Request:
    asked = {"solver": "euler", **run}
    return Request(PROMPTS[:samples], list(range(samples)), 10, (32, 32), 4.0, 2.0, asked["ras"], asked["solver"])


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("samples", [1, 2])
def test_a_run_is_that_of_the_cpu(
    cpu: Pipeline, bundles: dict[Target, Path], target: Target, trt: Any, name: str, samples: int
) -> None:
    request = request_of(RUNS[name], samples)
    result, expected = Run(load(bundles, target).stages, request).finish(), Run(cpu.stages, request).finish()
    assert [s.active for s in result.report.steps] == [s.active for s in expected.report.steps]
    np.testing.assert_array_equal(result.ages, expected.ages)
    np.testing.assert_allclose(result.latents, expected.latents, 2e-4, 2e-4)
    assert result.report.backend == target
    assert result.report.gpu is not None and result.report.gpu["captured_steps"] > 0
    gc.collect()
    assert trt.broken == []


def bound(bundles: dict[Target, Path], target: Target) -> tuple[Any, dict[str, Any]]:
    """A session, and arrays on the emulator's device that it can be bound to: 12 tokens, of which 8 are active."""
    bundle = Bundle.load(bundles[target])
    (engine,) = bundle.manifest.engines
    sizes = {"A": 8, "M": 4, "R": 2, "T": 16, "S": 1, "N": 12}
    arrays = {
        port.name: aligned(tuple(sizes[axis] if isinstance(axis, str) else axis for axis in port.shape), port.dtype)
        for port in (*engine.inputs, *engine.outputs)
    }
    return session.open_plan(engine, bundle.read(engine.file)), arrays


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
    small = own.bind({name: array[:4] if name in ("tokens", "velocity") or name.startswith(("rope", "key_head", "value_head")) else array for name, array in arrays.items()})
    large.run(), small.run()
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


@pytest.mark.parametrize(
    ("member", "instead", "words"),
    [
        ("update_device_memory_size_for_shapes", lambda self: setattr(self, "_needed", 1 << 40) or 1024, "too little"),
        ("infer_shapes", lambda self: ["tokens"], "does not know the shape of tokens"),
        ("set_tensor_address", lambda self, *_: True, "has no address"),
    ],
)
def test_the_fake_sees_what_is_left_out(
    bundles: dict[Target, Path],
    target: Target,
    trt: Any,
    monkeypatch: pytest.MonkeyPatch,
    member: str,
    instead: Any,
    words: str,
) -> None:
    own, arrays = bound(bundles, target)
    monkeypatch.setattr(fake_bindings.IExecutionContext, member, instead)
    refused(lambda: own.bind(arrays).run(), words)


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


def test_a_package_that_is_not_there(
    bundles: dict[Target, Path], target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODULES, target, ("no_such_module",))
    extra = "rtx" if target == "tensorrt-rtx" else "tensorrt"
    refused(lambda: load(bundles, target), f"next: pip install 'flagdit[{extra}]'")


def test_bundles_without_an_engine_for_this_gpu(target: Target, trt: Any, tmp_path: Path) -> None:
    sm = " --sm 90" if target == "tensorrt-rtx" else ""
    again = f"flagdit build MODEL -o BUNDLE --target {target}{sm}"
    demo = {target: Path("demo")}
    refused(lambda: load(demo, target), f"has no engine for {target}", again)
    others = {target: bundle_of("demo", tmp_path / "others", target, architectures=(86, 120))}
    refused(lambda: load(others, target), "are for other GPUs than this an emulator (compute capability 9.0)", again)


def test_engines_that_cannot_be_captured_run_all_the_same(
    cpu: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those that were built without REQUIRE_USER_ALLOCATION, as TensorRT-RTX says when it is asked."""
    installed(monkeypatch, "tensorrt-rtx")
    plain: dict[Target, Path] = {
        "tensorrt-rtx": bundle_of("demo", tmp_path / "plain", "tensorrt-rtx", user_allocation=False)
    }
    request = request_of(RUNS["keys"])
    result, expected = Run(load(plain, "tensorrt-rtx").stages, request).finish(), Run(cpu.stages, request).finish()
    np.testing.assert_allclose(result.latents, expected.latents, 2e-4, 2e-4)
    assert result.report.gpu is not None and result.report.gpu["captured_steps"] == 0


def test_what_was_compiled_is_kept(
    bundles: dict[Target, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the user's cache; one that is broken, or of another GPU, is made anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FLAGDIT_NO_RECORDS")
    request = request_of(RUNS["keys"])

    def compiled(**how: Any) -> int:
        trt = installed(monkeypatch, "tensorrt-rtx", **how)
        Run(load(bundles, "tensorrt-rtx").stages, request).finish()
        gc.collect()
        return len(trt.compiled)

    first = compiled()
    (file,) = (tmp_path / "flagdit" / "tensorrt-rtx").iterdir()
    assert first > 3 and compiled() == 0
    whole = file.read_bytes()
    for broken in (whole[:-1], whole[:-1] + b"?", b"", b"no cache"):
        file.write_bytes(broken)
        assert compiled() == first
        assert file.read_bytes() == whole
    file.chmod(0o666)  # anybody may have written it
    assert compiled() == first
