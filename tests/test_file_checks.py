"""What is refused before the work: outputs that are one file, or an input, or no file at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flagdit.files import OutputError, check_apart, check_file


def links(folder: Path) -> None:
    (folder / "in.txt").write_text("prompts")
    (folder / "link.json").symlink_to("in.txt")
    (folder / "to.png").symlink_to("a.png")
    (folder / "here").symlink_to(".")
    os.link(folder / "in.txt", folder / "twin.json")


APART = {
    "the same": ({"-o": "a.png", "--map": "a.png"}, "--map a.png: is also what -o writes; give each a file of its own"),
    "by another way": ({"-o": "a.png", "--map": "sub/../a.png"}, "is also what -o writes"),
    "by a linked folder": ({"-o": "a.png", "--map": "here/a.png"}, "is also what -o writes"),
    "by a link": ({"-o": "a.png", "--map": "to.png"}, "is also what -o writes"),
    "a link to the input": (
        {"--json": "link.json"},
        "--json link.json: is --prompts, which is read; give another path",
    ),
    "the input itself": ({"--json": "in.txt"}, "is --prompts, which is read"),
    "the input's other name": ({"--json": "twin.json"}, "is --prompts, which is read"),
    "a file of a folder": (
        {"--json": "k.json", "--keep": "k.json/pictures"},
        "lies in k.json, which --json makes a file",
    ),
    "apart": ({"-o": "a.png", "--map": "b.png", "--report": "a.json", "--keep": "a", "--plot": None}, None),
    "a file in a folder": ({"--keep": "sub", "--json": "sub/a.json"}, None),
}


@pytest.mark.parametrize("case", APART)
def test_outputs_are_apart(tmp_path: Path, case: str) -> None:
    (tmp_path / "sub").mkdir()
    links(tmp_path)
    names, message = APART[case]
    outputs = {what: None if name is None else tmp_path / name for what, name in names.items()}
    if message is None:
        check_apart(outputs, {"--prompts": tmp_path / "in.txt", "--examples": None})
        return
    with pytest.raises(OutputError) as error:
        check_apart(outputs, {"--prompts": tmp_path / "in.txt", "--examples": None})
    assert message in str(error.value).replace(f"{tmp_path}/", "")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (Path.mkdir, "is a folder; give the name of a file"),
    "a link to a folder": (lambda path: path.symlink_to(path.parent), "is a folder; give the name of a file"),
    "a pipe": (os.mkfifo, "is no file but a device or a pipe"),
    "a link to a device": (lambda path: path.symlink_to("/dev/null"), "is no file but a device or a pipe"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_file_is_refused(tmp_path: Path, case: str) -> None:
    make, message = REFUSED[case]
    make(tmp_path / "a.png")
    with pytest.raises(OutputError, match=message):
        check_file(tmp_path / "a.png", (".png",))


def test_a_file_that_only_its_owner_may_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in /tmp."""
    tmp_path.chmod(0o1777)
    (tmp_path / "a.png").touch()
    check_file(tmp_path / "a.png", (".png",))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(OutputError, match="belongs to another user"):
        check_file(tmp_path / "a.png", (".png",))


def test_a_folder_that_cannot_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(OutputError, match=r"a\.png: cannot be written \(Permission denied\); choose another path"):
        check_file(tmp_path / "a.png", (".png",))
