"""The C interface from another language: ctypes, which knows nothing of flagdit. `make runtime` builds it first."""

from __future__ import annotations

import ctypes as c
import json
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from flagdit.cpp_ext import resident
from flagdit.engine import Pipeline
from flagdit.engine.bundle.reader import DEMO

LIBRARY = Path(__file__).parents[1] / "build" / "runtime" / "libflagdit.so"
OK, REQUEST, MISUSE, CANCELLED = 0, 1, 6, 7
SIZE = 64 * 64 * 3
SAID = {"prompt": "a red apple", "steps": 4, "seed": 5}
ON_STEP = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_int64, c.c_int64)

pytestmark = pytest.mark.skipif(not LIBRARY.is_file(), reason="build/runtime is not there; next: make runtime")
Picture = npt.NDArray[np.uint8]


class Info(c.Structure):
    _fields_ = [(name, c.c_int64) for name in ("width", "height", "pictures", "steps", "bytes")]


class Library:
    """A pipeline of the demo, in fp32 with one thread."""

    def __init__(self) -> None:
        self.lib = c.CDLL(str(LIBRARY))
        self.lib.flagdit_error_text.restype = c.c_char_p
        self.lib.flagdit_error_text.argtypes = self.lib.flagdit_error_free.argtypes = [c.c_void_p]
        self.lib.flagdit_version.restype = c.c_char_p
        spec = find_spec("onnxruntime")
        assert spec is not None and spec.submodule_search_locations
        folder = f"{next(iter(spec.submodule_search_locations))}/capi"
        self.pipeline = c.c_void_p()
        options = {"precision": "float32", "threads": 1, "onnxruntime": folder}
        self.call("open", str(DEMO).encode(), json.dumps(options).encode(), c.byref(self.pipeline))

    def call(self, name: str, *arguments: Any, status: int = OK) -> str:
        """Calls it, checks its status, and returns the text of its error."""
        error = c.c_void_p()
        found = getattr(self.lib, f"flagdit_{name}")(*arguments, c.byref(error))
        text = self.lib.flagdit_error_text(error).decode() if error else ""
        self.lib.flagdit_error_free(error)
        assert found == status, (found, text)
        return str(text)

    def paint(self, said: dict[str, Any], on_step: Any = None, status: int = OK) -> tuple[Picture, str]:
        rgb = np.zeros(SIZE, np.uint8)
        request = json.dumps(said).encode()
        memory, call = rgb.ctypes.data_as(c.c_void_p), ON_STEP(on_step) if on_step else c.cast(None, ON_STEP)
        text = self.call("generate", self.pipeline, request, memory, c.c_size_t(SIZE), call, None, status=status)
        return rgb, text


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


@pytest.fixture(scope="module")
def expected() -> Picture:
    pipeline = Pipeline.load("demo", precision="float32", threads=1)
    return np.asarray(pipeline("a red apple", steps=4, seed=5).image).reshape(-1)


def test_a_picture_in_memory_of_the_caller(library: Library, expected: Picture) -> None:
    assert np.array_equal(library.paint(SAID)[0], expected)


def test_a_preview_after_every_step(library: Library, expected: Picture) -> None:
    """The last one is the picture, and the one before it is near."""
    previews: list[Picture] = []

    def on_step(_: Any, run: int, done: int, steps: int) -> int:
        rgb = np.zeros(SIZE, np.uint8)
        library.call("run_picture", c.c_void_p(run), c.c_int64(0), rgb.ctypes.data_as(c.c_void_p), c.c_size_t(SIZE))
        previews.append(rgb)
        return 0 if done == len(previews) and steps == 4 else 1

    library.paint(SAID, on_step)
    errors = [np.abs(preview.astype(float) - expected).mean() for preview in previews]
    assert len(errors) == 4 and errors[-1] == 0 and errors[0] > errors[2] > 0


def test_a_run_is_stopped_by_its_callback(library: Library) -> None:
    steps: list[int] = []

    def on_step(_: Any, run: int, done: int, total: int) -> int:
        steps.append(done)
        return int(done == 2)

    _, text = library.paint(SAID, on_step, CANCELLED)
    assert steps == [1, 2] and "stopped" in text


def test_threads_share_a_pipeline(library: Library, expected: Picture) -> None:
    with ThreadPoolExecutor(4) as threads:
        for picture, _ in threads.map(lambda _: library.paint(SAID), range(8)):
            assert np.array_equal(picture, expected)


def test_many_runs_take_no_more_memory(library: Library) -> None:
    for _ in range(8):
        library.paint(SAID | {"steps": 2})
    before = resident()
    for _ in range(24):
        library.paint(SAID | {"steps": 2})
    assert resident() - before < 4 << 20


def test_a_plan_says_what_a_run_will_be(library: Library) -> None:
    info = Info()
    library.call("plan", library.pipeline, json.dumps(SAID | {"size": [96, 64]}).encode(), c.byref(info))
    assert (info.width, info.height, info.pictures, info.steps) == (96, 64, 1, 4)
    assert 100 << 20 < info.bytes < 1 << 30


def test_a_run_by_hand(library: Library, expected: Picture, tmp_path: Path) -> None:
    """Its report is JSON, and two pictures of one run are what they are alone."""
    run, left, text = c.c_void_p(), c.c_int64(), c.c_char_p()
    request = json.dumps({"prompts": ["a boat", "a red apple"], "seeds": [4, 5], "steps": 4}).encode()
    library.call("run_start", library.pipeline, request, c.byref(run), None)
    while True:
        library.call("run_step", run, c.byref(left))
        if left.value == 0:
            break
    library.call("run_step", run, None, status=MISUSE)
    rgb = np.zeros(SIZE, np.uint8)
    memory = rgb.ctypes.data_as(c.c_void_p)
    library.call("run_picture", run, c.c_int64(1), memory, c.c_size_t(SIZE - 1), status=MISUSE)
    library.call("run_picture", run, c.c_int64(2), memory, c.c_size_t(SIZE), status=REQUEST)
    library.call("run_picture", run, c.c_int64(1), memory, c.c_size_t(SIZE))
    assert np.abs(rgb.astype(int) - expected).max() <= 1  # products of several rows are summed otherwise
    library.call("run_report", run, c.byref(text))
    assert text.value is not None and json.loads(text.value)["prompt"] == ["a boat", "a red apple"]
    library.lib.flagdit_text_free(text)
    library.call("run_save", run, c.c_int64(0), str(tmp_path / "boat.png").encode())
    assert (tmp_path / "boat.png").read_bytes()[:4] == b"\x89PNG"
    library.lib.flagdit_run_free(run)


@pytest.mark.parametrize(
    "request_",
    [b"", b"[]", b"[" * 100_000, b"\xff", b'{"prompt": 1}', b'{"prompt": "a", "steps": 1e9}', b'{"prompt": "\\ud800"}'],
)
def test_requests_that_cannot_be_served(library: Library, request_: bytes) -> None:
    assert library.call("plan", library.pipeline, request_, c.byref(Info()), status=REQUEST)
