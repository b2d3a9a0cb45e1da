"""A model directory run by ONNX Runtime and a few lines of NumPy: what the contract says, and nothing of the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Array = npt.NDArray[Any]
Feeds = dict[str, Array]


class Exported:
    """The three graphs of a model directory. Letters as in docs/contract.md."""

    def __init__(self, directory: Path) -> None:
        self.spec = json.loads((directory / "model.json").read_text())
        names = ("condition", "place", "denoise")
        self.sessions = {name: ort.InferenceSession(directory / f"{name}.onnx") for name in names}
        self.channels = self.spec["latent"]["channels"]
        self.patch = self.spec["tokens"]["patch"][1]

    def run(self, graph: str, feeds: Mapping[str, Array]) -> Feeds:
        """All outputs by name; of the feeds, those that the graph takes."""
        session = self.sessions[graph]
        names = [output.name for output in session.get_outputs()]
        taken = {port.name: feeds[port.name] for port in session.get_inputs()}
        return dict(zip(names, session.run(names, taken), strict=True))

    def condition(
        self, times: Sequence[float], texts: Sequence[Mapping[str, Array]], skipped: Sequence[int] = ()
    ) -> Feeds:
        """Every text alone, at its own length; then one array, filled up with what the manifest says."""
        told = [port["shape"] for port in self.spec["graphs"]["condition"]["inputs"] if port["name"] == "layers"]
        layers = np.ones(told[0] if told else 0, np.float32)
        layers[list(skipped)] = 0
        common = {"t": np.array(times, np.float32), "layers": layers}
        made = []
        for text in texts:
            length = len(text["text"]) if "text" in text else 0
            mask = np.ones((1, length), bool)
            feeds = {name: array[None] for name, array in text.items()}
            made.append(self.run("condition", {**feeds, **common, "text_mask": mask}))
        axes = {port["name"]: port["shape"] for port in self.spec["graphs"]["condition"]["outputs"]}
        return {name: self._joined(name, axes[name], [each[name] for each in made]) for name in axes}

    def _joined(self, name: str, axes: list[int | str], parts: list[Array]) -> Array:
        if "T" in axes:
            at = axes.index("T")
            longest = max(part.shape[at] for part in parts)
            fill = self.spec["pads"].get(name, 0.0)
            grow = [[(0, longest - p.shape[at] if i == at else 0) for i in range(p.ndim)] for p in parts]
            parts = [np.pad(p, g, constant_values=fill) for p, g in zip(parts, grow, strict=True)]
        return np.concatenate(parts, axis=axes.index("R"))

    def places(self, lines: int, columns: int) -> tuple[Array, Array]:
        """Places (N, 4) of all tokens, those that fill up last; and which of them are patches."""
        grid = [(0, line, column) for line in range(lines) for column in range(columns)]
        if "line" in self.spec["tokens"]["closes"]:
            grid = [(0, line, c) for line in range(lines) for c in (*range(columns), -1)]
        grid += [(-1, -1, -1)] * (-len(grid) % self.spec["tokens"].get("multiple", 1))
        places = np.array([(index, *place) for index, place in enumerate(grid)], np.int64)
        return places, places[:, 3] >= 0

    def placed(self, lines: int, columns: int, rows: int) -> Feeds:
        """What `place` makes, with rows where `denoise` has them."""
        feeds = {"place": self.places(lines, columns)[0], "extent": np.array([1, lines, columns], np.int64)}
        options = {"ntk": np.ones(1, np.float32), "proportional": np.zeros(1, bool), "phase": np.zeros(1, np.int64)}
        made = self.run("place", {**feeds, **options})
        ports = {port["name"]: port["shape"] for port in self.spec["graphs"]["denoise"]["inputs"]}
        return {
            name: np.repeat(array[:, None], rows, 1) if ports[name][1:2] == ["R"] else array
            for name, array in made.items()
        }

    def patchify(self, latents: Array) -> Array:
        """Tokens (N, R, P) of latents (R, C, H, W), zeros of those that are no patches."""
        rows, c, height, width = latents.shape
        p, lines, columns = self.patch, height // self.patch, width // self.patch
        cut = latents.reshape(rows, c, lines, p, columns, p).transpose(2, 4, 0, 1, 3, 5)
        _, real = self.places(lines, columns)
        tokens = np.zeros((len(real), rows, c * p * p), np.float32)
        tokens[real] = cut.reshape(lines * columns, rows, -1)
        return tokens

    def unpatchify(self, tokens: Array, height: int, width: int) -> Array:
        """Latents (R, C, H, W) of tokens (N, R, P)."""
        p, lines, columns = self.patch, height // self.patch, width // self.patch
        patches = tokens[self.places(lines, columns)[1]]
        cut = patches.reshape(lines, columns, patches.shape[1], self.channels, p, p)
        return cut.transpose(2, 3, 0, 4, 1, 5).reshape(patches.shape[1], self.channels, height, width)

    def tails(self, rows: int) -> Feeds:
        """Empty caches."""
        ports = self.spec["graphs"]["denoise"]["inputs"]
        return {p["name"]: np.empty((0, rows, *p["shape"][2:]), np.float32) for p in ports if p["shape"][:1] == ["M"]}

    def resting(self, feeds: Feeds, dense: Feeds) -> Feeds:
        """The same inputs with no text, and behind each tail what the text added to it in a dense step, if it did."""
        texts = {name.replace("_text", "_tail"): array for name, array in dense.items() if "_text" in name}
        if not texts:
            return feeds
        axes = {port["name"]: port["shape"] for port in self.spec["graphs"]["denoise"]["inputs"]}
        out = {n: np.concatenate([x, texts[n]]) if n in texts else x for n, x in feeds.items()}
        return {n: x[:, :0] if axes[n][:2] == ["R", "T"] else x for n, x in out.items()}

    def at(self, conditions: Feeds, entry: int) -> Feeds:
        """What `denoise` takes of them in one evaluation."""
        axes = {port["name"]: port["shape"] for port in self.spec["graphs"]["condition"]["outputs"]}
        return {name: array[entry] if axes[name][0] == "S" else array for name, array in conditions.items()}
