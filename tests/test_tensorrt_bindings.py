"""NVIDIA's bindings without a GPU: that the fake has nothing which they have not, what is said, and the kept cache."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import fake_bindings
import pytest
from fake_context import RtxContext
from fake_plan import HEAD, plan_of

from flagdit.cpp_ext import Gpu, choose_device, choose_on_gpu, with_cuda
from flagdit.engine import Pipeline
from flagdit.engine.bundle import Engine
from flagdit.engine.cpu import facts, unused
from flagdit.engine.device import choose, runs_on
from flagdit.engine.errors import BackendError
from flagdit.engine.tensorrt import cache as kept
from flagdit.engine.tensorrt import package
from flagdit.engine.tensorrt.log import log_of
from flagdit.engine.tensorrt.session import TensorRtSession

RTX = pytest.mark.skipif(package.installed("tensorrt-rtx") is None, reason="needs the package: flagdit[rtx]")
CLASSES = {
    "Runtime": fake_bindings.Runtime,
    "ICudaEngine": fake_bindings.RtxEngine,
    "IExecutionContext": RtxContext,
    "IRuntimeConfig": fake_bindings.IRuntimeConfig,
    "IRuntimeCache": fake_bindings.IRuntimeCache,
}
ENUMERATIONS = (
    "DataType",
    "TensorIOMode",
    "TensorLocation",
    "ExecutionContextAllocationStrategy",
    "EngineValidity",
    "EngineInvalidityDiagnostics",
    "DynamicShapesKernelSpecializationStrategy",
    "CudaGraphStrategy",
)
GPU = Gpu(kernels=True, name="a card", architecture=89)
ENGINE = Engine.model_validate(
    {
        "graph": "denoise",
        "file": "denoise.rtx-sm89.engine",
        "target": "tensorrt-rtx",
        "version": "1.7.1.116",
        "architectures": (89,),
        "platform": "linux-x86_64",
        "precision": "float16",
        "profiles": (),
        "inputs": (),
        "outputs": (),
        "build_seconds": 1.0,
    }
)


def trt() -> Any:
    return package.import_trt("tensorrt-rtx")


def fake() -> Any:
    return fake_bindings.make("tensorrt-rtx", "1.7.1.116", 89, None)


def arguments(doc: str) -> list[list[str]]:
    """Of each overload that a docstring of the bindings begins with, without self."""
    found = re.findall(r"^(?:\d+\. )?\w+\(self: [\w.]+(?:, )?(.*)\) -> ", doc, re.MULTILINE)
    return [re.findall(r"(\w+): ", re.sub(r"\[[^\]]*\]|<[^>]*>", "", one)) for one in found]


@pytest.mark.rtx
@RTX
@pytest.mark.parametrize("name", CLASSES)
def test_the_fake_has_nothing_that_the_bindings_have_not(name: str) -> None:
    """Names and arguments of methods; so what a session calls is there, too."""
    real, made = getattr(trt(), name), fake().Runtime if name == "Runtime" else CLASSES[name]
    own = [member for member in dir(made) if not member.startswith("_")]
    assert len(own) >= 2
    for member in own:
        assert hasattr(real, member), f"{name}.{member}"
        if callable(getattr(made, member)):
            said = list(inspect.signature(getattr(made, member)).parameters)[1:]
            assert said in arguments(getattr(real, member).__doc__), f"{name}.{member}{said}"


@pytest.mark.rtx
@RTX
@pytest.mark.parametrize("name", ENUMERATIONS)
def test_enumerations_of_the_fake_are_those_of_the_bindings(name: str) -> None:
    real, made = getattr(trt(), name).__members__, getattr(fake(), name).__members__
    assert made
    for member, value in made.items():
        assert member in real
        if name == "EngineInvalidityDiagnostics":  # bits, which are tested
            assert int(real[member]) == int(value)


@pytest.mark.rtx
@RTX
def test_settings_of_a_runtime_are_those_of_the_bindings() -> None:
    """Attributes that are set: pybind's classes would take any name on an instance of their own alone."""
    config = fake_bindings.IRuntimeConfig(fake())
    for name in vars(config):
        assert name.startswith("_") or isinstance(getattr(trt().IRuntimeConfig, name), property), name


def refusing(module: Any) -> tuple[Any, Any]:
    """A logger, and a runtime that has just refused what is no engine."""
    log = log_of(module)
    runtime = module.Runtime(log)
    assert runtime.deserialize_cuda_engine(b"no engine" * 100) is None
    return log, runtime


@pytest.mark.rtx
@RTX
def test_the_log_keeps_why_an_engine_is_refused() -> None:
    """Real errors of the real library: None comes back, and the reason is in the log alone."""
    module = trt()
    log, runtime = refusing(module)
    assert "Trying to load an engine created with incompatible serialization version" in log.taken()
    assert log.taken() == ""
    _, bits = runtime.get_engine_validity(b"no engine" * 10)
    assert bits & int(module.EngineInvalidityDiagnostics.MALFORMED_ENGINE)


@pytest.mark.rtx
@RTX
@pytest.mark.skipif(bool(Gpu.here().name), reason="there is a GPU")
def test_without_a_driver_no_runtime_is_made() -> None:
    with pytest.raises(BackendError, match=r"^TensorRT-RTX needs an NVIDIA GPU: .*; use --backend onnxruntime$"):
        TensorRtSession("tensorrt-rtx", ENGINE, b"", [])


@pytest.mark.skipif(with_cuda(), reason="this build has kernels")
@pytest.mark.parametrize(("backend", "name"), [("tensorrt", "TensorRT"), ("tensorrt-rtx", "TensorRT-RTX")])
def test_what_is_missing_first_is_said_first(backend: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, then a build with kernels for it."""
    with pytest.raises(BackendError, match=rf"^{name} runs on GPUs only; use --device cuda$"):
        Pipeline.load("demo", device="cpu", backend=backend)
    monkeypatch.setattr("ctypes.CDLL", lambda _: (_ for _ in ()).throw(OSError("no such file")))
    with pytest.raises(BackendError, match=rf"^{name} needs a CUDA device, and no NVIDIA driver .*; use --backend onn"):
        Pipeline.load("demo", device="cuda", backend=backend)
    monkeypatch.setattr("flagdit.engine.device.device_architecture", lambda *_: 89)
    with pytest.raises(
        BackendError, match=rf"^{name} runs on an NVIDIA GPU, in a build of flagdit with CUDA kernels, w"
    ):
        Pipeline.load("demo", backend=backend)


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(package.MODULES, "tensorrt", ("tensorrt_of_a_folder",))
    (tmp_path / "tensorrt_of_a_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError, match=r"^TensorRT is not installed; next: pip install 'flagdit\[tensorrt\]'$"):
        package.import_trt("tensorrt")


def test_an_engine_runs_here_if_its_backend_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ENGINE.model_copy(update={"target": "onnxruntime-cuda", "architectures": ()})
    for provider in (True, False):
        monkeypatch.setattr("flagdit.engine.device.has_provider", lambda there=provider: there)
        assert runs_on(GPU, own) is provider
    assert not runs_on(Gpu(), own) and not runs_on(GPU, own.model_copy(update={"graph": "condition"}))
    for name, there in (("json", True), ("no_such_module", False)):
        monkeypatch.setitem(package.MODULES, "tensorrt-rtx", (name,))
        assert runs_on(GPU, ENGINE) is there
    monkeypatch.setitem(package.MODULES, "tensorrt-rtx", ("json",))
    assert not runs_on(GPU, ENGINE.model_copy(update={"architectures": (86, 120)}))


def test_an_engine_that_nothing_runs_is_not_said_to_need_a_gpu() -> None:
    """Bundles for TensorRT-RTX have one of `condition`, which is for programs that load it by themselves."""
    (line,) = unused([ENGINE.model_copy(update={"graph": "condition", "file": "c.engine"})])
    assert line == "not used: c.engine: flagdit runs no condition in an engine of its own"
    assert unused([ENGINE])[0].endswith("it is for a GPU; run it with --device cuda --backend tensorrt-rtx")


def test_names_of_backends() -> None:
    with pytest.raises(BackendError, match=r"^backend 'trt' is not one of onnxruntime, tensorrt, tensorrt-rtx \(docs"):
        choose(Pipeline.load("demo").bundle.manifest, backend="trt")


def test_which_engine_runs_on_which_gpu() -> None:
    assert choose_device("cuda", "tensorrt-rtx", GPU, False) == "cuda"
    others = ENGINE.model_copy(update={"architectures": (86, 120)})
    assert choose_on_gpu(facts([others, ENGINE]), "m", "tensorrt-rtx", None, GPU) == 1
    again = "flagdit build MODEL -o BUNDLE --target tensorrt-rtx --sm 89"
    for engines, why in (([], "has no engine for tensorrt-rtx"), ([others], "are for other GPUs than this a card")):
        with pytest.raises(BackendError, match=rf"{why}.*; make one with: {again}$"):
            choose_on_gpu(facts(engines), "m", "tensorrt-rtx", None, GPU)
    with pytest.raises(
        BackendError, match=rf"has no float32 engine .* there are float16; .*{again} --precision float32$"
    ):
        choose_on_gpu(facts([ENGINE]), "m", "tensorrt-rtx", "float32", GPU)


def test_a_kept_cache_is_whole_or_none(tmp_path: Path) -> None:
    path = tmp_path / "flagdit" / "tensorrt-rtx" / "a.cache"
    assert kept.read(path) is None
    kept.write(path, b"kernels")
    assert kept.read(path) == b"kernels" and path.parent.stat().st_mode & 0o777 == 0o700
    whole = path.read_bytes()
    for broken in (whole[:-1], whole + b"s", whole.replace(b"k", b"K"), b""):
        path.write_bytes(broken)
        assert kept.read(path) is None
    path.write_bytes(whole)
    (path.parent / "link.cache").symlink_to(path)
    assert kept.read(path.parent / "link.cache") is None
    path.chmod(0o620)
    assert kept.read(path) is None
    path.chmod(0o600)
    path.parent.chmod(0o770)
    assert kept.read(path) is None
    kept.write(path, b"other")
    path.parent.chmod(0o700)
    assert kept.read(path) == b"kernels"


def test_a_kept_cache_is_read_whatever_may_be_done_to_new_files(tmp_path: Path) -> None:
    """A umask of 2, as many systems have it, lets the user's group write them."""
    path, before = tmp_path / "tensorrt-rtx" / "a.cache", kept.os.umask(0o002)
    try:
        kept.write(path, b"kernels")
        assert kept.read(path) == b"kernels"
        path.chmod(0o666)
        kept.write(path, b"other kernels")
        assert kept.read(path) == b"other kernels"
    finally:
        kept.os.umask(before)


def test_kept_caches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_FILES", 3)
    monkeypatch.setattr(kept, "MOST_BYTES", 100)
    folder = tmp_path / "tensorrt-rtx"
    for number in range(5):
        kept.write(folder / f"{number}.cache", str(number).encode())
        if number == 2:
            kept.os.utime(folder / "0.cache", (1 << 31, 1 << 31))  # used last
    assert {file.name for file in folder.iterdir()} == {"0.cache", "3.cache", "4.cache"}
    kept.write(folder / "large.cache", bytes(100))
    assert not (folder / "large.cache").exists()
    (folder / "large.cache").write_bytes(bytes(101))
    assert kept.read(folder / "large.cache") is None


def test_a_full_disk_keeps_no_cache_and_no_run_from_going_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise kept.OutputError("full")

    monkeypatch.setattr(kept, "write_file", full)
    kept.write(tmp_path / "tensorrt-rtx" / "a.cache", b"kernels")
    (tmp_path / "file").write_text("no folder")
    kept.write(tmp_path / "file" / "tensorrt-rtx" / "a.cache", b"kernels")


def test_a_cache_is_of_an_engine_a_version_and_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FLAGDIT_NO_RECORDS", raising=False)
    other = Gpu(kernels=True, name="another", architecture=89)
    paths = [
        kept.path_of(b"plan", "1.7", GPU),
        kept.path_of(b"plan2", "1.7", GPU),
        kept.path_of(b"plan", "1.8", GPU),
        kept.path_of(b"plan", "1.7", other),
    ]
    assert len(set(paths)) == 4 and all(
        path is not None and path.parent == tmp_path / "flagdit" / "tensorrt-rtx" for path in paths
    )
    monkeypatch.setenv("FLAGDIT_NO_RECORDS", "1")
    assert kept.path_of(b"plan", "1.7", GPU) is None


def test_the_fake_keeps_its_rules() -> None:
    """A plan that is broken is refused as the real library refuses it: None, and words for the logger."""
    log, runtime = refusing(fake())
    assert "magic" in log.taken()
    plan = plan_of(b"", "1.7.1.116", (89,), [], [])
    assert runtime.deserialize_cuda_engine(plan[:-1]) is None and "cut short" in log.taken()
    assert json.loads(plan[HEAD.size + 8 :])["sm"] == [89]
