"""The house rules: who may import whom, what a wheel holds, one name for one folder."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
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


@pytest.mark.slow
def test_wheel_holds_the_runtime_and_no_sources(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("flagdit-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"flagdit/engine/pipeline.py", "flagdit/engine/commands/generate.py", "flagdit/export/flag_dit.py"} <= names
    assert {"flagdit/engine/demo/manifest.json", "flagdit/engine/demo/denoise.onnx"} <= names
    assert {f"flagdit/{package}/py.typed" for package in FORBIDDEN} <= names
    assert any(n.startswith("flagdit/cpp_ext/_ext.") and n.endswith(".so") for n in names)
    assert not {n for n in names if n.endswith((".cpp", ".cu", ".h"))}
    assert not {n for n in names if n.startswith(("tests/", "flagdit/__init__"))}
