"""Bundles with right digests and wrong content: every one runs, or is refused by one line that says what is wrong."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
from hostile import MANIFEST, edit_graph, edit_json, mutate, mutate_graph, reseal

from flagdit.engine import BackendError, Bundle, BundleError, Pipeline, RequestError

GRAPHS = ("denoise.onnx", "condition.onnx", "text_encoder.onnx")

Change = Callable[[Path], object]

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


def attempt(bundle: Path) -> str:
    """Load a bundle and paint a little; returns what came of it. Anything but an error of ours is a failure."""
    try:
        Bundle.load(bundle)
        pipeline = Pipeline.load(bundle, threads=1)
    except BundleError as error:
        return refusal(error)
    except BackendError as error:
        assert "the bundle has no text encoder" in str(error)
        return "no text"
    try:
        pipeline("a red apple", steps=2, size=(16, 16))
    except BundleError as error:
        return refusal(error)
    except RequestError as error:
        return f"request: {error}"
    return "painted"


def refusal(error: BundleError) -> str:
    text = str(error)
    assert text.isprintable() and len(text) < 1000, repr(text)
    return f"refused: {text}"


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


def set_in(*path: Any, to: Any) -> Change:
    """A change of the manifest."""

    def change(bundle: Path) -> None:
        def edit(content: Any) -> None:
            for key in path[:-1]:
                content = content[key]
            content[path[-1]] = to

        edit_json(bundle / MANIFEST, edit)

    return change


def in_graph(name: str, change: Callable[[onnx.ModelProto], object]) -> Change:
    return lambda bundle: edit_graph(bundle / name, change)


def rename(model: onnx.ModelProto) -> None:
    """Another name for an input, in all of the graph."""
    old, new = "tokens", "patches\x1b[31m"
    next(value for value in model.graph.input if value.name == old).name = new
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def freeze(model: onnx.ModelProto) -> None:
    """An axis of any size frozen to the size that it was traced with."""
    tokens = next(value for value in model.graph.input if value.name == "tokens")
    tokens.type.tensor_type.shape.dim[1].dim_value = 2


def more_tokens(model: onnx.ModelProto) -> None:
    """An output that says one shape and has another."""
    node = next(node for node in model.graph.node if "velocity" in node.output)
    node.output[0] = "half"
    model.graph.node.append(onnx.helper.make_node("Concat", ["half", "half"], ["velocity"], axis=0))


def far_words(bundle: Path) -> None:
    """Words whose numbers the encoder has no features of."""

    def change(content: dict[str, Any]) -> None:
        content["model"]["vocab"] = {word: number * 10_000 for word, number in content["model"]["vocab"].items()}

    edit_json(bundle / "tokenizer.json", change)


LAYERS = ("model", "layers")
FAULTS: dict[str, tuple[Change, str]] = {
    "layers": (set_in(*LAYERS, "count", to=2), "graphs.condition.outputs: 'text_key.2' is none of them"),
    "more layers": (set_in(*LAYERS, "count", to=4), "graphs.condition.outputs: 'text_key.3' is missing"),
    "width": (set_in(*LAYERS, "width", to=96), "layers.width is 96, which is not 4 heads of 12"),
    "kv heads": (
        set_in(*LAYERS, "kv_heads", to=2),
        "text_key.0 is (R, 4, T, 12); by the sizes of the model it is (R, 2",
    ),
    "heads that do not share": (set_in(*LAYERS, "kv_heads", to=3), "which 3 kv heads do not share evenly"),
    "width without end": (set_in(*LAYERS, "ffn", to=10**400), "model.layers.ffn: Input should be less than"),
    "patches": (set_in("model", "tokens", "patch_size", to=8), "tokens is (A, R, 48); by the sizes of the model it is"),
    "size": (set_in("model", "latent", "size", to=[33, 32]), "latent.size: size 33x32 is not made of 4x4 patches"),
    "large size": (set_in("model", "latent", "size", to=[65536, 65536]), "latent.size: size 65536x65536 has"),
    "half a text": (set_in("model", "text", to=None), "text and graphs.text_encoder: one is there without the other"),
    "width of texts": (set_in("model", "text", "width", to=17), "text.width is 17, and condition takes texts of 16"),
    "no lines": (set_in("model", "tokens", "special", to=[]), "tokens.special is not nextline alone"),
    "a line in a name": (set_in("model", "a\nb\x1b", to=1), "model.a\\nb\\x1b: Extra inputs are not permitted"),
    "type": (set_in("model", "graphs", "denoise", "inputs", 0, "dtype", to="int64"), "tokens is int64; allowed are"),
    "other names": (in_graph("denoise.onnx", rename), "denoise.onnx: 'patches\\x1b[31m' is none of them"),
    "frozen": (in_graph("denoise.onnx", freeze), "tokens is float32 (A, 2, 48); the manifest says float32 (A, R, 48)"),
    "other shape": (in_graph("denoise.onnx", more_tokens), "denoise.onnx: ONNX Runtime cannot run it"),
    "other words": (far_words, "text_encoder.onnx: ONNX Runtime cannot run it"),
    "weights are a graph": (set_in("model", "graphs", "denoise", "file", to="weights.safetensors"), "no ONNX file"),
    "a graph is a tokenizer": (set_in("model", "text", "tokenizer", to="denoise.onnx"), "denoise.onnx: not JSON"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_has_its_place(bundle_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str) -> None:
    change, message = FAULTS[case]
    bundle = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    change(bundle)
    reseal(bundle)
    assert attempt(bundle).startswith("refused") and message in attempt(bundle), attempt(bundle)
    assert capfd.readouterr() == ("", "")
