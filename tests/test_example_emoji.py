"""The training example: what it keeps must be enough to go on as if it had never stopped."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from recipe import module
from tiny import TINY


@pytest.fixture(scope="module")
def state() -> ModuleType:
    return module("state")


@pytest.fixture(scope="module")
def tiny() -> Callable[[], Any]:
    """What makes an untrained Flag-DiT of the recipe."""
    return functools.partial(module("painters.flag_dit").FlagPainter, TINY)


def train(run, steps: int) -> None:  # type: ignore[no-untyped-def]
    """A few updates that depend on the step alone."""
    for _ in range(steps):
        torch.manual_seed(run.progress.step)
        t, mask = torch.rand(2), torch.ones(2, 3, dtype=torch.bool)
        velocity = run.model(torch.randn(2, 3, 8, 8), t, torch.randn(2, 3, 16), mask)
        (velocity - torch.randn(2, 3, 8, 8)).square().mean().backward()
        for group in run.optimizer.param_groups:
            group["lr"] = 1e-2 * group["rate"]
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        run.progress.step += 1
        run.update_average(0.9)


def test_a_resumed_run_is_the_uninterrupted_one(state: ModuleType, tiny: Callable[[], Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = state.TrainState(tiny)
    first = state.TrainState(tiny)
    first.model.load_state_dict(whole.model.state_dict())
    first.average.load_state_dict(whole.average.state_dict())
    train(whole, 6)
    train(first, 3)
    first.save(tmp_path)
    resumed = state.TrainState(tiny)
    resumed.load(tmp_path)
    assert resumed.progress.step == 3
    train(resumed, 3)
    for kind in ("model", "average"):
        expected = getattr(whole, kind).net.state_dict()
        for name, tensor in getattr(resumed, kind).net.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], atol=0, rtol=0, msg=name)
    assert whole.model.net.state_dict()["layers.0.attention.gate"].abs().max() > 0


def test_the_average_is_a_checkpoint(state: ModuleType, tiny: Callable[[], Any], tmp_path: Path) -> None:
    from flagdit.export import load_checkpoint

    run = state.TrainState(tiny)
    train(run, 2)
    run.save(tmp_path)
    loaded = load_checkpoint(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), run.average.net.state_dict(), atol=0, rtol=0)
    assert not list(tmp_path.glob("*.partial"))
