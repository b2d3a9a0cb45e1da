"""Bundles that somebody made up: their digests are right, whatever they hold."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx

from flagdit.engine import BackendError, Bundle, BundleError, Pipeline, RequestError

MANIFEST = "manifest.json"


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def reseal(bundle: Path) -> None:
    """Give the files of a bundle that its manifest names the digests that they have by now."""

    def change(manifest: dict[str, Any]) -> None:
        for name, file in manifest["files"].items():
            content = (bundle / name).read_bytes()
            file |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        weights = manifest["model"]["weights"]
        weights["sha256"] = manifest["files"][weights["file"]]["sha256"]

    edit_json(bundle / MANIFEST, change)


def edit_graph(path: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a JSON document."""
    if not isinstance(value, dict | list):
        return [at]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [at, *(path for key, child in items for path in places(child, (*at, key)))]


def mutate(content: Any, rng: random.Random, values: Sequence[Any]) -> Any:
    """The document with one to three of its parts replaced, taken out, given twice, or exchanged for another."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        # Top levels first: graphs alone have hundreds of leaves, and the numbers of the model a few.
        depth = rng.randint(1, 6)
        found = [path for path in places(content) if 0 < len(path) <= depth]
        *path, last = rng.choice([path for path in found if len(path) == max(map(len, found))])
        place = content
        for key in path:
            place = place[key]
        how, old = rng.randrange(5), place[last]
        if how == 0:
            del place[last]
        elif how == 1 and isinstance(place, list):
            place.append(old)
        elif how == 2 and isinstance(old, int | float):
            place[last] = rng.choice((old + 1, old * 2, old - 1, -old))
        elif how == 3 and isinstance(place, dict):
            place[rng.choice(list(values[-9:]))] = old
        else:
            place[last] = rng.choice(values)
    return content


def mutate_graph(model: onnx.ModelProto, rng: random.Random) -> None:
    """One to three changes of what a graph computes: it is still a file that can be parsed."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        graph, node, other = model.graph, rng.choice(model.graph.node), rng.choice(model.graph.node)
        how = rng.randrange(8)
        if how == 0:
            node.op_type = rng.choice((other.op_type, "Nothing", "Size", "NonZero"))
        elif how == 1 and node.input and other.output:
            node.input[rng.randrange(len(node.input))] = rng.choice((*other.output, *other.input, "nowhere"))
        elif how == 2 and node.attribute:
            attribute = rng.choice(node.attribute)
            attribute.i, attribute.f = rng.choice((-1, 0, 1, 7, 2**62)), rng.choice((0.0, float("nan"), 1e38))
            attribute.ints[:] = [-value for value in attribute.ints]
        elif how == 3:
            graph.node.remove(node)
        elif how == 4 and graph.initializer:
            tensor = rng.choice(graph.initializer)
            tensor.dims[:] = rng.choice(([*tensor.dims][::-1], [-1], [2**62, 4], [0], [*tensor.dims, 2]))
        elif how == 5 and graph.initializer:
            rng.choice(graph.initializer).data_type = rng.randrange(24)
        elif how == 6:
            port = rng.choice((*graph.input, *graph.output)).type.tensor_type
            port.elem_type = rng.choice((1, 7, 9, 10, 16))
            port.shape.dim.add().dim_value = 2
        else:
            rng.choice((*graph.input, *graph.output)).name += rng.choice((".0", "\x1b[2J", "\n"))


def attempt(bundle: Path) -> str:
    """Load a bundle and paint a little; returns what came of it. Anything but an error of ours is a failure."""
    try:
        Bundle.load(bundle)
        pipeline = Pipeline.load(bundle, threads=1)
    except BundleError as error:
        return refusal(error)
    try:
        pipeline("a red apple", steps=2, size=(16, 16))
    except BundleError as error:
        return refusal(error)
    except BackendError as error:
        assert "the bundle has no text encoder" in str(error)
        return "no text"
    except RequestError as error:
        return f"request: {error}"
    return "painted"


def refusal(error: BundleError) -> str:
    text = str(error)
    assert text.isprintable() and len(text) < 1000, repr(text)
    return f"refused: {text}"
