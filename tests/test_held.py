"""Files of bundles and models: which are read, and that what was verified is what is used."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flagdit.engine import Bundle, BundleError, Pipeline
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.bundle.reader import DEMO, MANIFEST, MODEL
from flagdit.engine.cpu import PRECISIONS, available

PROMPT = "a red apple"


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def paint(pipeline: Pipeline) -> bytes:
    return pipeline(PROMPT, steps=2, size=(32, 32)).latents.tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_loaded_bundle_is_not_its_files_any_more(tmp_path: Path, precision) -> None:  # type: ignore[no-untyped-def]
    """Weights were mapped: a shorter file ended the process, another one changed the picture."""
    copy = Path(shutil.copytree(DEMO, tmp_path / "demo"))
    if precision not in available(Bundle.open(copy).manifest):
        pytest.skip(f"this CPU is not made for {precision}")
    pipeline = Pipeline.load(copy, threads=1, precision=precision)
    before = paint(pipeline)
    for path in copy.iterdir():
        with path.open("r+b") as file:
            file.write(b"\xff" * (path.stat().st_size // 2))
    assert paint(pipeline) == before
    for path in copy.iterdir():
        os.truncate(path, 16)
    assert paint(pipeline) == before


def test_another_precision_is_of_the_same_bundle(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(DEMO, tmp_path / "demo"))
    pipeline = Pipeline.load(copy, threads=1, precision="float32")
    other = next((precision for precision in pipeline.precisions if precision != "float32"), None)
    if other is None:
        pytest.skip("this CPU is made for float32 alone")
    assert pipeline.at(other).stages.text is pipeline.stages.text and pipeline.precision == "float32"
    with (copy / "weights.safetensors").open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(bytes(1000))
    with pytest.raises(BundleError, match=r"weights\.safetensors: damaged, its SHA-256 is not the manifest's"):
        pipeline.at(other)
    shutil.rmtree(copy)
    with pytest.raises(BundleError, match="cannot be read"):
        pipeline.at(other)


@pytest.mark.parametrize("name", ["tokenizer.json", "weights.safetensors", "denoise.onnx"])
def test_build_copies_no_links(model_dir: Path, tmp_path: Path, name: str) -> None:
    """A link in a model that somebody sent would put a file of one's own into the bundle that one publishes."""
    model = Path(shutil.copytree(model_dir, tmp_path / "model"))
    (model / name).rename(tmp_path / "mine")
    (model / name).symlink_to(tmp_path / "mine")
    with pytest.raises(BundleError, match=f"{name}: is a link, whose target is not copied; put the file itself there"):
        build_bundle(model, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "mine"}


def test_links_in_a_bundle_are_followed_to_what_its_digests_say(copy: Path, tmp_path: Path) -> None:
    """As some stores keep files: content is checked, so it does not matter where it lies."""
    for path in list(copy.iterdir()):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    paint(Pipeline.load(copy, threads=1))
    build_bundle(copy, tmp_path / "out")
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", [MANIFEST, MODEL, "tokenizer.json", "denoise.onnx", "weights.safetensors"])
@pytest.mark.parametrize("change", [pipe, endless, folder])
def test_only_regular_files_are_read(
    bundle_dir: Path, model_dir: Path, tmp_path: Path, change: Callable[[Path], None], name: str
) -> None:
    """A pipe would wait for ever, a device never end."""
    source, load = (model_dir, lambda path: build_bundle(path, tmp_path / "out"))
    if name != MODEL:
        source, load = bundle_dir, Bundle.load  # type: ignore[assignment]
    directory = Path(shutil.copytree(source, tmp_path / "copy"))
    change(directory / name)
    with pytest.raises(BundleError):
        load(directory)


@pytest.mark.parametrize("content", [b" " * (17 << 20), b"[" * 100_000, b'{"schema_version": 1' + b"0" * 5000 + b"}"])
def test_a_manifest_is_bounded_before_it_is_read(copy: Path, content: bytes) -> None:
    (copy / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json: (larger than|nested too deeply|not JSON)"):
        Bundle.load(copy)


def test_two_digests_of_the_weights_are_refused(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["model"]["weights"]["sha256"] = "0" * 64
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"two digests of weights\.safetensors"):
        Bundle.open(copy)
