"""What commands refuse is refused by the manifest and the tokenizer: nothing is loaded, painted or built."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from flagdit.engine import BackendError, BuildError, Bundle, BundleError, RequestError
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.bundle.reader import read_spec
from flagdit.engine.bundle.trial import try_text
from flagdit.engine.bundle.weights import check_weights
from flagdit.engine.preflight import Preflight
from flagdit.engine.presets import Preset
from flagdit.engine.ras import DENSE
from flagdit.engine.request import Request

LONG = "a " * 50


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No graph may be loaded, and no file of weights read."""
    monkeypatch.setattr("flagdit.engine.session.onnxruntime", lambda: pytest.fail("a graph was loaded"))
    monkeypatch.setattr("flagdit.engine.bundle.reader.Bundle.graph", lambda *_: pytest.fail("a graph was read"))


REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "size": (("--size", "33x32"), "size 33x32 is not made of 4x4 patches; the nearest is 32x32"),
    "no size": (("--size", "0x0"), "the nearest is 4x4"),
    "guidance": (("--guidance", "nan"), "guidance is nan; allowed are 0 to 100"),
    "threads": (("--threads", 100_000), "threads is 100000; allowed are 1 to 1024"),
    "precision": (("--precision", "int8"), "has no int8 engine; make one with"),
    "no such precision": (("--precision", "int4"), "precision 'int4' is not one of"),
    "prompts": (("--prompts", "late.txt"), "tokens; allowed are 12, please shorten it"),
}
OF_GENERATE: dict[str, tuple[tuple[object, ...], str]] = {
    "shift": (("--shift", 0), "shift is 0.0; allowed are 0.1 to 100"),
    "steps": (("--steps", 1001), "steps is 1001; allowed are 1 to 1000"),
    "times": (("--times", "0,nan,1"), "allowed strictly increasing times"),
    "ratio": (("--ratio", 0), "ratio"),
    "preset": (("--preset", "none"), "preset is 'none'; allowed are"),
    "seed": (("--seed", -1), "seed -1 is out of bounds"),
    "ntk": (("--ntk", 0.5), "ntk is 0.5"),
    "coarse": (("--coarse", "3"), "size 32x32 over 3 is not made of 4x4 patches"),
    "a prompt behind others": (("a book", LONG), "tokens; allowed are 12"),
}
OF_BENCH: dict[str, tuple[tuple[object, ...], str]] = {
    "shift": (("--shift", 0), "shift is 0.0; allowed are 0.1 to 100"),
    "times": (("--times", "0,.5"), "the times run from 0 to 0.5"),
    "memory": (("--size", "1440x1440", "--batch", 1000, "--prompts", "many.txt"), "GB of memory are needed"),
}
OF_CALIBRATE: dict[str, tuple[tuple[object, ...], str]] = {
    "budget": (("--budget", "nan"), "budget is nan; allowed are .03"),
    "budgets": (("--budget", ".2000001,.2000002"), "too near each other to have names of their own"),
    "few prompts": (("--prompts", "few.txt"), "there are 3 prompts; give at least 4"),
    "no prompts": ((), "the bundle has no examples"),
}


def refused(command: str) -> list[tuple[str, str]]:
    own = {"generate": OF_GENERATE, "bench": OF_BENCH, "calibrate": OF_CALIBRATE}[command]
    return [(command, case) for case in {**REFUSED, **own}]


@pytest.mark.parametrize(("command", "case"), [c for name in ("generate", "bench", "calibrate") for c in refused(name)])
@pytest.mark.usefixtures("unloaded")
def test_all_is_checked_before_anything_is_loaded(
    flagdit,  # type: ignore[no-untyped-def]
    bundle_dir: Path,
    tmp_path: Path,
    command: str,
    case: str,
) -> None:
    (tmp_path / "late.txt").write_text("a book\n" * 40 + LONG)
    (tmp_path / "many.txt").write_text("a book\n" * 1000)
    (tmp_path / "few.txt").write_text("a book\n" * 3)
    before = sorted(tmp_path.rglob("*"))
    own = {"generate": OF_GENERATE, "bench": OF_BENCH, "calibrate": OF_CALIBRATE}[command]
    options, message = {**REFUSED, **own}[case]
    given: tuple[object, ...] = (bundle_dir,)
    if command == "generate":
        given = ("--bundle", bundle_dir, *(() if "--prompts" in options or options[0] == "a book" else ("a book",)))
    if command == "calibrate" and "--prompts" not in options and case != "no prompts":
        (tmp_path / "good.txt").write_text("a book\n" * 4)
        before = sorted(tmp_path.rglob("*"))
        options += ("--prompts", "good.txt")
    code, out, err = flagdit(command, *given, *options)
    assert code == 2 and message in err, err
    assert out == "" and (err.count("\n") == 1 or "Usage: " in err)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("unloaded")
def test_a_plan_needs_no_more_than_the_manifest(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = flagdit("plan", "--bundle", bundle_dir, "--size", "64x32")
    assert code == 0 and "over 136 tokens" in out
    code, _, err = flagdit("plan", "--bundle", bundle_dir, "--size", "0x0")
    assert code == 2 and "the nearest is 4x4" in err
    code, _, err = flagdit("plan", "--bundle", tmp_path / "none", "--size", "big")
    assert code == 2 and "size 'big' is not WIDTHxHEIGHT" in err  # what the line itself says comes first


def test_memory_is_counted_before_anything_is_loaded(bundle_dir: Path) -> None:
    ready = Preflight(Bundle.open(bundle_dir))
    assert ready.computes == "float32"
    how = Preset(4, "ab2", DENSE)
    ready.check(Request.of(how, ["a book"], [0]))
    many = Request.of(how, ["a book"] * 1000, [0] * 1000, size=(1024, 1024))
    with pytest.raises(RequestError, match=r"1000 pictures of 1024x1024 with float32: about .* GB of memory"):
        ready.check(many)
    with pytest.raises(BackendError, match="threads is 0; allowed are 1 to 1024"):
        Preflight(Bundle.open(bundle_dir), threads=0)


def edited(directory: Path, change: Callable[[dict], object]) -> Path:  # type: ignore[type-arg]
    content = json.loads((directory / "model.json").read_text())
    change(content)
    (directory / "model.json").write_text(json.dumps(content))
    return directory


def widen(spec: dict) -> None:  # type: ignore[type-arg]
    """Another width of the text encoder's features."""
    spec["texts"][0]["graph"]["outputs"][0]["shape"][2] = 24


@pytest.fixture
def model(model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_dir, tmp_path / "model"))


def test_an_encoder_of_another_width_is_no_part_of_a_model(
    flagdit, model: Path, bundle_dir: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    """By what the specification says: of a model directory when it is built, of a bundle when it is inspected."""
    edited(model, widen)
    code, _, err = flagdit("build", "model", "-o", "bundle")
    assert code == 2 and "texts.0.graph.outputs: text is float32 (R, T, 24); allowed is float32 (R, T, 16)" in err
    broken = Path(shutil.copytree(bundle_dir, tmp_path / "broken"))
    manifest = json.loads((broken / "manifest.json").read_text())
    widen(manifest["model"])
    (broken / "manifest.json").write_text(json.dumps(manifest))
    for command in (("inspect", "broken"), ("generate", "a", "--bundle", "broken")):
        code, _, err = flagdit(*command)
        assert code == 2 and "texts.0.graph.outputs: text is float32 (R, T, 24); allowed is float32 (R, T, 16)" in err


def test_the_longest_prompt_is_tried_when_a_bundle_is_built(flagdit, model: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The encoder has 512 positions, and nothing in the model directory says so."""
    edited(model, lambda spec: spec["texts"][0].update(max_tokens=600))
    code, _, err = flagdit("build", "model", "-o", "bundle")
    assert code == 2 and "the text encoder does not take 600 tokens" in err and "--max-text-tokens" in err
    assert not (tmp_path / "bundle").exists()
    edited(model, lambda spec: spec["texts"][0].update(max_tokens=512))
    try_text(model, read_spec(model / "model.json", ModelSpec))


WEIGHT = "layers.1.attention.wq.weight"


@pytest.mark.parametrize(("value", "dtype"), [(np.inf, "float32"), (np.nan, "float32"), (-np.inf, "float16")])
def test_weights_that_are_no_numbers_are_not_built(model: Path, value: float, dtype: str) -> None:
    path = model / "weights.safetensors"
    weights = load_file(path)
    weights[WEIGHT] = weights[WEIGHT].astype(dtype)
    weights[WEIGHT][-1, -1] = value
    save_file(weights, path)
    with pytest.raises(BuildError, match=rf"{WEIGHT} holds NaNs or infinities; export the model again with --dtype"):
        check_weights(path)


def test_bfloat16_is_looked_into(tmp_path: Path) -> None:
    """NumPy has no such type: the bits of 3, of -infinity, and of the largest number."""
    for bits, good in ((0x4040, True), (0xFF80, False), (0x7F7F, True), (0x7FC0, False)):
        path = write_safetensors(tmp_path / "w.safetensors", {"w": ("BF16", struct.pack("<3H", 0, bits, 0))})
        if good:
            check_weights(path)
        else:
            with pytest.raises(BuildError, match="w holds NaNs or infinities"):
                check_weights(path)


def write_safetensors(path: Path, tensors: dict[str, tuple[str, bytes]]) -> Path:
    """Without a library that would refuse what is wrong."""
    header, data = {}, b""
    for name, (dtype, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [], "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_float16_ends_where_its_numbers_do(tmp_path: Path) -> None:
    """An engine of float16 casts fp32 weights when it is built; int8 ones are up to 127 scales."""
    fine = {
        "w": ("F32", struct.pack("<2f", -65504, 1)),
        "m": ("I8", b"\x7f"),
        "m.scale": ("F32", struct.pack("<f", 500)),
    }
    check_weights(write_safetensors(tmp_path / "a", fine), "float16")
    for name, value, shown in (("w", -65505.0, "65505"), ("m.scale", 600.0, "76200")):
        path = write_safetensors(tmp_path / "b", {**fine, name: ("F32", struct.pack("<f", value))})
        check_weights(path, "bfloat16")
        check_weights(path, "float32")
        with pytest.raises(BuildError, match=f"{name} has values up to {shown}, and float16 ends at 65504; build with"):
            check_weights(path, "float16")


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 40, struct.pack("<Q", 5) + b"null ", struct.pack("<Q", 2) + b"[]", b"\x02" + b"\0" * 7]
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(BundleError):
        check_weights(tmp_path / "w")
    outside = write_safetensors(tmp_path / "o", {"w": ("F32", b"\0" * 4)})
    outside.write_bytes(outside.read_bytes()[:-1])
    with pytest.raises(BundleError, match="w lies outside of it"):
        check_weights(outside)


UNUSED = {
    "sizes": (("--max-size", "64x64"), "--max-size 64x64 has no part in a bundle for onnxruntime, which runs any"),
    "batches": (
        ("--max-batch", 2),
        "--max-batch 2 has no part in a bundle for onnxruntime, which runs any size and batch; leave",
    ),
    "architectures": (("--sm", "89"), "--sm 89 has no part in a bundle for onnxruntime"),
    "of a device": (
        ("--target", "tensorrt", "--sm", "89"),
        "--sm 89 has no part in a bundle for tensorrt; --max-size,",
    ),
    "int8": (("--precision", "int8"), "the weights of tiny are stored as float32; for int8 export them so"),
    "untiled": (("--target", "tensorrt-rtx", "--max-size", "33x32"), "size 33x32 is not made of 4x4 patches"),
    "no device": (("--target", "tensorrt"), "CUDA"),
}


@pytest.mark.parametrize("case", UNUSED)
def test_builds_are_refused_before_anything_is_copied(
    flagdit,  # type: ignore[no-untyped-def]
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    monkeypatch.setattr("flagdit.engine.bundle.builder.copy_model", lambda *_: pytest.fail("the model was copied"))
    monkeypatch.setattr("flagdit.engine.compiler.engines.require", lambda _: None)
    options, message = UNUSED[case]
    code, _, err = flagdit("build", model_dir, "-o", "bundle", *options)
    assert code == 2 and message in err, err
    assert list(tmp_path.iterdir()) == []
