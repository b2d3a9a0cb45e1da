"""Other systems, simulated: what Windows and macOS lack is taken away, and a run must not miss it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from PIL import Image

from flagdit.engine import machine

# What macOS, or Windows, does not have goes, after the libraries are imported: these are Linux's.
ELSEWHERE = """
import importlib, os, pkgutil, sys
from pathlib import Path
import PIL.GifImagePlugin, PIL.PngImagePlugin, matplotlib.pyplot, numpy, onnx_ir, onnxruntime, pydantic, rich.console
import rich.progress, rich.table, scipy.linalg, skimage.metrics, tempfile, tokenizers, typer, typer.rich_utils
import importlib.metadata, multiprocessing.util, subprocess, shutil
sys.platform, command = sys.argv[1], [part.encode().decode("unicode_escape") for part in sys.argv[2:]]
modules, names = [], ["sched_getaffinity", "sched_setaffinity", "posix_fadvise", "posix_fallocate"]
if sys.platform == "win32":
    modules = ["resource", "fcntl", "pwd", "grp", "termios", "_posixsubprocess"]
    names += ["sysconf", "sysconf_names", "fork", "uname", "getuid", "geteuid", "getloadavg", "statvfs", "pread"]
    names += ["pwrite", "chown", "mkfifo", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC"]
    def is_open(path):
        links = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
        return os.path.realpath(path) in [os.readlink(link) for link in links if os.path.lexists(link)]
    def unless(call, refused, error):
        def checked(what, *more, **options):
            if refused(what):
                raise error
            return call(what, *more, **options)
        return checked
    def is_for_reading(handle):
        return int(Path(f"/proc/self/fdinfo/{handle}").read_text().split("flags:")[1].split()[0], 8) % 4 == 0
    os.open = unless(os.open, os.path.isdir, PermissionError(13, "a folder is no file"))
    for name in ("unlink", "remove", "rename", "replace"):
        setattr(os, name, unless(getattr(os, name), is_open, PermissionError(13, "is open")))
    os.fsync = unless(os.fsync, is_for_reading, OSError(9, "is not open for writing"))
    os.chmod = unless(os.chmod, lambda what: isinstance(what, int), TypeError("path is an int"))
    shutil._use_fd_functions = False
for name in modules:
    sys.modules[name] = None
for name in names:
    delattr(os, name)
import flagdit.engine
for module in pkgutil.walk_packages(flagdit.engine.__path__, "flagdit.engine."):
    importlib.import_module(module.name)
import flagdit.engine.cli, flagdit.engine.cpu, flagdit.engine.machine, flagdit.files
flagdit.engine.cpu.here = flagdit.cpp_ext.Cpu  # one that says nothing of itself
if sys.platform == "win32":
    assert flagdit.engine.machine.memory_bytes() is flagdit.engine.machine.peak_bytes() is None
with flagdit.files.whole_folder(Path("folder"), "last") as part:
    for name in ("last", "first"):
        (part / name).write_text(name)
sys.argv = ["flagdit", *command]
flagdit.engine.cli.main()
"""


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_a_run_needs_nothing_that_only_linux_has(system: str, tmp_path: Path) -> None:
    options = ["--preset", "draft", "--size", "64x64", "-o", "out.png", "--map", "map.gif", "--report", "report.json"]
    command = [sys.executable, "-P", "-c", ELSEWHERE, system, "generate", "a rocket \\u2192", *options]
    ascii = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}  # a locale without the arrow
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, **ascii}
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (64, 64)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["prompt"] == "a rocket \u2192"
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {"first", "last"}
    assert {path.name for path in tmp_path.iterdir()} == {"out.png", "map.gif", "report.json", "folder"}


def test_memory_is_what_the_system_says() -> None:
    (total,) = (line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    present, peak = machine.memory_bytes(), machine.peak_bytes()
    assert present is not None and peak is not None
    assert present == int(total.split()[1]) * 1024
    (high,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    assert peak == pytest.approx(int(high.split()[1]) * 1024, rel=0.01)


def test_peak_memory_is_in_bytes_on_both_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: types.SimpleNamespace(ru_maxrss=3_000_000))
    monkeypatch.setitem(sys.modules, "resource", fake)
    for system, expected in (("linux", 3_072_000_000), ("darwin", 3_000_000)):
        monkeypatch.setattr(sys, "platform", system)
        assert machine.peak_bytes() == expected


@pytest.mark.parametrize("pages", [0, OSError, ValueError])
def test_a_system_that_does_not_say(pages: int | type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def sysconf(_: str) -> int:
        if isinstance(pages, int):
            return pages
        raise pages

    monkeypatch.setattr(os, "sysconf", sysconf)
    assert machine.memory_bytes() is None
