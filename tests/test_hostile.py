"""Bundles with right digests and wrong content: every one runs, or is refused by one line that says what is wrong."""

from __future__ import annotations

import json
import random
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hostile import MANIFEST, attempt, edit_graph, mutate, mutate_graph, reseal

GRAPHS = ("denoise.onnx", "condition.onnx", "text_encoder.onnx")

VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1,
        2,
        3,
        63,
        65536,
        2**31,
        2**63,
        1e308,
        -0.5,
        0.5,
        1e-9,
        "",
        "A",
        "x" * 3000,
        [],
        {},
        [1, "R"],
    ),
    *("\x1b]0;pwned\x07", "a\nb", "../x", "/etc/passwd", "[bold]", "\u202egpj", "\ud800", "denoise.onnx", "float16"),
)
MUTATIONS = 120


@pytest.fixture(scope="module")
def copy(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path_factory.mktemp("hostile") / "bundle"))


def test_any_manifest(copy: Path) -> None:
    """Changed at one place or more: by the seed, the same ones in every run."""
    original, results = (copy / MANIFEST).read_text(), []
    for seed in range(MUTATIONS):
        content = mutate(json.loads(original), random.Random(seed), VALUES)
        (copy / MANIFEST).write_text(json.dumps(content))
        results.append(attempt(copy))
    (copy / MANIFEST).write_text(original)
    kinds = {result.partition(":")[0] for result in results}
    assert {"painted", "refused"} <= kinds and attempt(copy) == "painted"


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def noise(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, near the beginning, where structure is, or anywhere."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 3, 30))):
        changed[rng.randrange(rng.choice((200, len(changed))))] = rng.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("name", [*GRAPHS, "tokenizer.json", "weights.safetensors"])
def test_any_file(copy: Path, name: str) -> None:
    original = (copy / name).read_bytes()
    for seed in range(8):
        rng = random.Random(seed)
        (copy / name).write_bytes((noise if seed % 4 else cut)(original, rng))
        reseal(copy)
        attempt(copy)
    (copy / name).write_bytes(original)
    reseal(copy)
    assert attempt(copy) == "painted"


@pytest.mark.parametrize("name", GRAPHS)
def test_any_graph(copy: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    """And ONNX Runtime logs none of its names, which the terminal would obey."""
    original = (copy / name).read_bytes()
    for seed in range(12):
        edit_graph(copy / name, partial(mutate_graph, rng=random.Random(seed)))
        reseal(copy)
        attempt(copy)
        (copy / name).write_bytes(original)
    reseal(copy)
    assert attempt(copy) == "painted" and capfd.readouterr() == ("", "")
