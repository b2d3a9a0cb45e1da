"""What others wrote reaches the terminal as text: names, errors and prompts move no cursor and are no markup."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from hostile import MANIFEST, edit_json
from rich.table import Table
from rich.text import Text

from flagdit.engine import BundleError
from flagdit.engine.commands.terminal import Terminal
from flagdit.files.printable import printable

NAME = "\x1b]0;owned\x07[bold red]evil[/] :smile: \u202egpj\x9b2J [link=x]"
SHOWN = r"\x1b]0;owned\x07[bold red]evil[/] :smile: \u202egpj\x9b2J [link=x]"


@pytest.fixture
def named(bundle_dir: Path, tmp_path: Path) -> Path:
    """A bundle whose manifest has such names wherever it may."""
    bundle = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))

    def change(manifest: dict) -> None:  # type: ignore[type-arg]
        model = manifest["model"]
        manifest["flagdit"], model["name"], model["licences"] = NAME, NAME, {NAME: NAME}
        facts = {
            "graph": "denoise",
            "file": "denoise.onnx",
            "target": "tensorrt-rtx",
            "version": NAME,
            "platform": NAME,
        }
        borders = {key: model["graphs"]["denoise"][key] for key in ("inputs", "outputs")}
        rest = {"architectures": [86, 89], "precision": "float16", "profiles": [], "build_seconds": 1.0}
        manifest["engines"] = [facts | borders | rest, facts | borders | rest | {"target": "onnxruntime"}]

    edit_json(bundle / MANIFEST, change)
    return bundle


def test_what_is_printable() -> None:
    assert printable("a red apple, naïve 😀 漢字") == "a red apple, naïve 😀 漢字"
    assert printable(NAME) == SHOWN
    assert printable("a\nb\tc\r\u2028\ud800\x7f") == r"a\nb\tc\r\u2028\ud800\x7f"
    assert printable("a\nb\r", keep="\n") == "a\nb\\r"


def test_a_terminal_prints_strings_as_they_are() -> None:
    """In tables and lines, whatever a command forgets."""
    terminal = Terminal()
    terminal.file = out = io.StringIO()
    terminal.width = 200
    table = Table(NAME)
    table.add_row(NAME)
    table.add_row(Text("bold", "bold"))
    terminal.print(NAME, table, NAME, sep="\n")
    terminal.print(NAME, markup=True, emoji=True)
    assert out.getvalue().count(SHOWN) == 5 and out.getvalue().replace("\n", "").isprintable()


def test_inspect_shows_a_manifest_as_it_is(flagdit, monkeypatch: pytest.MonkeyPatch, named: Path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", "400")
    code, out, err = flagdit("inspect", named)
    assert code == 0, err
    assert out.replace("\n", "").isprintable()
    assert out.count(SHOWN) == 6  # model, licences twice, written by, two engines
    code, out, _ = flagdit("inspect", named, "--json")
    assert code == 0 and out.isascii() and "\x1b" not in out and json.loads(out)["model"]["name"] == NAME


def test_engines_that_cannot_run_here(flagdit, monkeypatch: pytest.MonkeyPatch, named: Path) -> None:  # type: ignore[no-untyped-def]
    """Which they are, and why: in inspect, and wherever a bundle is loaded to run."""
    monkeypatch.setenv("COLUMNS", "400")
    code, out, _ = flagdit("inspect", named)
    rows = [line.split() for line in out.splitlines()]
    assert code == 0 and [row[-2:] for row in rows if row[:1] == ["denoise.onnx"]] == [["float16", "no"]] * 2
    reason = "it is for a GPU; run it with --device cuda --backend tensorrt-rtx"
    assert f"not used: denoise.onnx: {reason}\n" in out
    assert "not used: denoise.onnx: flagdit runs no denoise of float16 in an engine of its own on a CPU" in out
    code, _, err = flagdit("generate", "a red apple", "--bundle", named, "--steps", 2)
    assert code == 0 and err.startswith(f"not used: denoise.onnx: {reason}; denoise runs in float32 on the CPU\n")
    edit_json(named / MANIFEST, lambda manifest: manifest.update(engines=[]))
    code, _, err = flagdit("generate", "a red apple", "--bundle", named, "--steps", 2)
    assert code == 0 and "not used" not in err


@pytest.mark.parametrize("command", ["inspect", "generate", "build", "calibrate", "bench", "plan", "export"])
def test_errors_are_one_line_of_text(flagdit, command: str) -> None:  # type: ignore[no-untyped-def]
    """Of a path that does not exist."""
    arguments = {
        "generate": ("a", "--bundle", NAME),
        "plan": ("--bundle", NAME),
        "build": (NAME, "-o", "out"),
        "export": (NAME, "-o", "out"),
    }
    code, out, err = flagdit(command, *arguments.get(command, (NAME,)))
    assert code == 2 and out == ""
    assert err.startswith("error: ") and SHOWN in err and err.removesuffix("\n").isprintable()


def test_an_error_is_printable_for_whoever_prints_it() -> None:
    error = BundleError(f"{NAME}: missing\n  and a second line")
    assert str(error) == f"{SHOWN}: missing\n  and a second line"
