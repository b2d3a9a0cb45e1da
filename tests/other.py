"""A model that is no Flag-DiT in anything that the runtime could know of one, written as a bundle by hand.

Rectangular patches, no line is closed, positions are looked up in tables around the middle of the picture, one cache a
layer of keys and values together, other names for all that may have one, nothing to extrapolate with.
"""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from flagdit.export import onnx_graph
from flagdit.export.describe import describe
from flagdit.export.parts.text.small import TEXT_GRAPH, export_text_encoder

WIDTH, CHANNELS, PATCH, TABLE, LAYERS, GUIDANCE = 24, 2, (2, 4), 40, 2, 3.0
VALUES = CHANNELS * PATCH[0] * PATCH[1]
MASKED = -1e4


class Other(nn.Module):
    """Weights, and the parts of a step. Letters as in docs/contract.md; D is WIDTH."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside = nn.Linear(VALUES, WIDTH), nn.Linear(WIDTH, VALUES)
        self.line, self.column = nn.Embedding(TABLE, WIDTH), nn.Embedding(TABLE, WIDTH)
        self.time, self.words = nn.Linear(2, WIDTH), nn.Linear(16, 2 * WIDTH)
        self.query = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))
        self.both = nn.ModuleList(nn.Linear(WIDTH, 2 * WIDTH) for _ in range(LAYERS))

    def condition(self, t: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """drift (S, R, D), phrase (R, T, 2 D), phrase_bias (R, 1, T)."""
        drift = self.time(torch.stack([t, t * t], -1))[:, None] + self.words(text).mean(1)[None, :, :WIDTH]
        return drift, self.words(text), torch.zeros_like(text[:, None, :, 0])

    def step(
        self, tokens: Tensor, spot: Tensor, drift: Tensor, phrase: Tensor, phrase_bias: Tensor, tails: list[Tensor]
    ) -> list[Tensor]:
        """Velocity (A, R, P), heads of the caches (A, R, 2, D); spot (A, R, 2): line and column of the tables."""
        line, column = spot.unbind(-1)
        x, heads = self.inside(tokens) + self.line(line) + self.column(column), []
        for query, both, tail in zip(self.query, self.both, tails, strict=True):
            u = torch.tanh(x + drift)
            head = torch.unflatten(both(u), -1, (2, WIDTH))
            keys, values = torch.cat([head, tail]).permute(2, 1, 0, 3)  # (R, N, D) each
            words, meant = torch.unflatten(phrase, -1, (2, WIDTH)).unbind(2)
            scores = torch.cat([torch.zeros_like(keys[:, None, :, 0]), phrase_bias], -1)
            scores = scores + query(u).transpose(0, 1) @ torch.cat([keys, words], 1).transpose(1, 2)
            x = x + (scores.softmax(-1) @ torch.cat([values, meant], 1)).transpose(0, 1)
            heads.append(head)
        return [self.outside(x), *heads]


class Conditions(nn.Module):
    def __init__(self, model: Other) -> None:
        super().__init__()
        self.model = model

    def forward(self, t: Tensor, text: Tensor) -> tuple[Tensor, ...]:
        return self.model.condition(t, text)


class Places(nn.Module):
    """Places around the middle of the tables, and how many patches there are."""

    def forward(self, place: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
        return place[:, 2:] + (TABLE - extent[1:]) // 2, extent.float()


class Step(nn.Module):
    def __init__(self, model: Other) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: Tensor,
        spot: Tensor,
        patches: Tensor,
        drift: Tensor,
        phrase: Tensor,
        bias: Tensor,
        tails: list[Tensor],
    ) -> list[Tensor]:
        velocity, *heads = self.model.step(tokens, spot, drift, phrase, bias, tails)
        return [velocity * (patches[2:] / patches[2:]), *heads]


def write_other(directory: Path, encoder: Path) -> Other:
    """Write a model directory of random weights, with that text encoder (Hugging Face's layout), and return them."""
    torch.manual_seed(3)
    model = Other().eval()
    directory.mkdir(parents=True)
    path = directory / "heavy.safetensors"
    save_file(model.state_dict(), path)
    weights, described = onnx_graph.WeightsFile.open(path), {}
    for name, graph in _graphs(model).items():
        onnx_graph.save(graph, directory / f"my-{name}.onnx", weights)
        described[name] = {"file": f"my-{name}.onnx", **describe(graph)}
    text = export_text_encoder(encoder, directory, 12)
    text["graph"] = {"file": TEXT_GRAPH, **describe(ir.load(directory / TEXT_GRAPH))}
    spec = _spec(hashlib.sha256(path.read_bytes()).hexdigest(), described, text)
    (directory / "model.json").write_text(json.dumps(spec))
    return model


def _graphs(model: Other) -> dict[str, ir.Model]:
    a, m, r, t, s, n = 5, 4, 3, 6, 2, 7
    axes = onnx_graph.dynamic_axes
    tails = [torch.randn(m, r, 2, WIDTH) for _ in range(LAYERS)]
    step = (torch.randn(a, r, VALUES), torch.zeros(a, r, 2, dtype=torch.int64), torch.ones(3), torch.randn(r, WIDTH))
    words = (torch.randn(r, t, 2 * WIDTH), torch.zeros(r, 1, t))
    names = ["tokens", "spot", "patches", "drift", "phrase", "phrase_bias"]
    shapes = (axes(("A", "R")), axes(("A", "R")), {}, axes(("R",)), axes(("R", "T")), axes(("R", None, "T")))
    return {
        "condition": onnx_graph.trace(
            Conditions(model),
            (torch.rand(s), torch.randn(r, t, 16)),
            (axes(("S",)), axes(("R", "T"))),
            inputs=["t", "text"],
            outputs=["drift", "phrase", "phrase_bias"],
        ),
        "place": onnx_graph.trace(
            Places(),
            (torch.zeros(n, 4, dtype=torch.int64), torch.ones(3, dtype=torch.int64)),
            (axes(("N",)), {}),
            inputs=["place", "extent"],
            outputs=["spot", "patches"],
        ),
        "denoise": onnx_graph.trace(
            Step(model),
            (*step, *words, tails),
            (*shapes, [axes(("M", "R"))] * LAYERS),
            inputs=[*names, *(f"seen_tail.{i}" for i in range(LAYERS))],
            outputs=["velocity", *(f"seen_head.{i}" for i in range(LAYERS))],
        ),
    }


def _spec(digest: str, graphs: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": 2,
        "name": "other",
        "family": "none that anybody knows",
        "config": {},
        "weights": {"file": "heavy.safetensors", "sha256": digest, "dtype": "float32", "parameters": 5000},
        "latent": {"space": "vae", "channels": CHANNELS, "size": [32, 16]},
        "tokens": {"patch": [1, *PATCH], "closes": []},
        "guidance": {"channels": [1], "rows": ["cond", "uncond"], "scale": GUIDANCE},
        "flow": {"shift": {"tokens": [64, 256], "mu": [0.5, 1.0]}},
        "sizes": {"width": WIDTH, "hidden": WIDTH, "heads": 1, "kv_heads": 1, "head": WIDTH},
        "price": {"token": 5000, "pair": 200, "text": 0, "text_pair": 0},
        "texts": [text],
        "pads": {"phrase_bias": MASKED},
        "graphs": graphs,
        "licences": {},
        "exporter": {},
    }


class ByToken:
    """One branch of Euler steps, arrays by token in line order, gathered and scattered: no slot ever moves."""

    def __init__(self, model: Other, text: Tensor, grid: Tensor) -> None:
        """text: features (T, Y). grid (N, 2): line and column of the tables."""
        self.model, self.text, self.grid = model, text[None], grid
        self.kept = [torch.zeros(len(grid), 1, 2, WIDTH) for _ in range(LAYERS)]

    def velocity(self, x: Tensor, t: float, head: Tensor) -> Tensor:
        """Of the tokens `head` (N,) of x (N, 1, P), whose keys and values it replaces."""
        drift, *words = self.model.condition(torch.tensor([t]), self.text)
        tails = [kept[~head] for kept in self.kept]
        velocity, *heads = self.model.step(x[head], self.grid[head][:, None], drift[0], *words, tails)
        for kept, made in zip(self.kept, heads, strict=True):
            kept[head] = made
        return velocity


def painted(
    model: Other,
    noise: npt.NDArray[np.float32],
    texts: list[Tensor],
    times: list[float],
    computed: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.float32]:
    """Euler steps; texts: features of the prompt, and of no prompt. computed (S, lines, columns): all by default."""
    _, channels, height, width = noise.shape
    lines, columns = height // PATCH[0], width // PATCH[1]
    grid = torch.stack(torch.meshgrid(torch.arange(lines), torch.arange(columns), indexing="ij"), -1).flatten(0, 1)
    grid = grid + torch.tensor([(TABLE - lines) // 2, (TABLE - columns) // 2])
    cut = torch.from_numpy(noise[0]).reshape(channels, lines, PATCH[0], columns, PATCH[1])
    x = cut.permute(1, 3, 0, 2, 4).reshape(lines * columns, 1, VALUES)
    branches, moving = [ByToken(model, text, grid) for text in texts], torch.zeros_like(x)
    for step, (t, after) in enumerate(pairwise(times)):
        head = torch.ones(len(x), dtype=torch.bool)
        if computed is not None:
            head = torch.from_numpy(computed[step].ravel())
        guided, without = (
            branch.velocity(x, t, head).reshape(-1, CHANNELS, PATCH[0] * PATCH[1]) for branch in branches
        )
        guided[:, 1] = without[:, 1] + GUIDANCE * (guided - without)[:, 1]
        moving[head] = guided.reshape(-1, 1, VALUES)
        x = x + (after - t) * moving
    picture = x.reshape(lines, columns, channels, *PATCH).permute(2, 0, 3, 1, 4)
    return picture.reshape(1, channels, height, width).numpy()
