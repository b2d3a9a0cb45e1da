"""The house rules: who may import whom, what a wheel holds, one name for one folder."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "files": {"flagdit.export", "flagdit.engine", "flagdit.cpp_ext", "torch", "numpy", "PIL"},
    "export": {"flagdit.engine", "flagdit.cpp_ext"},
    "engine": {"flagdit.export", "torch", "transformers", "safetensors"},
    "cpp_ext": {"flagdit.export", "flagdit.engine", "flagdit.files", "torch", "onnxruntime"},
}


def imported(path: Path) -> Iterator[str]:
    """Names of all modules that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_run_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            parts = name.split(".")
            roots = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
            assert not roots & FORBIDDEN[package], f"{path.relative_to(ROOT)} imports {name}"


def test_every_package_is_installed() -> None:
    """The list in pyproject.toml is written by hand."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {path.parent.relative_to(ROOT) for room in FORBIDDEN for path in (ROOT / room).rglob("__init__.py")}
    assert set(project["tool"]["setuptools"]["packages"]) == {f"flagdit.{'.'.join(path.parts)}" for path in found}


def test_flagdit_is_a_namespace() -> None:
    """A folder of that name would shadow the installed package in tests."""
    assert not (ROOT / "flagdit").exists()


def test_the_runtime_imports_without_torch() -> None:
    code = "import sys; import flagdit.engine, flagdit.engine.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif("FLAGDIT_WHEEL" not in os.environ, reason="needs a wheel: make lowest builds one")
def test_wheel_holds_the_runtime_and_no_sources() -> None:
    names = set(zipfile.ZipFile(os.environ["FLAGDIT_WHEEL"]).namelist())
    assert {"flagdit/engine/pipeline.py", "flagdit/engine/commands/generate.py"} <= names
    assert "flagdit/export/families/flag_dit/model.py" in names
    assert {"flagdit/engine/demo/manifest.json", "flagdit/engine/demo/denoise.onnx"} <= names
    assert {f"flagdit/{package}/py.typed" for package in FORBIDDEN} <= names
    assert any(n.startswith("flagdit/cpp_ext/_ext.") and n.endswith(".so") for n in names)
    assert not {n for n in names if n.endswith((".cpp", ".cu", ".h"))}
    assert not {n for n in names if n.startswith(("tests/", "flagdit/__init__"))}
    assert {n.rpartition("/")[2] for n in names if ".dist-info/licenses/" in n} == {"LICENSE", "NOTICE"}
    own = {f"flagdit/{path.relative_to(ROOT)}" for package in FORBIDDEN for path in (ROOT / package).rglob("*.py")}
    assert own == {n for n in names if n.endswith(".py")}


def test_source_distribution_can_be_built_and_passed_on(tmp_path: Path) -> None:
    """All that the wheel is made of, and what others must be told."""
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
    (archive,) = tmp_path.glob("flagdit-*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"LICENSE", "NOTICE", "README.md", "pyproject.toml", "setup.py", "CMakeLists.txt"} <= names
    listed = ["git", "ls-files", "--", "cpp_ext", *(f"{package}/*.py" for package in FORBIDDEN), "engine/demo"]
    tracked = subprocess.run(listed, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split()
    assert len(tracked) > 100 and set(tracked) <= names


def lowest(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / ".ci" / "lowest.py", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_everything_needed_declares_its_lowest_version() -> None:
    """`make lowest` installs these; torch and other pinned packages have but one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    done = lowest(*project["optional-dependencies"])
    assert done.returncode == 0, done.stderr
    found = dict(line.split("==") for line in done.stdout.splitlines())
    assert {"numpy", "onnxruntime", "nanobind", "transformers", "pytest", "ruff"} <= found.keys()
    assert not {"torch", "flagdit"} & found.keys()
    for line in project["dependencies"]:
        assert f"{found[re.split('[>=]', line)[0]]}" in line


def test_an_environment_above_the_lowest_versions_is_told_from_it() -> None:
    """This one, which is either the newest or, in `make lowest`, the lowest."""
    floor = dict(line.split("==") for line in lowest().stdout.splitlines())["numpy"]
    done, same = lowest("--check"), version("numpy") in (floor, f"{floor}.0")
    assert done.returncode == (0 if same else 1)
    assert ("numpy is" in done.stderr) == (not same)


# What we do not import ourselves, and why it is needed.
FOR_OTHERS = {
    *("setuptools", "cmake", "ninja", "nanobind"),  # the build
    *("clang-format", "mypy", "pre-commit", "ruff"),  # make lint
    "onnxscript",  # torch's exporter
    "pytest-xdist",  # tests in two processes
    *(f"tensorrt{kind}-cu13-{part}" for kind in ("", "-rtx") for part in ("libs", "bindings")),  # imported by name
}
MODULES = {"pillow": "PIL", "scikit-image": "skimage"}


def test_what_is_declared_is_used() -> None:
    """In the runtime, the extras and the build."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = table["project"]
    lists = [table["build-system"]["requires"], project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[>=\[; ]", line)[0] for lines in lists for line in lines} - {"flagdit"}
    rooms = [ROOT / room for room in ("engine", "export", "cpp_ext", "tests", "benchmarks", "examples")]
    used = {name.partition(".")[0] for room in rooms for path in room.rglob("*.py") for name in imported(path)}
    assert {n for n in names - FOR_OTHERS if MODULES.get(n, n.replace("-", "_")) not in used} == set()
