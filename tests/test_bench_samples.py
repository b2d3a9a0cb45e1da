"""What a measurement keeps, so that it may stop and go on: it is taken again for the same, and for nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flagdit.engine import Pipeline
from flagdit.engine.bench import Entry, Samples, Setting, measure, settings
from flagdit.engine.bench.exact import ExactPictures
from flagdit.engine.bench.settings import dense

PROMPT = "a red apple"
Flagdit = Callable[..., tuple[int, str, str]]


class Grey(ExactPictures):
    """Something to compare with that takes no time."""

    def __call__(self, prompts: Sequence[str], first: int) -> np.ndarray:
        return np.zeros((len(prompts), *self._shape), np.float32)


def test_what_was_measured_is_kept(pipeline: Pipeline, tmp_path: Path) -> None:
    """Stopped after a batch and begun again, it gives what it had, measures the rest, and adds settings."""
    chosen = [settings()[0], Setting("few", "ab2", dense(4, "ab2"))]
    seen: list[tuple[int, int]] = []

    def note(pictures: np.ndarray, exact: np.ndarray, first: int) -> dict[str, np.ndarray]:
        seen.append((first, len(pictures)))
        return {"first": np.full(len(pictures), first)}

    def run(chosen: list[Setting], **more: object) -> list[list[Entry]]:
        seen.clear()
        kept = Samples(tmp_path / "kept", {})
        return list(measure(pipeline, chosen, [PROMPT] * 4, batch=2, extra=note, kept=kept, **more))  # type: ignore[arg-type]

    kept = Samples(tmp_path / "kept", {})
    half = next(measure(pipeline, chosen, [PROMPT] * 4, batch=2, extra=note, kept=kept))
    whole = run(chosen)
    assert whole[0] == half and seen == [(2, 2), (2, 2)]
    assert run(chosen) == whole and not seen
    more = run([*chosen, Setting("fewer", "ab2", dense(2, "ab2"))])
    assert [entries[:2] for entries in more] == whole and seen == [(0, 2), (2, 2)]
    run(chosen, exactly=ExactPictures(pipeline, None, 3.0))
    assert len(seen) == 4  # at another guidance scale everything is another


def cut_short(text: str) -> str:
    return text[:30]


def of_fewer(text: str) -> str:
    sample = json.loads(text)
    return json.dumps({**sample, "psnr": sample["psnr"][1:]})


def without_time(text: str) -> str:
    return json.dumps({**json.loads(text), "denoise": 0})


@pytest.mark.parametrize("damaged", [cut_short, of_fewer, without_time])
def test_what_is_damaged_is_measured_anew(pipeline: Pipeline, tmp_path: Path, damaged: Callable[[str], str]) -> None:
    def run() -> float:
        kept, exactly = Samples(tmp_path, {}), Grey(pipeline, None, 2.0)
        (entries,) = measure(pipeline, settings()[:1], [PROMPT] * 2, exactly=exactly, kept=kept)
        return entries[0].psnr

    wanted = run()
    (file,) = tmp_path.iterdir()
    whole = json.loads(file.read_text())
    file.write_text(damaged(file.read_text()))
    assert run() == wanted
    assert json.loads(file.read_text())["psnr"] == whole["psnr"]


Made = tuple[Pipeline, dict[str, object]]


def other_threads(pipeline: Pipeline) -> Made:
    return pipeline, {"threads": 2}


def other_model(pipeline: Pipeline) -> Made:
    flow = pipeline.spec.flow.model_copy(update={"shift": 2.5})
    return changed(pipeline, spec=pipeline.spec.model_copy(update={"flow": flow})), {"threads": 1}


def other_graph(pipeline: Pipeline) -> Made:
    files, name = pipeline.bundle.manifest.files, pipeline.spec.graphs.denoise.file
    other = {**files, name: files[name].model_copy(update={"sha256": "0" * 64})}
    bundle = SimpleNamespace(manifest=SimpleNamespace(files=other))
    return changed(pipeline, bundle=bundle), {"threads": 1}


def changed(pipeline: Pipeline, **what: object) -> Pipeline:
    other = copy(pipeline)
    for name, value in what.items():
        setattr(other, name, value)
    return other


@pytest.mark.parametrize("other", [other_threads, other_model, other_graph])
def test_what_was_measured_otherwise_is_not_taken(
    pipeline: Pipeline, tmp_path: Path, other: Callable[[Pipeline], Made]
) -> None:
    """On more threads; of the same weights exported with other choices, or in another graph."""
    exactly = Grey(pipeline, None, 2.0)

    def run(pipeline: Pipeline, where: dict[str, object]) -> int:
        list(measure(pipeline, settings()[:1], [PROMPT], exactly=exactly, kept=Samples(tmp_path, where)))
        return len(list(tmp_path.iterdir()))

    assert [run(pipeline, {"threads": 1}) for _ in range(2)] == [1, 1]
    assert run(*other(pipeline)) == 2


def test_command_goes_on(flagdit: Flagdit, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --resume the same figures come back, times and all, and nothing is painted; on two threads it is."""
    options = ("--first", 1, "--shift", 4, "--keep", "exact", "--resume", "kept", "--json", "bench.json")
    rows = []
    for _ in range(2):
        code, _, err = flagdit("bench", bundle_dir, "--quick", *options)
        assert code == 0, err
        rows.append(json.loads((tmp_path / "bench.json").read_text())["rows"])
        monkeypatch.setattr(sys.modules["flagdit.engine.bench.measure"], "paint", None)
    assert rows[0] == rows[1]
    with pytest.raises(TypeError):
        flagdit("bench", bundle_dir, "--quick", *options, "--threads", 2)
