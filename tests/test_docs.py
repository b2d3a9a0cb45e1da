"""The documents keep their word: the tests they name exist, and what they import is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flagdit.engine import Pipeline, RasConfig

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])


def faults() -> dict[int, str]:
    """The table of docs/ras.md: its last column by number."""
    text = (ROOT / "docs" / "ras.md").read_text()
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert all(len(cells) == 5 for cells in table)
    return {int(cells[0]): cells[-1] for cells in table}


def test_every_fault_has_its_line() -> None:
    assert list(faults()) == list(range(1, 18))


@pytest.mark.parametrize("number", faults())
def test_the_tests_of_a_fault_exist(number: int) -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", faults()[number])
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


def test_a_session_of_ones_own_paints_the_same_picture() -> None:
    """The example of CONTRIBUTING.md, as it is written."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    expected = Pipeline.load("demo")("a red apple", preset="draft")
    np.testing.assert_array_equal(names["result"].latents, expected.latents)


GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()


def test_the_glossary_names_files_that_are_there() -> None:
    named = set(re.findall(r"`(\w+\.h)`", GLOSSARY))
    assert named and not {name for name in named if not (ROOT / "cpp_ext/include/flagdit" / name).exists()}


def test_links_between_documents_lead_somewhere() -> None:
    """To files that are there, and to headings that are in them."""
    for path in DOCUMENTS:
        for target, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", path.read_text()):
            file = path if not target else (path.parent / target).resolve()
            assert file.exists(), f"{path.name}: {target}"
            if heading and file.suffix == ".md":
                assert heading in anchors(file), f"{path.name}: {target}#{heading}"


def anchors(path: Path) -> set[str]:
    """Of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_unknown_options_are_refused() -> None:
    with pytest.raises(TypeError, match="replace_with_flash_attn"):
        RasConfig(replace_with_flash_attn=True)  # type: ignore[call-arg]
