"""Who believes a record of a digest: a file is damaged and said to be right, so whoever reads it does not take it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile import edit_graph, reseal
from records import SETTLED, WEIGHTS, changed, known

from flagdit import cpp_ext
from flagdit.cpp_ext import FileRecord, Weights, external_tensors
from flagdit.engine import Bundle, BundleError, Pipeline
from flagdit.engine.bundle.reader import DEMO

pytestmark = pytest.mark.usefixtures("cache")


READERS: dict[str, Callable[[Path], object]] = {
    "checked": Bundle.load,
    "checked by the core": lambda path: cpp_ext.Bundle.open(str(path)).check(),
    "used": lambda path: Bundle.open(path).read(WEIGHTS),
}


@pytest.mark.parametrize("reader", READERS)
def test_who_believes_a_record(believed: Path, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    """Until the file changes; nobody, where that is turned off."""
    READERS[reader](believed)
    with monkeypatch.context() as off, pytest.raises(BundleError, match=f"{WEIGHTS}: damaged"):
        off.setenv("FLAGDIT_NO_RECORDS", "1")
        READERS[reader](believed)
    (believed / WEIGHTS).touch()
    with pytest.raises(BundleError, match=f"{WEIGHTS}: damaged"):
        READERS[reader](believed)


def test_of_a_known_file_only_what_a_graph_has_in_it_is_read(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of it is zeros, and the picture the same."""
    bundle = Bundle.open(shutil.copytree(DEMO, tmp_path / "bundle"))
    path, expected = bundle.path(WEIGHTS), bundle.manifest.files[WEIGHTS]
    read = Weights()
    whole = bundle.graph("condition.onnx", read).data[WEIGHTS]
    assert bytes(whole) == path.read_bytes() and read.files == [WEIGHTS]
    pictures = [Pipeline.load(bundle.directory, threads=1)("an apple", steps=2).latents]
    with path.open("rb") as opened:
        FileRecord(opened.fileno(), changed(path) + SETTLED).keep(expected.sha256)
    if not known(path, expected.sha256):
        pytest.skip("files of this file system are not remembered")
    read = Weights()
    parts = bundle.graph("condition.onnx", read).data[WEIGHTS]
    assert read.files == [] and len(parts) == expected.bytes
    needed = np.zeros(len(parts), bool)
    for _, _, offset, length in external_tensors("condition.onnx", bundle.read("condition.onnx")):
        needed[offset : offset + length] = True
    np.testing.assert_array_equal(np.asarray(parts), np.where(needed, np.asarray(whole), 0))
    assert 0 < needed.mean() < 1
    pictures.append(Pipeline.load(bundle.directory, threads=1)("an apple", steps=2).latents)
    np.testing.assert_array_equal(*pictures)
    monkeypatch.setenv("FLAGDIT_NO_RECORDS", "1")
    assert bytes(bundle.graph("condition.onnx", read).data[WEIGHTS]) == bytes(whole) and read.files == [WEIGHTS]


def test_parts_of_a_known_file_may_overlap(cache: Path, tmp_path: Path) -> None:
    """As a graph says where they are: two of its weights begin within the same one."""
    copied = Path(shutil.copytree(DEMO, tmp_path / "bundle"))

    def overlap(model: onnx.ModelProto) -> None:
        outside = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
        for tensor, offset in zip(outside[1:3], ("64", "8"), strict=True):
            next(entry for entry in tensor.external_data if entry.key == "offset").value = offset

    edit_graph(copied / "condition.onnx", overlap)
    reseal(copied)
    bundle = Bundle.open(copied)
    path, expected = bundle.path(WEIGHTS), bundle.manifest.files[WEIGHTS]
    with path.open("rb") as opened:
        FileRecord(opened.fileno(), changed(path) + SETTLED).keep(expected.sha256)
    if not known(path, expected.sha256):
        pytest.skip("files of this file system are not remembered")
    content, needed = np.frombuffer(path.read_bytes(), np.uint8), np.zeros(expected.bytes, bool)
    for _, _, offset, length in external_tensors("condition.onnx", bundle.read("condition.onnx")):
        needed[offset : offset + length] = True
    parts = np.asarray(bundle.graph("condition.onnx", Weights()).data[WEIGHTS])
    np.testing.assert_array_equal(parts, np.where(needed, content, 0))


def test_verify_believes_nothing(believed: Path, flagdit) -> None:  # type: ignore[no-untyped-def]
    """It names each file that is not what it should be, and goes on to the next."""
    code, out, _ = flagdit("inspect", believed)
    assert code == 0 and "all intact; large ones are as they were when they were read last" in out
    (believed / "place.onnx").unlink()
    os.truncate(believed / "tokenizer.json", 10)
    code, out, err = flagdit("verify", believed)
    assert code == 1 and out == "" and len(err.splitlines()) == 3
    assert f"error: {believed / WEIGHTS}: damaged" in err and "place.onnx: missing from the bundle" in err
    assert "tokenizer.json: 10 bytes instead of" in err
    code, _, err = flagdit("verify", believed / "nothing")
    assert code == 2 and "no such bundle directory" in err


def test_verify_remembers(tmp_path: Path, flagdit, cache: Path) -> None:  # type: ignore[no-untyped-def]
    told: list[tuple[int, int]] = []
    assert Bundle.verify("demo", lambda done, whole: told.append((done, whole))) == []
    whole = sum(file.bytes for file in Bundle.open("demo").manifest.files.values())
    assert told[-1] == (whole, whole) and sorted(told) == told
    code, out, _ = flagdit("verify", "demo")
    assert code == 0 and out == "every byte is what the manifest says\n"
    if time.time_ns() - changed(DEMO / WEIGHTS) > SETTLED and known(
        DEMO / WEIGHTS, Bundle.open("demo").model.weights.sha256
    ):
        assert Bundle.load("demo").known == 1
