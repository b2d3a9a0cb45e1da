"""The graph `place`: what it makes of where the tokens are, against RoPE written a second time."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from angles import rope
from reference import turn
from tiny import TINY, assert_refused

from flagdit.cpp_ext import Session, check_model
from flagdit.engine import Pipeline
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.bundle.reader import DEMO
from flagdit.engine.layout import TokenLayout, model_shift
from flagdit.engine.session import GraphFile, open_session
from flagdit.export.parts.layers import rope_table

ULP = 2.0**-24
"""Of numbers from a half to 1, half of the distance of two of fp32."""


@pytest.fixture(scope="module", params=["tiny", "demo"])
def place(request: pytest.FixtureRequest, model_dir: Path) -> tuple[Session, int, int]:
    """A graph, the size of a head, and the tokens at the training size."""
    file, head, tokens = (DEMO, 64, 16 * 17) if request.param == "demo" else (model_dir, TINY.head_dim, 8 * 9)
    return open_session(GraphFile.beside(file / "place.onnx")), head, tokens


def placed(
    session: Session, layout: TokenLayout, ntk: float = 1.0, proportional: bool = False
) -> dict[str, np.ndarray]:
    return session.run(
        {"place": layout.places(), "ntk": np.array([ntk], np.float32), "proportional": np.array([proportional])}
    )


@pytest.mark.parametrize("size", [(4, 4), (32, 32), (64, 48), (48, 64), (512, 512)], ids=str)
@pytest.mark.parametrize("ntk", [1.0, 1.7, 4.0])
@pytest.mark.parametrize("proportional", [False, True])
def test_places_are_rope(
    place: tuple[Session, int, int], size: tuple[int, int], ntk: float, proportional: bool
) -> None:
    session, head, base = place
    layout = TokenLayout(size[1], size[0], 4, channels=3)
    made = placed(session, layout, ntk, proportional)
    assert set(made) == {"rope_cos", "rope_sin", "special", "attention_scale"}
    assert all(array.dtype == np.float32 for array in made.values())
    cos, sin = rope(range(layout.tokens), head, 10000.0 * float(np.float32(ntk)))
    np.testing.assert_allclose(made["rope_cos"], cos, atol=2 * ULP, rtol=0)
    np.testing.assert_allclose(made["rope_sin"], sin, atol=2 * ULP, rtol=0)
    columns = size[0] // 4
    np.testing.assert_array_equal(made["special"][:, 0], np.arange(layout.tokens) % (columns + 1) == columns)
    growth = math.log(layout.tokens) / math.log(base) if proportional else 1
    np.testing.assert_allclose(made["attention_scale"], [math.sqrt(growth / head)], rtol=2 * ULP)


def test_angles_are_the_references(place: tuple[Session, int, int]) -> None:
    """Turned with complex numbers in fp32, as the official code does: what that rounds grows with the position."""
    session, head, _ = place
    made = placed(session, TokenLayout(32, 32, 4, channels=3))
    x = torch.randn(1, 72, 2 * head, generator=torch.Generator().manual_seed(0))
    pairs = x.view(72, 2, head // 2, 2).numpy().astype(np.float64)
    cos, sin = (made[f"rope_{kind}"][:, None].astype(np.float64) for kind in ("cos", "sin"))
    ours = np.stack([pairs[..., 0] * cos - pairs[..., 1] * sin, pairs[..., 0] * sin + pairs[..., 1] * cos], -1)
    np.testing.assert_allclose(turn(x, 2)[0].numpy(), ours.reshape(72, 2, head), atol=2e-5)


def test_training_has_the_same_angles(place: tuple[Session, int, int]) -> None:
    session, head, _ = place
    layout = TokenLayout(256, 256, 4, channels=3)
    made, torchs = placed(session, layout), rope_table(torch.arange(layout.tokens), head, 10000.0)
    for kind, values in zip(("cos", "sin"), torchs, strict=True):
        np.testing.assert_allclose(made[f"rope_{kind}"], values[:, 0].numpy(), atol=2 * ULP, rtol=0)


def test_an_option_that_a_model_does_not_take_is_refused(pipeline: Pipeline) -> None:
    graphs = pipeline.spec.graphs
    place = graphs.place.model_copy(update={"inputs": graphs.place.inputs[:1]})
    spec = pipeline.spec.model_copy(update={"graphs": graphs.model_copy(update={"place": place})})
    check_model("model.json", spec.model_dump_json().encode())
    other = copy(pipeline)
    other.stages = replace(pipeline.stages, spec=spec)
    for name, value in (("ntk", 2.0), ("ntk", "auto"), ("proportional", True)):
        assert_refused(other, {"prompt": "a book", name: value}, f"{name} is nothing that this model knows")


def test_a_layout_knows_where_its_tokens_are() -> None:
    """Two lines of three patches, each closed: index, frame, line, column."""
    layout = TokenLayout(8, 12, 4, channels=3)
    expected = [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, -1], [0, 1, 0], [0, 1, 1], [0, 1, 2], [0, 1, -1]]
    np.testing.assert_array_equal(layout.places(), [[i, *place] for i, place in enumerate(expected)])
    assert layout.extent == (1, 2, 3) and layout.stride == 4
    open_lines = TokenLayout(8, 12, 4, channels=3, closes_lines=False)
    np.testing.assert_array_equal(open_lines.places()[:, 1:], [place for place in expected if place[2] >= 0])
    assert (open_lines.pinned, open_lines.stride) == (0, 3)


def test_a_shift_may_follow_the_number_of_patches(pipeline: Pipeline) -> None:
    """As diffusers' dynamic shifting: exp(mu), mu on a line; figures of FLUX at 256 and 4096 patches, and halfway."""
    content = pipeline.spec.model_dump(mode="json")
    content["flow"] = {"shift": {"tokens": [256, 4096], "mu": [0.5, 1.15]}}
    spec = ModelSpec.model_validate(content)
    sizes = [(64, 64), (272, 128), (256, 256)]  # in patches of 4: 256, 2176, 4096
    assert [model_shift(spec, size) for size in sizes] == pytest.approx([math.exp(mu) for mu in (0.5, 0.825, 1.15)])
