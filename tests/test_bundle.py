"""Bundles: written whole or not at all, checked to the last byte before use."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.engine import Bundle, BundleError, OutputError
from flagdit.engine.bundle import Manifest
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.bundle.reader import read_spec
from flagdit.engine.commands.inspect import longest_prompt

Change = Callable[[Path], object]


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def edit(change: Callable[[dict[str, Any]], object]) -> Change:
    """A change of the manifest."""

    def apply(bundle: Path) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        change(manifest)
        (bundle / "manifest.json").write_text(json.dumps(manifest))

    return apply


def flip(name: str) -> Change:
    """Change one bit of a file."""

    def apply(bundle: Path) -> None:
        data = bytearray((bundle / name).read_bytes())
        data[len(data) // 2] ^= 1
        (bundle / name).write_bytes(data)

    return apply


DAMAGE: dict[str, tuple[Change, str]] = {
    "no directory": (shutil.rmtree, "no such bundle directory; make one with: flagdit build"),
    "a file": (lambda b: (shutil.rmtree(b), b.write_text("")), "is a file and no bundle; give the bundle's folder"),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "cannot be read"),
    "half a manifest": (lambda b: (b / "manifest.json").write_text('{"schema_'), "not JSON"),
    "a list": (lambda b: (b / "manifest.json").write_text("[]"), "schema version None; this flagdit reads 2"),
    "older schema": (
        edit(lambda m: m.update(schema_version=1)),
        "schema version 1; this flagdit reads 2: make it again with flagdit export CHECKPOINT -o MODEL, then flagdit "
        "build MODEL -o BUNDLE, or install the flagdit that wrote it",
    ),
    "newer schema": (edit(lambda m: m.update(schema_version=3)), "schema version 3; this flagdit reads 2"),
    "unknown key": (edit(lambda m: m.update(run="me.sh")), "run: is not known; rebuild it"),
    "bad value": (edit(lambda m: m["model"]["sizes"].update(width=0)), "model.sizes.width: is 0; allowed are 1 to"),
    "missing file": (lambda b: (b / "denoise.onnx").unlink(), "denoise.onnx: missing from the bundle"),
    "cut file": (lambda b: (b / "weights.safetensors").write_bytes(b"short"), "5 bytes instead of"),
    "flipped bit": (flip("weights.safetensors"), "damaged, its SHA-256 is not the manifest's"),
    "flipped bit in a graph": (flip("condition.onnx"), "damaged"),
    "way out": (edit(lambda m: m["files"].update({"../x": {"sha256": "0" * 64, "bytes": 1}})), "not a plain file name"),
    "absolute": (edit(lambda m: m["model"]["weights"].update(file="/etc/passwd")), "not a plain file name"),
    "no digest": (edit(lambda m: m["files"].pop("denoise.onnx")), "uses denoise.onnx without a digest"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_found_before_use(copy: Path, case: str) -> None:
    damage, message = DAMAGE[case]
    damage(copy)
    with pytest.raises(BundleError) as error:
        Bundle.load(copy)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def leaves(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a JSON document that holds no more."""
    if not isinstance(value, dict | list):
        return [at]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [path for key, child in items for path in leaves(child, (*at, key))]


JSON = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.integers(), max_size=2)
)


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_any_manifest_is_read_or_refused(bundle_dir: Path, data: st.DataObject) -> None:
    """Whatever a leaf is changed to, reading ends in a manifest or in one line that says why not."""
    content = json.loads((bundle_dir / "manifest.json").read_text())
    *path, last = data.draw(st.sampled_from(leaves(content)))
    place = content
    for key in path:
        place = place[key]
    place[last] = data.draw(JSON)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "manifest.json"
        file.write_text(json.dumps(content))
        try:
            assert isinstance(read_spec(file, Manifest), Manifest)
        except BundleError as error:
            assert "\n" not in str(error)


def test_an_axis_does_not_break_the_line(bundle_dir: Path, tmp_path: Path) -> None:
    content = json.loads((bundle_dir / "manifest.json").read_text())
    content["model"]["graphs"]["condition"]["inputs"][0]["shape"][0] = "S\n"
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"is float32 \(S\\n.*; allowed is float32 \(S") as caught:
        read_spec(tmp_path / "manifest.json", Manifest)
    assert "\n" not in str(caught.value)


def test_a_model_of_version_1_is_exported_again(model_dir: Path, tmp_path: Path) -> None:
    content = json.loads((model_dir / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**content, "schema_version": 1}))
    with pytest.raises(
        BundleError, match=r"reads 2: make it again with flagdit export CHECKPOINT -o MODEL, or install"
    ):
        build_bundle(tmp_path, tmp_path / "bundle")


def test_a_model_directory_is_not_a_bundle(model_dir: Path) -> None:
    with pytest.raises(BundleError, match="a model directory, not a bundle yet; next: flagdit build"):
        Bundle.load(model_dir)


def test_every_file_has_a_digest(bundle_dir: Path) -> None:
    files = {path.name for path in bundle_dir.iterdir()} - {"manifest.json"}
    assert files == set(Bundle.load(bundle_dir).manifest.files)


def test_building_twice_gives_the_same_bytes(model_dir: Path, bundle_dir: Path, tmp_path: Path) -> None:
    build_bundle(model_dir, tmp_path / "again")
    for path in bundle_dir.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_a_bundle_can_be_built_from_a_bundle(bundle_dir: Path, tmp_path: Path) -> None:
    build_bundle(bundle_dir, tmp_path / "again")
    assert Bundle.load(tmp_path / "again").manifest == Bundle.load(bundle_dir).manifest


def test_a_failed_build_leaves_nothing(model_dir: Path, tmp_path: Path) -> None:
    def fail(*_: object) -> list[Any]:
        raise RuntimeError("no engine today")

    with pytest.raises(RuntimeError, match="no engine today"):
        build_bundle(model_dir, tmp_path / "out", fail)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(OutputError, match="exists already"):
        build_bundle(model_dir, tmp_path)
    assert (tmp_path / "mine").read_text() == "kept"


@pytest.mark.parametrize("name", ["weights.safetensors", "tokenizer.json"])
def test_an_incomplete_model_is_refused(model_dir: Path, tmp_path: Path, name: str) -> None:
    broken = Path(shutil.copytree(model_dir, tmp_path / "model"))
    (broken / name).unlink()
    with pytest.raises(BundleError, match=f"{name} missing; export the model again"):
        build_bundle(broken, tmp_path / "out")


def test_exchanged_weights_are_refused(model_dir: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(model_dir, tmp_path / "model"))
    flip("weights.safetensors")(broken)
    with pytest.raises(BundleError, match="is not what was exported"):
        build_bundle(broken, tmp_path / "out")


def test_the_longest_prompt_is_what_no_encoder_refuses(bundle_dir: Path) -> None:
    """As of Stable Diffusion 3: two encoders that cut, and one that does not."""
    (one,) = Bundle.open(bundle_dir).model.texts
    cuts = one.model_copy(update={"max_tokens": 77, "truncate": True})
    whole = one.model_copy(update={"max_tokens": 256})
    for texts, said in (
        ((cuts, cuts, whole), "up to 256 tokens"),
        ((cuts, cuts), "up to 77 tokens"),
        ((whole,), "up to 256 tokens"),
        ((), "no text encoder"),
    ):
        assert longest_prompt(texts) == said
