"""What a process may hold, of systems whose files are made up here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flagdit.cpp_ext import resident, room

MB = 1 << 20


def files(folder: Path, **contents: str) -> Path:
    """Files of a folder; __ in a name is / and _ stays."""
    for name, content in contents.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """1000 MB are available, and the process holds 100 of 300 that it has reserved."""
    status = f"Name:\tpython\nVmSize:\t{300 << 10} kB\nVmRSS:\t{100 << 10} kB\n"
    memory = f"MemTotal: {4000 << 10} kB\nMemAvailable: {1000 << 10} kB\n"
    return files(tmp_path / "proc", meminfo=memory, self__status=status, self__cgroup="0::/\n")


def test_what_is_available_and_what_is_held_already(proc: Path, tmp_path: Path) -> None:
    assert resident(str(proc)) == 100 * MB
    assert room(str(proc), str(tmp_path / "none")) == 1100 * MB


def group(folder: Path, limit: str, used: int, stale: int = 0, old: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else ("memory.max", "memory.current")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    name = "total_inactive_file" if old else "inactive_file"
    (folder / "memory.stat").write_text(f"anon 5\n{name} {stale}\n")


def test_a_container(proc: Path, tmp_path: Path) -> None:
    """Version 2, which shows it its own group as the root: 500 MB, of which 200 are used and 50 give way."""
    group(tmp_path / "cgroups", f"{500 * MB}", 200 * MB, 50 * MB)
    assert room(str(proc), str(tmp_path / "cgroups")) == (100 + 500 - 200 + 50) * MB


def test_the_tightest_group_counts(proc: Path, tmp_path: Path) -> None:
    files(proc, self__cgroup="0::/service/job\n")
    group(tmp_path / "cgroups/service/job", "max", 10 * MB)
    group(tmp_path / "cgroups/service", f"{400 * MB}", 300 * MB)
    group(tmp_path / "cgroups", f"{900 * MB}", 300 * MB)
    assert room(str(proc), str(tmp_path / "cgroups")) == (100 + 400 - 300) * MB
    group(tmp_path / "cgroups/service", f"{400 * MB}", 450 * MB)
    assert room(str(proc), str(tmp_path / "cgroups")) == 100 * MB  # nothing is left


def test_groups_of_version_1(proc: Path, tmp_path: Path) -> None:
    files(proc, self__cgroup="5:cpu:/other\n4:memory:/docker/abc\n1:name=systemd:/\n")
    group(tmp_path / "cgroups/memory/docker/abc", f"{600 * MB}", 200 * MB, 10 * MB, old=True)
    group(tmp_path / "cgroups/memory", f"{2**63 - 4096}", 900 * MB, old=True)  # no limit
    assert room(str(proc), str(tmp_path / "cgroups")) == (100 + 600 - 200 + 10) * MB


def test_the_limit_of_a_shell(proc: Path, tmp_path: Path) -> None:
    assert room(str(proc), str(tmp_path / "none"), address_space=700 * MB) == (100 + 700 - 300) * MB
    assert room(str(proc), str(tmp_path / "none"), address_space=200 * MB) == 100 * MB  # nothing is left


def test_systems_without_proc(tmp_path: Path) -> None:
    """As Windows is, which says nothing at all."""
    none = tmp_path / "none"
    assert room(str(none), str(none), memory=8000 * MB) == 8000 * MB
    assert room(str(none), str(none), address_space=700 * MB) is None
    assert room(str(none), str(none)) is None and resident(str(none)) == 0


def test_files_that_say_something_else(proc: Path, tmp_path: Path) -> None:
    """Nothing is refused for a file that is not understood."""
    files(proc, meminfo="MemAvailable: lots\nMemAvailable:\n\n", self__cgroup="0\nx::\n4:memory:/../..\n")
    group(tmp_path / "cgroups/memory", "1 2", 3)
    assert room(str(proc), str(tmp_path / "cgroups"), memory=8000 * MB) == 8000 * MB


def test_the_limit_of_this_process() -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
    code += "from flagdit.cpp_ext import room; print(room())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    said = int(done.stdout)
    assert 0 < said <= 3 << 30
