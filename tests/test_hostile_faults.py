"""Bundles with right digests and one fault each: refused by the line that says where it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hostile import MANIFEST, attempt, edit_graph, edit_json, reseal

Change = Callable[[Path], object]


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


def many(output: str, axis: int) -> Callable[[onnx.ModelProto], None]:
    """An output that is forty times as long as it says along an axis of a letter."""

    def change(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if output in node.output)
        node.output[list(node.output).index(output)] = "part"
        model.graph.node.append(onnx.helper.make_node("Concat", ["part"] * 40, [output], axis=axis))

    return change


def far_words(bundle: Path) -> None:
    """Words whose numbers the encoder has no features of."""

    def change(content: dict[str, Any]) -> None:
        content["model"]["vocab"] = {word: number * 10_000 for word, number in content["model"]["vocab"].items()}

    edit_json(bundle / "tokenizer.json", change)


def twice(content: dict[str, Any]) -> None:
    """Two text encoders, which are the same."""
    content["model"]["texts"] *= 2


PORTS = ("model", "graphs", "condition", "outputs")
KEYS = ("model", "graphs", "denoise", "inputs", -2)
FAULTS: dict[str, tuple[Change, str]] = {
    "another condition": (
        set_in(*PORTS, 1, "name", to="other"),
        "graphs.denoise.inputs: 'final_modulation' is none of them",
    ),
    "of another width": (
        set_in(*PORTS, 0, "shape", to=["S", "R", 3, 6, 96]),
        "modulation is float32 (R, 3, 6, 48); allowed is float32 or float16 or bfloat16 (R, 3, 6, 96)",
    ),
    "no rows": (set_in(*PORTS, 2, "shape", to=[1, 1, 1, "T"]), "'text_bias' is float32 (1, 1, 1, T); allowed is"),
    "another letter": (set_in(*PORTS, 3, "shape", to=["R", 4, "A", 12]), "'text_key.0' is float32 (R, 4, A, 12)"),
    "a cache of letters": (set_in(*KEYS, "shape", to=["M", "R", "G", 12]), "'key_tail.2' is (M, R, G, 12); allowed is"),
    "a cache of another type": (set_in(*KEYS, "dtype", to="float16"), "its caches are float16 and float32; allowed is"),
    "a cache without a twin": (set_in(*KEYS, "name", to="key_tail.7"), "graphs.denoise.outputs: 'key_head.2' is none"),
    "places of rows": (
        set_in("model", "graphs", "place", "outputs", 0, "shape", to=["N", "R", 6]),
        "graphs.place.outputs: 'rope_cos' is (N, R, 6); allowed are sizes, and N before them",
    ),
    "places of nothing": (
        set_in("model", "graphs", "place", "inputs", to=[]),
        "graphs.place.inputs: 'place' is missing",
    ),
    "made twice": (
        set_in("model", "graphs", "place", "outputs", 0, "name", to="text_bias"),
        "graphs.denoise.inputs: 'text_bias' is made twice",
    ),
    "a pad of nothing": (set_in("model", "pads", to={"modulation": 1.0}), "pads: 'modulation' is no output (R, ...)"),
    "heads that do not share": (set_in("model", "sizes", "kv_heads", to=3), "which 3 kv heads do not share evenly"),
    "width without end": (set_in("model", "sizes", "hidden", to=10**400), "manifest.json: not JSON (number overflow"),
    "patches": (set_in("model", "tokens", "patch", to=[1, 8, 8]), "tokens is float32 (A, R, 48); allowed is float32 "),
    "frames": (set_in("model", "latent", "frames", to=9), "latent.frames is 9; this flagdit runs 1 alone"),
    "latents": (
        set_in("model", "latent", "downscale", to=8),
        "latent.downscale is 8 and latent.space 'pixels'",
    ),
    "patches in time": (set_in("model", "tokens", "patch", to=[2, 4, 4]), "tokens.patch, frames is 2; this flagdit"),
    "closed frames": (set_in("model", "tokens", "closes", to=["line", "frame"]), "tokens.closes is 'frame'; this"),
    "phases": (set_in("model", "phases", to=[0.0, 0.3]), "2 phases, and graphs.place has no input 'phase'"),
    "phases that fall": (set_in("model", "phases", to=[0.0, 0.5, 0.3]), "phases are 0, 0.5, 0.3; allowed are times"),
    "a late phase": (set_in("model", "phases", to=[0.1]), "phases are 0.1; allowed are times that do not"),
    "template": (set_in("model", "texts", 0, "template", to="a"), "texts.0.template has {} 0 times; allowed is once"),
    "size": (set_in("model", "latent", "size", to=[33, 32]), "latent.size: size 33x32 is not made of 4x4 patches"),
    "large size": (set_in("model", "latent", "size", to=[65536, 65536]), "latent.size: size 65536x65536 has"),
    "two texts": (lambda b: edit_json(b / "manifest.json", twice), "texts.0.graph.outputs: 'text' is none of them"),
    "width of texts": (
        set_in("model", "texts", 0, "graph", "outputs", 0, "shape", to=["R", "T", 17]),
        "texts.0.graph.outputs: text is float32 (R, T, 17); allowed is float32 (R, T, 16)",
    ),
    "a line in a name": (set_in("model", "a\nb\x1b", to=1), "model.a\\nb\\x1b: is not known"),
    "type": (
        set_in("model", "graphs", "denoise", "inputs", 0, "dtype", to="int64"),
        "tokens is int64 (A, R, 48); allowed is float32",
    ),
    "other names": (in_graph("denoise.onnx", rename), "denoise.onnx: 'patches\\x1b[31m' is none of them"),
    "frozen": (in_graph("denoise.onnx", freeze), "tokens is float32 (A, 2, 48); the manifest says float32 (A, R, 48)"),
    "other shape": (in_graph("denoise.onnx", more_tokens), "denoise.onnx: ONNX Runtime cannot run it"),
    "more rows": (in_graph("condition.onnx", many("text_bias", 0)), "gives text_bias as float32 (40, 1, 1, "),
    "more times": (in_graph("condition.onnx", many("modulation", 0)), "gives modulation as float32 (80, 1, "),
    "more texts": (in_graph("condition.onnx", many("modulation", 1)), "gives modulation as float32 (2, 40, "),
    "more words": (in_graph("text_encoder.onnx", many("text", 1)), "gives text as float32 (1, "),
    "other words": (far_words, "text_encoder.onnx: ONNX Runtime cannot run it"),
    "weights are a graph": (set_in("model", "graphs", "denoise", "file", to="weights.safetensors"), "no ONNX file"),
    "a graph is a tokenizer": (set_in("model", "texts", 0, "tokenizer", to="denoise.onnx"), "denoise.onnx: not JSON"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_has_its_place(bundle_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str) -> None:
    change, message = FAULTS[case]
    bundle = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    change(bundle)
    reseal(bundle)
    assert attempt(bundle).startswith("refused") and message in attempt(bundle), attempt(bundle)
    assert capfd.readouterr() == ("", "")
