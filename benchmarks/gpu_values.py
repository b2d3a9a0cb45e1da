"""Part of gpu_denoise.py: what the demo's graphs give on a device, beside fp32 on the CPU."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flagdit.engine.bundle import Manifest, ModelSpec
from flagdit.engine.bundle.ports import begins, timed
from flagdit.engine.bundle.reader import DEMO, MANIFEST, read_spec
from flagdit.engine.layout import TokenLayout
from flagdit.engine.noise import latent_noise
from flagdit.engine.session import Array, GraphFile, open_session
from gpu_call import bind, empty_caches
from gpu_device import Buffer, Cpu, Device, Graph, put
from gpu_types import to_float

ROWS = 2  # one picture with guidance


@dataclass(frozen=True)
class Demo:
    """The demo without its text encoder: features of a prompt and of none are in a file beside the graphs."""

    spec: ModelSpec
    directory: Path  # with a graph for each precision, and the weights

    @classmethod
    def open(cls, graphs: Path) -> Demo:
        """`graphs` as gpu_graphs.py writes it; the weights are copied beside the graphs."""
        spec = read_spec(DEMO / MANIFEST, Manifest).model
        shutil.copyfile(DEMO / spec.weights.file, graphs / "demo" / spec.weights.file)
        return cls(spec, graphs / "demo")

    def conditions(self, times: list[float], text: int | None = None) -> dict[str, Array]:
        """What `condition` makes on the CPU, for both branches; `text`: tokens of the prompt that are kept."""
        session = open_session(GraphFile.beside(DEMO / self.spec.graphs.condition.file), threads=1)
        with np.load(self.directory / "features.npz") as file:
            features = [file[name][:text] for name in ("conditional", "unconditional")]
        lengths = [len(x) for x in features]
        padded = [np.pad(x, ((0, max(lengths) - len(x)), (0, 0))) for x in features]
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        made = session.run({"t": np.array(times, np.float32), "text": np.stack(padded), "text_mask": mask})
        return {name: np.asarray(x) for name, x in made.items()}

    def places(self, layout: TokenLayout) -> dict[str, Array]:
        """What `place` makes of a run without extrapolation: by token (N, ...), or for all of them."""
        session = open_session(GraphFile.beside(DEMO / self.spec.graphs.place.file), threads=1)
        options = {"ntk": np.ones(1, np.float32), "proportional": np.zeros(1, np.bool_), "phase": np.zeros(1, np.int64)}
        inputs = {"place": layout.places(), "extent": np.array(layout.extent, np.int64), **options}
        made = session.run({port.name: inputs[port.name] for port in session.ports if not port.output})
        return {name: np.asarray(x) for name, x in made.items()}

    def layout(self, side: int) -> TokenLayout:
        return TokenLayout.of(self.spec, (side, side))

    def graph(self, device: Device, precision: str) -> Graph:
        return device.load(self.directory / f"denoise.{precision}.onnx")


def inputs_of(demo: Demo, layout: TokenLayout, seed: int, step: int, made: dict[str, Array]) -> dict[str, Array]:
    """All inputs but the tails, in the first slot order, fp32, at one of the times of `made`."""
    noise = latent_noise([seed], (layout.channels, layout.height, layout.width))
    slots = layout.slots()
    tokens = np.zeros((layout.tokens, 1, layout.patch_values), np.float32)
    tokens[layout.pinned :] = layout.patchify(noise)[layout.patch_index(slots[layout.pinned :])]
    placed = demo.places(layout)
    for port in demo.spec.graphs.denoise.inputs:
        if port.name in placed and begins(port, "A"):
            values = placed[port.name][slots]
            placed[port.name] = values[:, None].repeat(ROWS, axis=1) if port.shape[1] == "R" else values
    steps = {port.name: made[port.name][step] for port in timed(demo.spec.graphs.condition)}
    return {"tokens": np.tile(tokens, (1, ROWS, 1)), **placed, **made, **steps}


class Call:
    """One engine call with `active` of all tokens: the caches exist once, and the tail is bound behind the head."""

    def __init__(self, device: Device, graph: Graph, inputs: dict[str, Array], active: int) -> None:
        self.device, n = device, len(inputs["tokens"])
        self.caches = empty_caches(device, graph, n, ROWS)
        self.inputs = {name: put(device, array, graph.inputs[name][0]) for name, array in inputs.items()}
        self.velocity = device.empty((active, ROWS, inputs["tokens"].shape[2]))
        self.bound = bind(graph, {**self.inputs, **self.caches, "velocity": self.velocity}, active)

    def run(self, cached: dict[str, Array]) -> dict[str, Array]:
        """Velocity and caches, fp32, of a call that finds `cached` (fp32) in its caches."""
        for name, array in cached.items():
            buffer = put(self.device, array, self.caches[name].dtype)
            self.device.write(self.caches[name], self.device.read(buffer))
        self.bound.run()
        return {name: self.read(buffer) for name, buffer in {"velocity": self.velocity, **self.caches}.items()}

    def read(self, buffer: Buffer) -> Array:
        return to_float(self.device.read(buffer), buffer.dtype)


def distance(got: Array, expected: Array) -> dict[str, float]:
    """Largest difference, and rms of the difference over rms of what is expected."""
    difference = got.astype(np.float64) - expected
    relative = np.sqrt(np.mean(difference**2) / np.mean(expected.astype(np.float64) ** 2))
    return {"max": float(np.abs(difference).max()), "relative_rms": float(relative)}


def values(demo: Demo, device: Device, precision: str, side: int = 64) -> list[dict[str, Any]]:
    """At four (A, M, T), of which the last has a text length that no fast attention takes."""
    layout = demo.layout(side)
    n, pinned = layout.tokens, layout.pinned
    cases = [(n, 8), (n // 2, 8), (pinned + layout.patches // 4, 8), (pinned + layout.patches // 4, 7)]
    cpu, expected = Cpu(), []
    fp32 = demo.graph(cpu, "float32")
    for active, text in cases:
        made = demo.conditions([0.3, 0.4], text)
        first, second = (inputs_of(demo, layout, seed, step, made) for step, seed in enumerate((1, 2)))
        mixed = {**second, "tokens": 0.9 * first["tokens"] + 0.4 * second["tokens"]}
        cached = Call(cpu, fp32, first, n).run({})
        cached.pop("velocity")
        expected.append((mixed, cached, Call(cpu, fp32, mixed, active).run(cached)))
    graph, cells = demo.graph(device, precision), []
    for (active, text), (inputs, cached, want) in zip(cases, expected, strict=True):
        cell = {"precision": precision, "active": active, "tail": n - active, "text": text}
        try:
            got = Call(device, graph, inputs, active).run(cached)
            cells.append({**cell, **judge(got, want, cached, active, precision)})
        except Exception as error:
            cells.append({**cell, "error": str(error)})
    return cells


def judge(
    got: dict[str, Array], want: dict[str, Array], cached: dict[str, Array], active: int, precision: str
) -> dict[str, Any]:
    """Distances of the velocity and of the heads' keys and values, and whether the tails were left as they were."""
    names = list(cached)
    heads = [np.stack([arrays[name][:active] for name in names]) for arrays in (got, want)]
    step = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}[precision]
    tail = max((float(_worst(got[name][active:], cached[name][active:])) for name in names), default=0.0)
    return {
        "velocity": distance(got["velocity"], want["velocity"]),
        "caches": distance(*heads),
        "tail_untouched": tail <= step,
        "finite": bool(np.isfinite(got["velocity"]).all()),
    }


def _worst(got: Array, expected: Array) -> float:
    """Largest relative difference."""
    return float((np.abs(got - expected) / np.maximum(np.abs(expected), 1e-3)).max()) if got.size else 0.0
