"""The training example: what it keeps must be enough to go on as if it had never stopped."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tiny import TINY

EXAMPLE = Path(__file__).parents[1] / "examples" / "emoji"


@pytest.fixture(scope="module")
def state() -> ModuleType:
    spec = importlib.util.spec_from_file_location("emoji_state", EXAMPLE / "state.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


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


def test_a_resumed_run_is_the_uninterrupted_one(state: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = state.TrainState(TINY)
    first = state.TrainState(TINY)
    first.model.load_state_dict(whole.model.state_dict())
    first.average.load_state_dict(whole.average.state_dict())
    train(whole, 6)
    train(first, 3)
    first.save(tmp_path)
    resumed = state.TrainState(TINY)
    resumed.load(tmp_path)
    assert resumed.progress.step == 3
    train(resumed, 3)
    for kind in ("model", "average"):
        expected = getattr(whole, kind).state_dict()
        for name, tensor in getattr(resumed, kind).state_dict().items():
            torch.testing.assert_close(tensor, expected[name], atol=0, rtol=0, msg=name)
    assert whole.model.state_dict()["layers.0.attention.gate"].abs().max() > 0


def test_the_average_is_a_checkpoint(state: ModuleType, tmp_path: Path) -> None:
    from flagdit.export import load_checkpoint

    run = state.TrainState(TINY)
    train(run, 2)
    run.save(tmp_path)
    loaded = load_checkpoint(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), run.average.state_dict(), atol=0, rtol=0)
    assert not list(tmp_path.glob("*.partial"))
