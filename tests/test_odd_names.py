"""Folders and options whose names are no UTF-8, or no text: they work, or are refused in one clear line."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flagdit import cpp_ext
from flagdit.engine import BackendError, BundleError, FlagditError, Pipeline, RequestError
from flagdit.engine.bundle.reader import DEMO, MANIFEST, Bundle
from flagdit.engine.cpu import checked_threads

NAMES = {b"caf\xe9": "caf\\xe9", b"two\nlines": "two\\nlines", b"\x1b[31m": "\\x1b[31m", "ü'\"".encode(): "ü'\""}
NOT_TEXT = "\udcff"


def named(folder: Path, name: bytes) -> Path:
    return Path(shutil.copytree(DEMO, folder / os.fsdecode(name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_in_a_folder_of_any_name(tmp_path: Path, name: bytes) -> None:
    path = named(tmp_path, name)
    assert Bundle.load(path).name == NAMES[name]
    assert Bundle.verify(path) == []
    os.truncate(path / "place.onnx", 5)
    (fault,) = Bundle.verify(path)
    assert fault.startswith(f"{tmp_path / NAMES[name]}/place.onnx: 5 bytes instead of ") and fault.isprintable()
    (path / MANIFEST).write_text("{")
    for opened in (Bundle.open, Bundle.load, Bundle.verify, Pipeline.load):
        with pytest.raises(BundleError) as error:
            opened(path)
        assert str(error.value).startswith(f"{tmp_path / NAMES[name]}/manifest.json: not JSON")
        assert str(error.value).isprintable()


def test_a_picture_of_such_a_bundle_is_told_of_in_text(tmp_path: Path, flagdit) -> None:  # type: ignore[no-untyped-def]
    path, report = named(tmp_path, b"caf\xe9"), tmp_path / "report.json"
    options = ("a red apple", "--preset", "draft", "-o", tmp_path / "x.png", "--report", report)
    code, _, err = flagdit("generate", "--bundle", path, *options)
    assert code == 0, err
    assert json.loads(report.read_text())["bundle"] == "caf\\xe9"


@pytest.mark.parametrize("path", ["\ud800", "a\0b", f"{DEMO}\0", f"{DEMO}/\ud800"])
def test_what_no_file_can_be_called(path: str) -> None:
    for opened in (Bundle.open, Bundle.load, Bundle.verify, Pipeline.load, Bundle.open("demo").read):
        with pytest.raises(BundleError, match="no file can be called that") as error:
            opened(path)
        assert str(error.value).isprintable()


def test_json_ends_where_the_file_does() -> None:
    """A null byte is the end for the library that reads it, and what follows would be for nobody."""
    content = (DEMO / MANIFEST).read_bytes()
    cpp_ext.check_manifest(MANIFEST, content)
    for more in (b"\0", b"\0{}", b"\n\0"):
        with pytest.raises(BundleError, match="not JSON"):
            cpp_ext.check_manifest(MANIFEST, content + more)


def test_a_fault_of_json_is_told_briefly() -> None:
    for content in (b'{"a": "' + b"x" * 100_000 + b"\xff", b"1" * 100_000):
        with pytest.raises(BundleError, match="not JSON") as error:
            cpp_ext.check_manifest(MANIFEST, content)
        assert len(str(error.value)) < 400


@pytest.mark.parametrize("option", ["--precision", "--device", "--backend", "--solver", "--preset"])
def test_an_option_that_is_no_text(flagdit, tmp_path: Path, option: str) -> None:  # type: ignore[no-untyped-def]
    code, out, err = flagdit("generate", "a red apple", option, NOT_TEXT, "-o", tmp_path / "x.png")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and "ff" in err


@pytest.mark.parametrize(
    "said", [{"precision": 5}, {"device": None}, {"backend": b"onnxruntime"}, {"device": NOT_TEXT}]
)
def test_an_option_of_another_type(said: dict[str, Any]) -> None:
    with pytest.raises(BackendError, match=next(iter(said))) as error:
        Pipeline.load("demo", **said)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("threads", ["2", 1.5, 0, -1, 1025, 1 << 70, -(1 << 70)])
def test_threads_that_are_none(threads: Any) -> None:
    with pytest.raises(BackendError, match=r"threads is .*; allowed are"):
        checked_threads(threads)


def test_names_in_python_that_are_no_text() -> None:
    pipeline = Pipeline.load("demo", threads=1)
    for said in ({"preset": NOT_TEXT}, {"solver": NOT_TEXT}, {"solver": "\ud800"}):
        with pytest.raises(RequestError) as error:
            pipeline("a red apple", **said)  # type: ignore[arg-type]
        assert isinstance(error.value, FlagditError) and str(error.value).isprintable()


def test_threads_share_a_bundle_and_weights() -> None:
    bundle, weights = Bundle.open("demo"), cpp_ext.Weights()
    expected = {name: bytes(bundle.read(name)) for name in bundle.graphs}

    def read(name: str) -> bool:
        graph = bundle.graph(name, weights)
        assert set(weights.files) <= set(bundle.manifest.files)
        return bytes(graph.content) == expected[name]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, bundle.graphs * 4))
