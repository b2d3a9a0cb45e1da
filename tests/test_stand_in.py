"""A picture on a GPU without a GPU: ONNX Runtime's CUDA provider and our kernels over a stand-in for CUDA's runtime.

Nothing is computed. What is counted is what a run asks of the device, and whether it may. `make stand-in` builds all of
it, and says where in FLAGDIT_STAND_IN: a folder with `lib`, `flagdit` (with kernels) and libonnxruntime.so.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = os.environ.get("FLAGDIT_STAND_IN")
HERE = Path(__file__).parent / "stand_in"
LAYERS = 8  # of the demo
BUDGET = 49  # launches a layer of the model's own graph, in fp32, with its share of what is around

pytestmark = pytest.mark.skipif(FOLDER is None, reason="needs the stand-in for CUDA: make stand-in")


def environment(log: Path, fault: str | None = None) -> dict[str, str]:
    assert FOLDER is not None
    more = {"LD_LIBRARY_PATH": f"{FOLDER}/lib", "PYTHONPATH": FOLDER, "STAND_IN_LOG": str(log)}
    return {**os.environ, **more, **({} if fault is None else {"FAULT": fault})}


def painted(folder: Path, preset: str, fault: str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """Reports of two pictures, and the log."""
    assert FOLDER is not None
    runtime = next(Path(FOLDER, "onnxruntime", "capi").glob("libonnxruntime.so*"))
    command = [sys.executable, str(HERE / "paint.py"), str(runtime), preset]
    log = folder / f"{preset}-{fault}.log"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(log, fault))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), log.read_text().splitlines()


@pytest.fixture(scope="module")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return cache(lambda preset, fault=None: painted(tmp_path_factory.mktemp("log"), preset, fault))


def steps(log: list[str], picture: int) -> Iterator[list[str]]:
    """The lines of each step of a picture."""
    lines: list[str] = []
    for line in log[log.index(f"begin {picture}") + 1 :]:
        if line.startswith(f"after {picture}"):
            yield lines
            lines = []
        elif line.startswith("begin"):
            return
        else:
            lines.append(line)


def later(log: list[str]) -> list[list[str]]:
    """The steps of the second picture but its first, which prepares the run before it."""
    return list(steps(log, 1))[1:]


def of(lines: list[str], *starts: str) -> list[str]:
    return [line for line in lines if line.startswith(starts)]


@pytest.mark.parametrize("preset", ["fast", "quality"])
def test_nothing_waits_allocates_or_is_copied_from_the_host(painting: Any, preset: str) -> None:
    """From step to step of the second picture: in the first one the provider takes its memory."""
    _, log = painting(preset)
    assert not of(log, "BROKEN")
    for lines in later(log):
        assert not of(lines, "wait", "allocate", "free")
        assert not [line for line in lines if "pageable" in line]


@pytest.mark.parametrize("fault", ["wait", "allocate", "pageable"])
def test_the_log_would_show_it(painting: Any, fault: str) -> None:
    _, log = painting("fast", fault)
    shown = [line for lines in steps(log, 1) for line in lines]
    expected = {"wait": "wait device", "allocate": "allocate device 256", "pageable": "copy pageable->device 8"}[fault]
    assert [line for line in shown if line.startswith(expected)]


def test_all_of_it_is_on_one_stream(painting: Any) -> None:
    _, log = painting("fast")
    lines = [line for step in later(log) for line in step]
    streams = {line.split("stream ")[1] for line in lines if "stream 0x" in line or "stream (nil)" in line}
    assert len(streams) == 1
    assert "(nil)" not in streams


@pytest.mark.parametrize("preset", ["fast", "quality"])
def test_a_replayed_step_is_one_launch(painting: Any, preset: str) -> None:
    """And the report says which steps that are."""
    reports, log = painting(preset)
    nodes = reports[1]["gpu"]["graph_nodes"]
    seen: set[int] = set()
    replays = 0
    for lines, count in zip(later(log), nodes[1:], strict=True):
        launched = of(lines, "graph launched")
        assert [int(line.split()[2]) for line in launched] == [count] * (count > 0)
        if count and not of(lines, "capture"):
            replays += 1
            assert not of(lines, "launch", "copy")
        seen.add(count)
    assert replays > 0
    assert reports[1]["gpu"]["captured_steps"] == sum(count > 0 for count in nodes)


def test_a_step_launches_no_more_than_its_budget(painting: Any) -> None:
    reports, log = painting("fast")
    for lines, count in zip(later(log), reports[1]["gpu"]["graph_nodes"][1:], strict=True):
        launches = len(of(lines, "launch")) + len(of(lines, "copy device"))
        assert max(launches, count) <= BUDGET * LAYERS


BUILD_AND_LOAD = """
import sys
from flagdit.cpp_ext import OnnxRuntime
from flagdit.engine import BackendError, Pipeline, session
from flagdit.engine.cli import main
runtime = OnnxRuntime(sys.argv[1])
session.onnxruntime = lambda: runtime
folder = sys.argv[2]
sys.argv = ["flagdit", "build", "demo", "-o", folder, "--target", "onnxruntime-cuda"]
try:
    main()
except SystemExit as done:
    assert not done.code, done
assert "onnxruntime" not in sys.modules, "another copy of the runtime in one process"
try:
    Pipeline.load(folder, device="cuda")
except BackendError as error:
    print(error)
"""


def test_an_engine_that_computes_nothing_is_not_used(tmp_path: Path) -> None:
    """The self-test of a bundle with engines for GPUs, in the process that built it."""
    assert FOLDER is not None
    runtime = next(Path(FOLDER, "onnxruntime", "capi").glob("libonnxruntime.so*"))
    command = [sys.executable, "-c", BUILD_AND_LOAD, str(runtime), str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(tmp_path / "log"))
    assert done.returncode == 0, done.stderr
    assert "denoise.cuda-float16.onnx (float16) computes wrong numbers: " in done.stdout


class Cuda:
    """The stand-in itself, in this process."""

    def __init__(self, log: Path) -> None:
        self.log = log
        os.environ["STAND_IN_LOG"] = str(log)
        self.library = ctypes.CDLL(f"{FOLDER}/lib/libcudart.so.13", mode=ctypes.RTLD_LOCAL)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)


@pytest.fixture(scope="module")
def cuda(tmp_path_factory: pytest.TempPathFactory) -> Cuda:
    return Cuda(tmp_path_factory.mktemp("own") / "log")


@pytest.mark.parametrize("fault", ["an allocation in a capture", "a wait in a capture", "from memory of the host"])
def test_a_rule_that_is_broken_is_written_down(cuda: Cuda, fault: str) -> None:
    stream, memory, graph = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    cuda.cudaStreamCreateWithFlags(ctypes.byref(stream), 1)
    cuda.cudaMalloc(ctypes.byref(memory), ctypes.c_size_t(64))
    cuda.cudaStreamBeginCapture(stream, 2)
    if "allocation" in fault:
        status = cuda.cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(64))
    elif "wait" in fault:
        status = cuda.cudaStreamSynchronize(stream)
    else:
        cuda.cudaMemcpyAsync(memory, ctypes.create_string_buffer(8), ctypes.c_size_t(8), 4, stream)
        status = 900
    assert status == 900
    cuda.cudaStreamEndCapture(stream, ctypes.byref(graph))
    assert [line for line in cuda.log.read_text().splitlines() if line.startswith("BROKEN") and fault in line]
