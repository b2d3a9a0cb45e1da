"""What commands write: outputs that clash, disks that are full, builds at once and killed, folders of every kind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flagdit.engine import Bundle, BundleError
from flagdit.engine.bundle import regular
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.commands import paint
from flagdit.export import ExportOptions, FlagDiT, export_model, exporter
from flagdit.files import OutputError, write_all, write_file

PROMPT = "a red apple"
Flagdit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


CLASHES = {
    "picture and map": (("-o", "a.png", "--map", "a.png"), "--map a.png: is also what -o writes"),
    "a link between them": (("-o", "a.png", "--map", "to.png"), "--map to.png: is also what -o writes"),
    "the manifest": (("--report", "bundle/manifest.json"), "is manifest.json of the bundle, which is read"),
    "the tokenizer": (("--report", "tokenizer.json"), "is tokenizer.json of the bundle, which is read"),
}


@pytest.mark.parametrize("case", CLASHES)
def test_generate_replaces_nothing_that_it_needs(flagdit: Flagdit, bundle: Path, case: str) -> None:
    options, message = CLASHES[case]
    Path("to.png").symlink_to("a.png")
    Path("tokenizer.json").symlink_to("bundle/tokenizer.json")
    code, _, err = flagdit("generate", PROMPT, "--bundle", bundle, *options)
    assert code == 2 and message in err and err.count("\n") == 1
    assert not Path("a.png").exists()
    Bundle.load(bundle)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prompts", "p.json", "--json", "p.json"), "--json p.json: is --prompts, which is read"),
        (("--json", "k.json", "--keep", "k.json"), "--keep k.json: is also what --json writes"),
        (("--json", "bundle/manifest.json"), "is manifest.json of the bundle, which is read"),
    ],
)
def test_bench_replaces_nothing_that_it_needs(
    flagdit: Flagdit, bundle: Path, options: tuple[str, ...], message: str
) -> None:
    Path("p.json").write_text("a book\n")
    code, _, err = flagdit("bench", bundle, "--quick", *options)
    assert code == 2 and message in err and err.count("\n") == 1
    assert Path("p.json").read_text() == "a book\n"
    Bundle.load(bundle)


def test_a_leftover_blocks_nothing(flagdit: Flagdit, bundle_dir: Path, tmp_path: Path) -> None:
    """Such as a version that was killed in the middle of a check had left."""
    (tmp_path / ".out.png.probe").touch()
    (tmp_path / ".out.png.part").symlink_to(tmp_path / "mine")
    code, _, err = flagdit("generate", PROMPT, "--bundle", bundle_dir, "--steps", 2)
    assert code == 0, err
    assert (tmp_path / "out.png").is_file() and not (tmp_path / "mine").exists()


def test_one_that_fails_takes_no_other_with_it(tmp_path: Path) -> None:
    """All that can be written is, and the error says which."""
    paths = [tmp_path / "no" / "a.png", tmp_path / "b.png", tmp_path / "c.json"]
    with pytest.raises(OutputError) as error:
        write_all({path: lambda path=path: write_file(path, b"") for path in paths})  # type: ignore[misc]
    assert "a.png: cannot be written (No such file or directory)" in str(error.value)
    assert str(error.value).endswith(f"; {paths[1]}, {paths[2]} is written")
    assert all(path.exists() for path in paths[1:])


def test_a_map_that_cannot_be_written_does_not_take_the_rest_with_it(
    flagdit: Flagdit, bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = paint.write

    def full(path: Path, *more: Any, **named: Any) -> None:
        if path.name == "m.png":
            raise OutputError(f"{path}: cannot be written (No space left on device); make room, or choose another path")
        write(path, *more, **named)

    monkeypatch.setattr(paint, "write", full)
    outputs = ("--map", "m.png", "--report", "r.json")
    code, _, err = flagdit("generate", PROMPT, "--bundle", bundle_dir, "--steps", 2, *outputs)
    said = "m.png: cannot be written (No space left on device); make room, or choose another path"
    assert (code, err.splitlines()[1:]) == (2, [f"error: {said}; out.png, r.json is written"])
    with Image.open("out.png") as image:
        image.load()
    assert json.loads(Path("r.json").read_text())["steps"]


@pytest.mark.parametrize("path", [".", "link", "new"])
def test_build_into_any_folder(flagdit: Flagdit, model_dir: Path, tmp_path: Path, path: str) -> None:
    if path == "link":
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
    code, _, err = flagdit("build", model_dir, "-o", path)
    assert code == 0, err
    names = {entry.name for entry in (tmp_path / path).iterdir()}
    assert names == {"manifest.json", *Bundle.load(path).manifest.files}
    code, _, err = flagdit("build", model_dir, "-o", path)
    assert code == 2 and "exists already" in err and err.count("\n") == 1


def test_build_on_a_full_disk(
    flagdit: Flagdit, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(regular, "copy", full)
    code, _, err = flagdit("build", model_dir, "-o", "out")
    what = "nothing of it is kept; make room, or choose another path"
    assert (code, err) == (2, f"error: out: cannot be written (No space left on device); {what}\n")
    assert list(tmp_path.iterdir()) == []


def test_export_on_a_full_disk(tmp_path: Path, flag_dit: FlagDiT, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporter, "write_weights", full)
    with pytest.raises(OutputError, match=r"model: cannot be written \(No space left on device\); nothing of it"):
        export_model(flag_dit, tmp_path / "model", ExportOptions())
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_read_is_no_full_disk(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(path: Any, *flags: Any, **more: Any) -> int:
        if Path(path).name == "denoise.onnx":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *flags, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BundleError, match=r"denoise\.onnx: cannot be read \(Permission denied\)"):
        build_bundle(model_dir, tmp_path / "out")


BUILD = """
import sys, time
from pathlib import Path
from flagdit.engine.bundle.builder import build_bundle
def wait(model, spec, folder):
    print("building", flush=True)
    sys.stdin.readline()
    return []
build_bundle(sys.argv[1], Path(sys.argv[2]), wait)
"""


@pytest.fixture
def building(model_dir: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A build into the folder "out", in a process of its own, that waits for a line before it ends."""
    command = [sys.executable, "-c", BUILD, str(model_dir), str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "building\n"
        yield process
        process.kill()


def test_two_builds_into_one_folder(flagdit: Flagdit, building: subprocess.Popen[str], model_dir: Path) -> None:
    """The second is told so at once, and the first ends well."""
    code, _, err = flagdit("build", model_dir, "-o", "out")
    assert code == 2 and "out: another flagdit is writing it; wait until it ends, or choose another folder" in err
    building.communicate("go on\n")
    assert building.returncode == 0 and Bundle.load("out")


def test_a_killed_build(flagdit: Flagdit, building: subprocess.Popen[str], model_dir: Path) -> None:
    """The folder is no bundle then, and no obstacle."""
    building.send_signal(signal.SIGKILL)
    building.wait()
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read"):
        Bundle.load("out")
    code, _, err = flagdit("build", model_dir, "-o", "out")
    assert code == 0, err
    assert {path.name for path in Path("out").iterdir()} == {"manifest.json", *Bundle.load("out").manifest.files}
