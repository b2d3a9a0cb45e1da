"""The fake of NVIDIA's bindings for a test, and bundles with engines for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_engine import bundle_of, installed

from flagdit.engine import session
from flagdit.engine.tensorrt.package import Target


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[Target, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    targets: tuple[Target, ...] = ("tensorrt-rtx", "tensorrt")
    return {target: bundle_of("demo", folder / target, target) for target in targets}


@pytest.fixture(params=["tensorrt-rtx", "tensorrt"])
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setattr(session, "with_tensorrt", lambda: False)  # this build has the one in C++, too
    return request.param


@pytest.fixture
def trt(target: Target, monkeypatch: pytest.MonkeyPatch) -> Any:
    return installed(monkeypatch, target)
