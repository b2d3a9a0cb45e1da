"""A bundle as the core reads it, without Python: the same verdict on every file, in our own words."""

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
from flagdit.engine.bundle.contract import check_spec
from flagdit.engine.bundle.json_file import parse_json
from flagdit.engine.bundle.reader import DEMO, MANIFEST, MAX_JSON_BYTES, Bundle, read_spec
from flagdit.engine.cpu import available
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
    """Whether Python takes it for a manifest."""
    try:
        document = parse_json(content, Path(PATH))
        spec = Manifest.model_validate(document)
        if document["schema_version"] != 2:
            return False
        check_spec(Path(PATH), spec.model)
    except (BundleError, ValidationError, TypeError, KeyError):
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
    assert bundle.available == list(available(Bundle.open("demo").manifest))
    bundle.check()


def test_a_manifest_that_is_cut_anywhere(small: bytes) -> None:
    assert not any(core_reads(small[:end]) for end in range(len(small)))


def test_a_manifest_with_a_wrong_byte_anywhere(small: bytes) -> None:
    rng, both = random.Random(0), 0
    for at in range(len(small)):
        byte = rng.choice((small[at] ^ 1 << rng.randrange(8), rng.choice(b"0123456789"), rng.choice(SIGNS)))
        content = small[:at] + bytes([byte]) + small[at + 1 :]
        reads = core_reads(content)
        assert reads == python_reads(content), (at, content[max(0, at - 40) : at + 40])
        both += reads
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
def test_what_no_run_can_do_yet_is_refused_by_both(
    small: bytes, path: list[str | int], value: object, message: str
) -> None:
    """Of what the format can say; and what the format cannot."""
    document = json.loads(small)
    *way, last = path
    place = document["model"]
    for step in way:
        place = place[step]
    place[last] = value
    content = json.dumps(document).encode()
    assert not core_reads(content) and not python_reads(content)
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
        reads = core_reads(content)
        # Of Python, true is 1: it takes what is not ours to write.
        assert reads == python_reads(content) or (not reads and b"true" in content), content[:3000]
        both += reads
    assert both > 50


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another version": lambda m: m.update(schema_version=3),
    "no version": lambda m: m.pop("schema_version"),
    "a file without a digest": lambda m: m["files"].pop("place.onnx"),
    "another size": lambda m: m["files"]["place.onnx"].update(bytes=1),
    "two digests": lambda m: m["model"]["weights"].update(sha256="0" * 64),
    "heads that are not shared": lambda m: m["model"]["sizes"].update(kv_heads=3),
    "a size that does not tile": lambda m: m["model"]["latent"].update(size=[66, 64]),
    "an engine of another model": lambda m: m["engines"][0].update(inputs=m["engines"][0]["inputs"][:-1]),
    "an input that nothing makes": lambda m: m["model"]["graphs"]["denoise"]["inputs"][1].update(name="speci\x1bl"),
    "frames": lambda m: m["model"]["latent"].update(frames=2),
    "a template": lambda m: m["model"]["texts"][0].update(template="a {} {}"),
    "a template of the negative": lambda m: m["model"]["texts"][0].update(negative="a"),
    "a second encoder of the same": lambda m: m["model"]["texts"].append(m["model"]["texts"][0]),
    "pads of nothing": lambda m: m["model"].update(pads={"nothing": 0.5}),
    "a size that is not of a preset": lambda m: m["model"].update(
        presets=[{"name": "a", "size": [65, 64], "times": [0, 1], "weights": [], "ratios": [1], "cost": 1}]
    ),
}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "bundle"))


@pytest.mark.parametrize("case", CHANGES)
def test_errors_are_the_same(copied: Path, case: str) -> None:
    edit_json(copied / MANIFEST, CHANGES[case])
    with pytest.raises(BundleError) as expected:
        Bundle.open(copied)
    with pytest.raises(BundleError) as error:
        cpp_ext.Bundle.open(str(copied))
    assert str(error.value) == str(expected.value)


def test_directories_that_are_no_bundles(copied: Path) -> None:
    (copied / MANIFEST).rename(copied / "model.json")
    for path in (copied, copied / "nothing", copied.parent, copied / "model.json"):
        with pytest.raises(BundleError) as expected:
            Bundle.open(path)
        with pytest.raises(BundleError) as error:
            cpp_ext.Bundle.open(str(path))
        assert str(error.value) == str(expected.value)


@pytest.mark.parametrize("name", ["weights.safetensors", "denoise.onnx", "tokenizer.json", "text_encoder.onnx"])
def test_damaged_files(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(BundleError) as expected:
        Bundle.load(copied)
    with pytest.raises(BundleError) as error:
        cpp_ext.Bundle.open(str(copied)).check()
    assert str(error.value) == str(expected.value)


def test_weights_elsewhere(copied: Path) -> None:
    """A graph that names a file which the manifest does not: its digest is right, and it is refused all the same."""
    graph = (copied / "denoise.onnx").read_bytes()
    (copied / "denoise.onnx").write_bytes(graph.replace(b"weights.safetensors", b"../weigh.safetensors"[:19]))
    reseal(copied)
    with pytest.raises(BundleError) as expected:
        Bundle.load(copied)
    with pytest.raises(BundleError) as error:
        cpp_ext.Bundle.open(str(copied)).check()
    assert str(error.value) == str(expected.value)


def test_a_graph_with_a_wrong_byte(copied: Path) -> None:
    """The core finds the same files behind it as Python, or refuses it as Python does."""
    graph, rng, refused = (copied / "place.onnx").read_bytes(), random.Random(2), 0
    for _ in range(25):
        content = bytearray(graph)
        content[rng.randrange(len(content))] = rng.randrange(256)
        (copied / "place.onnx").write_bytes(content)
        reseal(copied)
        texts = []
        for read in (Bundle.load, lambda path: cpp_ext.Bundle.open(str(path)).check()):
            try:
                read(copied)
                texts.append("")
            except BundleError as error:
                texts.append(str(error))
        assert texts[0] == texts[1]
        refused += texts[0] != ""
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
    with pytest.raises(BundleError) as expected:
        read_spec(copied / MANIFEST, Manifest)
    with pytest.raises(BundleError) as error:
        cpp_ext.Bundle.open(str(copied))
    assert str(error.value) == str(expected.value)
