"""A bundle as the core reads it: what it refuses, in whose words, and that Python's types have all that it takes."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import edit_json, mutate, reseal
from pydantic import ValidationError

from flagdit import cpp_ext
from flagdit.engine import BundleError
from flagdit.engine.bundle import Manifest
from flagdit.engine.bundle.reader import DEMO, MANIFEST, MAX_JSON_BYTES, Bundle, read_spec
from flagdit.engine.text import Prompts
from flagdit.engine.tokenizer import Tokenizer

PATH = "manifest.json"
SIGNS = b'"{}[],:-.e \x00'


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The demo's manifest with one layer, one engine, and a preset that begins coarse."""
    document = json.loads((DEMO / MANIFEST).read_text())
    model, later = document["model"], {f".{layer}" for layer in range(1, 8)}
    for graph in (*model["graphs"].values(), *document["engines"]):
        for border in ("inputs", "outputs"):
            if graph is not None:
                graph[border] = [port for port in graph[border] if port["name"][-2:] not in later]
    model["examples"], document["engines"] = model["examples"][:1], document["engines"][:1]
    model["presets"] = [
        {"name": "quick", "size": [64, 64], "times": [0.4, 0.7, 1.0], "weights": [[1, 0, 0], [1, 0.5, 0.1]],
         "ratios": [1.0, 0.5], "forecast_kv": [0.5, 0.5], "coarse": {"factor": 2, "times": [0.0, 0.5, 1.0]},
         "cost": 0.3, "psnr": {"held_out": 30.5}},
    ]  # fmt: skip
    return json.dumps(document, indent=1).encode()


def python_reads(content: bytes) -> bool:
    """Whether it is a manifest by Python's types, which say nothing of what its parts have to do with each other."""
    try:
        Manifest.model_validate(json.loads(content))
    except (ValidationError, ValueError):
        return False
    return True


def core_reads(content: bytes) -> bool:
    try:
        cpp_ext.check_manifest(PATH, content)
    except BundleError as error:
        assert str(error).startswith(f"{PATH}: ") and "\n" not in str(error) and str(error).isprintable()
        return False
    return True


def test_the_demo(small: bytes) -> None:
    assert core_reads(small) and core_reads((DEMO / MANIFEST).read_bytes())
    bundle = cpp_ext.Bundle.open(str(DEMO))
    assert bundle.graphs == Bundle.open("demo").graphs
    bundle.check()


def test_a_number_without_end_makes_no_message_without_end(small: bytes) -> None:
    with pytest.raises(BundleError, match="not JSON") as error:
        cpp_ext.check_manifest(PATH, small.replace(b'"schema_version": 2', b'"schema_version": 1' + b"0" * 4000, 1))
    assert len(str(error.value)) < 400


def test_a_manifest_that_is_cut_anywhere(small: bytes) -> None:
    assert not any(core_reads(small[:end]) for end in range(len(small)))


def test_a_manifest_with_a_wrong_byte_anywhere(small: bytes) -> None:
    rng, both = random.Random(0), 0
    for at in range(len(small)):
        byte = rng.choice((small[at] ^ 1 << rng.randrange(8), rng.choice(b"0123456789"), rng.choice(SIGNS)))
        content = small[:at] + bytes([byte]) + small[at + 1 :]
        if core_reads(content):
            assert python_reads(content), (at, content[max(0, at - 40) : at + 40])
            both += 1
    assert both > len(small) // 20


TO_COME: list[tuple[list[str | int], object, str]] = [
    (["latent", "frames"], 2, "latent.frames is 2; this flagdit runs 1 alone"),
    (["tokens", "multiple"], 0, ""),
    (["guidance", "renormalise"], "rows", ""),
    (["texts", 0, "negative"], "{} {}", "texts.0.negative has {} 2 times; allowed is once"),
    (["texts", 0, "truncate"], 1.5, ""),
    (["graphs", "place", "weights"], "../x", ""),
]


@pytest.mark.parametrize(("path", "value", "message"), TO_COME)
def test_what_no_run_can_do_yet_is_refused(small: bytes, path: list[str | int], value: object, message: str) -> None:
    """Of what the format can say; and what the format cannot."""
    document = json.loads(small)
    *way, last = path
    place = document["model"]
    for step in way:
        place = place[step]
    place[last] = value
    content = json.dumps(document).encode()
    with pytest.raises(BundleError) as error:
        cpp_ext.check_manifest(PATH, content)
    assert message in str(error.value)
    place[last] = {"frames": 1, "multiple": 1, "renormalise": "none", "truncate": False}.get(str(last))
    assert core_reads(json.dumps(document).encode()) and python_reads(json.dumps(document).encode())


VALUES = [
    None,
    True,
    0,
    -1,
    1,
    2,
    1.5,
    1e300,
    2**31,
    2**62,
    2**64,
    "",
    "x",
    "A",
    "R",
    "M",
    "float32",
    [],
    {},
    [1],
    "a" * 3000,
]
VALUES += [[1], "a" * 3000, "A", "R", "T", "N", "key_tail.0", "tokens", "velocity", "../x", "name"]


def test_a_manifest_with_other_values(small: bytes) -> None:
    rng, both = random.Random(1), 0
    for _ in range(1500):
        content = json.dumps(mutate(json.loads(small), rng, VALUES)).encode()
        if core_reads(content):
            assert python_reads(content), content[:3000]
            both += 1
    assert both > 50


Change = Callable[[dict[str, Any]], object]
CHANGES: dict[str, tuple[Change, str]] = {
    "another version": (lambda m: m.update(schema_version=3), "schema version 3; this flagdit reads 2: make it again"),
    "no version": (lambda m: m.pop("schema_version"), "schema version None; this flagdit reads 2"),
    "a file without a digest": (lambda m: m["files"].pop("place.onnx"), "uses place.onnx without a digest"),
    "another size": (lambda m: m["files"]["place.onnx"].update(bytes=1), " bytes instead of 1; copy it again"),
    "two digests": (lambda m: m["model"]["weights"].update(sha256="0" * 64), "two digests of weights.safetensors"),
    "heads that are not shared": (lambda m: m["model"]["sizes"].update(kv_heads=3), "which 3 kv heads do not share"),
    "a size that does not tile": (lambda m: m["model"]["latent"].update(size=[66, 64]), "latent.size: "),
    "an engine of another model": (
        lambda m: m["engines"][0].update(inputs=m["engines"][0]["inputs"][:-1]),
        "engines.0.outputs: 'value_head.7' is none of them",
    ),
    "an input that nothing makes": (
        lambda m: m["model"]["graphs"]["denoise"]["inputs"][1].update(name="speci\x1bl"),
        "graphs.denoise.inputs: 'speci\\x1bl' is none of them",
    ),
    "frames": (lambda m: m["model"]["latent"].update(frames=2), "latent.frames is 2; this flagdit runs 1 alone"),
    "a template": (lambda m: m["model"]["texts"][0].update(template="a {} {}"), "texts.0.template has {} 2 times"),
    "a template of the negative": (lambda m: m["model"]["texts"][0].update(negative="a"), "negative has {} 0 times"),
    "a second encoder of the same": (lambda m: m["model"]["texts"].append(m["model"]["texts"][0]), "texts.0.graph"),
    "pads of nothing": (lambda m: m["model"].update(pads={"nothing": 0.5}), "pads: 'nothing' is no output"),
    "a size that is not of a preset": (
        lambda m: m["model"].update(
            presets=[{"name": "a", "size": [65, 64], "times": [0, 1], "weights": [], "ratios": [1], "cost": 1}]
        ),
        "presets, a: ",
    ),
}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "bundle"))


@pytest.mark.parametrize("case", CHANGES)
def test_a_manifest_that_contradicts_itself(copied: Path, case: str) -> None:
    change, message = CHANGES[case]
    edit_json(copied / MANIFEST, change)
    with pytest.raises(BundleError) as error:
        Bundle.open(copied)
    assert message in str(error.value) and str(error.value).isprintable()


def test_directories_that_are_no_bundles(copied: Path) -> None:
    (copied / MANIFEST).rename(copied / "model.json")
    with pytest.raises(
        BundleError, match=f"{copied}: a model directory, not a bundle yet; next: flagdit build {copied}"
    ):
        Bundle.open(copied)
    with pytest.raises(BundleError, match="nothing: no such bundle directory; make one with: flagdit build MODEL"):
        Bundle.open(copied / "nothing")
    with pytest.raises(BundleError, match=r"model\.json: is a file and no bundle; give the bundle's folder"):
        Bundle.open(copied / "model.json")
    with pytest.raises(BundleError, match=f"{copied.parent / MANIFEST}: cannot be read"):
        Bundle.open(copied.parent)


@pytest.mark.parametrize("name", ["weights.safetensors", "denoise.onnx", "tokenizer.json", "text_encoder.onnx"])
def test_damaged_files(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{copied / name}: damaged, its SHA-256 is not the manifest's"):
        Bundle.load(copied)


def test_weights_elsewhere(copied: Path) -> None:
    """A graph that names a file which the manifest does not: its digest is right, and it is refused all the same."""
    graph = (copied / "denoise.onnx").read_bytes()
    (copied / "denoise.onnx").write_bytes(graph.replace(b"weights.safetensors", b"../weigh.safetensors"[:19]))
    reseal(copied)
    with pytest.raises(BundleError, match=r"denoise\.onnx: the values of .* which is no file of the bundle"):
        Bundle.load(copied)


def test_a_graph_with_a_wrong_byte(copied: Path) -> None:
    """It is refused in our words, or has its weights where the onnx package finds them."""
    graph, rng, refused = (copied / "place.onnx").read_bytes(), random.Random(2), 0
    for _ in range(25):
        content = bytearray(graph)
        content[rng.randrange(len(content))] = rng.randrange(256)
        (copied / "place.onnx").write_bytes(content)
        reseal(copied)
        try:
            Bundle.load(copied)
        except BundleError as error:
            assert str(error).startswith("place.onnx: ")
            refused += 1
        else:
            assert cpp_ext.external_tensors("place.onnx", bytes(content)) == []
    assert refused


@pytest.mark.parametrize("prompt", ["", " \n\u3000", "x" * 2000, "red " * 100, "a red apple", "e\u0301 ﷺ"])
def test_prompts(prompt: str) -> None:
    tokenizer = Tokenizer.read("tokenizer.json", (DEMO / "tokenizer.json").read_bytes())
    bundle, expected = cpp_ext.Bundle.open(str(DEMO)), None
    try:
        Prompts(tokenizer, Bundle.open("demo").model.texts[0].max_tokens).check(prompt)
    except ValueError as error:
        expected = str(error)
    if expected is None:
        assert bundle.tokens(prompt.encode()) == tokenizer.encode(prompt)
    else:
        with pytest.raises(ValueError) as error_of_core:
            bundle.tokens(prompt.encode())
        assert str(error_of_core.value) == expected


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 127, 128, 1000, 100_000])
def test_sha256(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert cpp_ext.sha256(data) == hashlib.sha256(data).hexdigest()


def test_a_manifest_that_is_too_large(copied: Path) -> None:
    (copied / MANIFEST).write_bytes(b" " * (MAX_JSON_BYTES + 1))
    for read in (Bundle.open, lambda path: read_spec(path / MANIFEST, Manifest)):
        with pytest.raises(BundleError, match=f"larger than {MAX_JSON_BYTES} bytes"):
            read(copied)
