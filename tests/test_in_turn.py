"""Text encoders that are loaded when they run, and let go then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flagdit.cpp_ext import InTurn, Port
from flagdit.engine import Pipeline, loading
from flagdit.engine.errors import BundleError


def test_large_encoders_are_loaded_when_they_run_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is the same, to the bit; between runs there is no encoder."""
    expected = Pipeline.load("demo", threads=1)("a red apple", size=(32, 32), steps=3)
    opened: list[str] = []
    plain = loading._session

    def counted(bundle: Any, graph: Any, *args: Any, **options: Any) -> Any:
        opened.append(graph.file)
        return plain(bundle, graph, *args, **options)

    monkeypatch.setattr(loading, "LOADED_IN_TURN", 1)
    monkeypatch.setattr(loading, "_session", counted)
    pipeline = Pipeline.load("demo", threads=1)
    (encoder,) = pipeline.stages.text.sessions
    assert isinstance(encoder, InTurn) and not encoder.loaded and "text_encoder.onnx" not in opened
    for number in (1, 2):
        made = pipeline("a red apple", size=(32, 32), steps=3)
        assert (made.latents == expected.latents).all()
        assert opened.count("text_encoder.onnx") == number and not encoder.loaded  # once for both branches
    assert pipeline.stages.text.features("a red apple").shape[1] == 384 and not encoder.loaded


def test_what_goes_wrong_while_one_is_loaded_is_said() -> None:
    def broken() -> Any:
        raise BundleError("text_encoder.onnx is not what the manifest says")

    encoder = InTurn("text_encoder.onnx", [Port("input_ids", "int64", ["R", "T"], False)], broken)
    with pytest.raises(BundleError, match="is not what the manifest says"):
        encoder.run({"input_ids": np.ones((1, 2), np.int64)})
    assert not encoder.loaded
    encoder.rest()


def test_one_that_fails_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its memory only while it runs, also where it does not come to an end."""
    other = Pipeline.load("demo", threads=1).stages.place  # takes no text
    plain, opened = loading._session, list[str]()

    def wrong(bundle: Any, graph: Any, *args: Any, **options: Any) -> Any:
        opened.append(graph.file)
        return other if graph.file == "text_encoder.onnx" else plain(bundle, graph, *args, **options)

    monkeypatch.setattr(loading, "LOADED_IN_TURN", 1)
    monkeypatch.setattr(loading, "_session", wrong)
    pipeline = Pipeline.load("demo", threads=1)
    (encoder,) = pipeline.stages.text.sessions
    assert isinstance(encoder, InTurn)
    for number, run in enumerate(
        (lambda: pipeline("a red apple", steps=3), lambda: pipeline.stages.text.features("a"))
    ):
        with pytest.raises(Exception, match="input_ids"):
            run()
        assert opened.count("text_encoder.onnx") == number + 1 and not encoder.loaded
