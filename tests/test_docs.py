"""The documents keep their word: the tests they name exist, and what they import is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from flagdit.engine import RasConfig

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])


def rows() -> dict[int, str]:
    """The table of docs/ras.md: its last column by row."""
    text = (ROOT / "docs" / "ras.md").read_text()
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert all(len(cells) == 5 for cells in table)
    return {int(cells[0]): cells[-1] for cells in table}


def test_every_fault_has_its_row() -> None:
    assert list(rows()) == list(range(1, 18))


@pytest.mark.parametrize("row", rows())
def test_the_tests_of_a_row_exist(row: int) -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", rows()[row])
    assert named
    for file, test in named:
        body = ast.parse((ROOT / "tests" / file).read_text()).body
        assert test in {node.name for node in body if isinstance(node, ast.FunctionDef)}


def test_documents_import_what_is_there() -> None:
    blocks = [block for path in DOCUMENTS for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)]
    imports = [node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    assert any((node.module or "").startswith("flagdit.") for node in imports)
    for node in imports:
        exec(compile(ast.Module([node], []), "document", "exec"), {})


def test_unknown_options_are_refused() -> None:
    with pytest.raises(TypeError, match="replace_with_flash_attn"):
        RasConfig(replace_with_flash_attn=True)  # type: ignore[call-arg]
