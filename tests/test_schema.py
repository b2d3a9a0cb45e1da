"""The format of a bundle: code, documents and the schema in the repository say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pydantic
import pytest

from flagdit.engine.bundle import Manifest, Spec
from flagdit.engine.bundle.reader import DEMO
from flagdit.engine.bundle.schema import manifest_schema

DOCS = Path(__file__).parents[1] / "docs"
WRITTEN_BY = (2, 14)
"""The pydantic that docs/schema/manifest.json is written with: others word some of it differently."""


def classes(annotation: Any) -> Iterator[type[Spec]]:
    """All classes of fields that a type holds, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
        for field in annotation.model_fields.values():
            yield from classes(field.annotation)
    for argument in get_args(annotation):
        yield from classes(argument)


def test_every_field_is_documented_and_no_other() -> None:
    sections = re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", (DOCS / "bundle.md").read_text(), re.M | re.S)
    documented = {name: re.findall(r"^\| `(\w+)` \|", text, re.M) for name, text in sections}
    assert documented == {kind.__name__: list(kind.model_fields) for kind in classes(Manifest)}


def test_the_schema_is_the_codes(flagdit) -> None:  # type: ignore[no-untyped-def]
    code, out, err = flagdit("inspect", "--schema")
    assert (code, err) == (0, "")
    assert json.loads(out) == manifest_schema()
    kept = (DOCS / "schema" / "manifest.json").read_text()
    if tuple(map(int, pydantic.VERSION.split(".")[:2])) != WRITTEN_BY:
        pytest.skip("another pydantic wrote the schema in docs")
    assert out == kept, "flagdit inspect --schema > docs/schema/manifest.json"


def test_the_schema_knows_the_demo() -> None:
    """Walked by hand: every key of the demo's manifest is a property, and nothing that is required is missing."""
    schema = manifest_schema()
    walked: set[str] = set()

    def walk(value: Any, rule: dict[str, Any]) -> None:
        if "$ref" in rule:
            name = rule["$ref"].rpartition("/")[2]
            walked.add(name)
            rule = schema["$defs"][name]
        if isinstance(value, dict) and "properties" in rule:
            assert set(rule.get("required", ())) <= value.keys() <= rule["properties"].keys()
            for key, child in value.items():
                walk(child, rule["properties"][key])
        elif isinstance(value, dict) and isinstance(rule.get("additionalProperties"), dict):
            for child in value.values():
                walk(child, rule["additionalProperties"])
        elif isinstance(value, list):
            rules = rule.get("prefixItems") or [rule.get("items", {})] * len(value)
            for child, of in zip(value, rules, strict=True):
                walk(child, of)
        elif "anyOf" in rule and isinstance(value, dict):
            walk(value, next(option for option in rule["anyOf"] if "$ref" in option))

    walk(json.loads((DEMO / "manifest.json").read_text()), schema)
    assert {"ModelSpec", "Graphs", "Tensor", "Preset", "Text", "Engine"} <= walked


def test_schema_is_all_that_is_asked_for(flagdit) -> None:  # type: ignore[no-untyped-def]
    code, _, err = flagdit("inspect")
    assert code == 2 and "BUNDLE" in err.upper()
