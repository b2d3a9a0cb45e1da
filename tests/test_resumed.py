"""An export that is stopped or killed goes on where it was, and writes what one that was not would have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import TINY, random_flag_dit

from flagdit.export import CheckpointError, ExportOptions, export_model, open_checkpoint
from flagdit.export.graph_source import GraphSource
from flagdit.export.onnx_graph import WeightsFile
from flagdit.export.progress import Told
from flagdit.export.tensors import Filed

WEIGHTS = "weights.safetensors"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_file(random_flag_dit(TINY).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(asdict(TINY)))
    return folder


@pytest.fixture(autouse=True)
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are not looked at here, and take most of the time."""
    import onnx_ir as ir

    def trace(self: GraphSource, weights: WeightsFile | None = None) -> ir.Model:
        return ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 23}), ir_version=10)

    monkeypatch.setattr(GraphSource, "trace", trace)


class Reads:
    """Names of the tensors that are read; an exception at the one of a number."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, stop: int | None = None, what: type = KeyboardInterrupt
    ) -> None:
        self.names: list[str] = []
        plain: Callable[..., torch.Tensor] = Filed.read

        def read(filed: Filed, name: str, rows: tuple[int, int] | None = None) -> torch.Tensor:
            if stop is not None and len(self.names) == stop:
                raise what("planted")
            self.names.append(name)
            return plain(filed, name, rows)

        monkeypatch.setattr(Filed, "read", read)


def export(source: Path, folder: Path, dtype: str = "float16") -> None:
    export_model(open_checkpoint(source), folder, ExportOptions(size=(32, 32), dtype=dtype))


@pytest.fixture
def expected(checkpoint: Path, tmp_path: Path) -> dict[str, bytes]:
    """What an export makes that nobody stops."""
    export(checkpoint, tmp_path / "whole")
    return contents(tmp_path / "whole")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stopped(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, at: int = 20) -> list[str]:
    """The names that were read before it was stopped."""
    with monkeypatch.context() as patch:
        reads = Reads(patch, at)
        with pytest.raises(KeyboardInterrupt):
            export(source, folder)
    return reads.names


def test_what_is_done_is_not_read_again(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    first = stopped(checkpoint, tmp_path / "model", monkeypatch)
    then = stopped(checkpoint, tmp_path / "model", monkeypatch, at=11)
    assert len(list((tmp_path / "model").iterdir())) == 1  # the folder that is gone on with
    rest = Reads(monkeypatch)
    export(checkpoint, tmp_path / "model")
    assert contents(tmp_path / "model") == expected
    assert len(first) == 20 and len(then) == 11 and not set(first + then) & set(rest.names)
    assert {*first, *then, *rest.names} == set(random_flag_dit(TINY).state_dict())


def test_a_tensor_that_is_not_whole_is_written_anew(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    monkeypatch.setattr("flagdit.export.weights.PIECE", 5 * 48)
    first = stopped(checkpoint, tmp_path / "model", monkeypatch, at=150)
    rest = Reads(monkeypatch)
    export(checkpoint, tmp_path / "model")
    assert contents(tmp_path / "model") == expected
    assert set(first) & set(rest.names) == {first[-1]}


CHANGES: dict[str, Callable[[Path, Path], object]] = {
    "source": lambda source, _: os.utime(source / "model.safetensors", (1, 1)),
    "digest": lambda _, part: damage(part / WEIGHTS),
    "shorter": lambda _, part: os.truncate(part / WEIGHTS, 100),
    "journal": lambda _, part: (part / f"{WEIGHTS}.journal").write_text("{"),
    "version": lambda _, part: (part / f"{WEIGHTS}.journal").write_text('{"key": "", "bytes": 9, "sha256": ""}'),
}


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_begins_anew(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes], change: str
) -> None:
    stopped(checkpoint, tmp_path / "model", monkeypatch)
    (part,) = (tmp_path / "model").iterdir()
    CHANGES[change](checkpoint, part)
    rest = Reads(monkeypatch)
    export(checkpoint, tmp_path / "model")
    assert contents(tmp_path / "model") == expected
    assert set(rest.names) == set(random_flag_dit(TINY).state_dict())


def test_another_option_begins_anew(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    stopped(checkpoint, tmp_path / "model", monkeypatch)
    rest = Reads(monkeypatch)
    export(checkpoint, tmp_path / "model", "bfloat16")
    assert contents(tmp_path / "model").keys() == expected.keys()
    assert contents(tmp_path / "model")[WEIGHTS] != expected[WEIGHTS] and len(rest.names) > 30


def test_files_of_another_export_do_not_stay(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    """Those of a part that is left out now, whole or not."""
    stopped(checkpoint, tmp_path / "model", monkeypatch)
    (part,) = (tmp_path / "model").iterdir()
    for name in ("decode.onnx", "text_encoder.safetensors", "text_encoder.safetensors.journal"):
        (part / name).write_bytes(b"old")
    export(checkpoint, tmp_path / "model")
    assert contents(tmp_path / "model") == expected


def test_errors_leave_nothing(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next export would meet them again."""
    Reads(monkeypatch, 20, CheckpointError)
    with pytest.raises(CheckpointError, match="planted"):
        export(checkpoint, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_command_that_is_stopped_says_so(
    flagdit,  # type: ignore[no-untyped-def]
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected: dict[str, bytes],
) -> None:
    arguments = ("export", checkpoint, "-o", "model", "--size", "32x32", "--name", "flag-dit")
    with monkeypatch.context() as patch:
        Reads(patch, 20)
        code, _, err = flagdit(*arguments)
    assert code == 130 and "stopped; the same command goes on where it was" in err
    assert flagdit(*arguments)[0] == 0
    assert contents(tmp_path / "model") == expected


KILLED = """
import os, signal, sys
from pathlib import Path
import flagdit.export.weights as weights
from flagdit.export import ExportOptions, export_model, open_checkpoint

weights.EVERY = 1  # a journal after every tensor
source, folder = map(Path, sys.argv[1:])

def progress(said):
    written = [path.stat().st_size for path in folder.glob("*/weights.safetensors")]
    if list(folder.glob("*/w*.journal")) and written[0] > 60000:
        os.kill(os.getpid(), signal.SIGKILL)

export_model(open_checkpoint(source), folder, ExportOptions(size=(32, 32)), progress=progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
def test_a_killed_export_goes_on(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, checkpoint, tmp_path / "model"], check=False)
    assert done.returncode == -9
    rest = Reads(monkeypatch)
    export(checkpoint, tmp_path / "model")
    assert contents(tmp_path / "model") == expected
    assert 5 < len(rest.names) < len(random_flag_dit(TINY).state_dict()) - 5


def test_the_rest_is_estimated_by_what_this_export_did() -> None:
    said: list[str] = []
    clock = iter([0.0, 1.0, 4.0, 200.0])
    told = Told("weights", said.append, lambda: next(clock))
    for done in (8_000_000_000, 8_100_000_000, 8_400_000_000, 9_000_000_000):
        told(done, 10_000_000_000)
    assert said[:2] == ["weights, 8.00 of 10.00 GB", "weights, 8.10 of 10.00 GB"]
    assert said[2:] == ["weights, 8.40 of 10.00 GB, about 16 s left", "weights, 9.00 of 10.00 GB, about 3 min left"]
