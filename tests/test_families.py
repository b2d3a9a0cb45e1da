"""Every family against diffusers: whole trajectories, head and tail, slots in any order. Tiny random models."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffused import FAMILIES
from exported import Array, Exported

from flagdit.cpp_ext import Port, check_borders, check_model
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.session import ports_of

HEIGHT, WIDTH = 12, 16  # latents: 48 patches, so Z-Image has 16 pads
TIMES = (0.0, 0.1, 0.35, 0.7, 1.0)
GUIDANCE = 2.5


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest, of_family) -> tuple[str, Any, Exported]:  # type: ignore[no-untyped-def]
    """A family's name, its model of diffusers, and the same exported."""
    model, folder = of_family(request.param)
    return request.param, model, Exported(folder)


def test_what_is_said_of_it_is_the_formats(both: tuple[str, Any, Exported]) -> None:
    """Ports by their axes, and a price by them; some of it no run can do yet (docs/models.md)."""
    _, model, exported = both
    spec = ModelSpec.model_validate(exported.spec)
    for name, graph in (("condition", spec.graphs.condition), ("place", spec.graphs.place)):
        check_borders(name, ports_of([], graph.outputs), outputs_of(exported.sessions[name]))
    check_model("model.json", json.dumps(exported.spec).encode())
    assert spec.price.token > 0 and spec.price.pair > 0
    assert 0.6 < spec.weights.parameters / model.num_parameters() < 1.1


def outputs_of(session: Any) -> list[Port]:
    types = {"tensor(float)": "float32", "tensor(int64)": "int64"}
    return [Port(port.name, types[port.type], port.shape, True) for port in session.get_outputs()]


def relative(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_a_trajectory_is_diffusers(both: tuple[str, Any, Exported]) -> None:
    """Guided Euler steps; the two texts differ in length; a picture that is not square."""
    name, model, exported = both
    family, channels = FAMILIES[name], exported.spec["guidance"]["channels"]
    texts = [family.features(seed, length) for seed, length in enumerate(family.lengths)]
    noise = np.random.default_rng(7).standard_normal((1, exported.channels, HEIGHT, WIDTH)).astype(np.float32)
    conditions = exported.condition(TIMES[:-1], texts)
    fixed = {**exported.placed(HEIGHT // 2, WIDTH // 2, 2), **exported.tails(2)}
    ours, theirs = noise, torch.from_numpy(noise)
    for entry, (t, after) in enumerate(pairwise(TIMES)):
        tokens = exported.patchify(np.repeat(ours, 2, 0))
        out = exported.run("denoise", {**fixed, **exported.at(conditions, entry), "tokens": tokens})
        cond, uncond = exported.unpatchify(out["velocity"], HEIGHT, WIDTH)
        ours = ours + np.float32(after - t) * guided(cond, uncond, channels)[None]
        with torch.no_grad():
            both_rows = [
                family.velocity(model, theirs, t, {k: torch.from_numpy(v)[None] for k, v in text.items()})[0].numpy()
                for text in texts
            ]
        theirs = theirs + torch.from_numpy(np.float32(after - t) * guided(*both_rows, channels)[None])
        assert np.abs(both_rows[0] - both_rows[1]).max() > 1e-2  # the text matters
    assert relative(ours, theirs.numpy()) < 1e-5


def guided(cond: Array, uncond: Array, channels: list[int]) -> Array:
    out = cond.copy()
    out[channels] = (uncond + GUIDANCE * (cond - uncond))[channels]
    return out


@pytest.mark.parametrize("active", [7, 30])
def test_head_and_tail_make_the_dense_step(both: tuple[str, Any, Exported], active: int) -> None:
    """In any order of slots; then the first of them against the caches of the rest."""
    name, _, exported = both
    family = FAMILIES[name]
    texts = [family.features(seed, length) for seed, length in enumerate(family.lengths)]
    latents = np.random.default_rng(3).standard_normal((2, exported.channels, HEIGHT, WIDTH)).astype(np.float32)
    conditions = exported.at(exported.condition([0.4], texts), 0)
    tokens, placed = exported.patchify(latents), exported.placed(HEIGHT // 2, WIDTH // 2, 2)
    plain = exported.run("denoise", {**placed, **exported.tails(2), **conditions, "tokens": tokens})["velocity"]

    order = np.random.default_rng(active).permutation(len(tokens))
    slots = {"tokens": tokens[order], **{k: v[order] if len(v) == len(tokens) else v for k, v in placed.items()}}
    dense = exported.run("denoise", {**slots, **exported.tails(2), **conditions})
    real = exported.places(HEIGHT // 2, WIDTH // 2)[1]
    assert relative(dense["velocity"][real[order]], plain[order][real[order]]) < 1e-5

    tail = {name: dense[name.replace("_tail", "_head")][active:] for name in exported.tails(2)}
    assert tail and all(len(array) == len(tokens) - active for array in tail.values())
    head = {k: v[:active] if len(v) == len(tokens) else v for k, v in slots.items()}
    found = exported.run("denoise", {**head, **tail, **conditions})
    for port, array in found.items():
        assert relative(array, dense[port][: len(array)]) < 1e-5, port
    rested = exported.run("denoise", {**head, **exported.resting({**tail, **conditions}, dense)})
    for port, array in rested.items():
        assert len(array) == (0 if "_text" in port else active)
        assert "_text" in port or relative(array, found[port]) < 1e-5, port
