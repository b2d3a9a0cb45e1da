"""tests/runtime/fixtures.json is what Python says; the C++ tests, on any machine, compare with it.

`python tests/test_fixtures.py` writes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prompts import prompts
from tokenizers import Tokenizer

from flagdit.engine.admission import admit
from flagdit.engine.bundle.reader import DEMO, Bundle
from flagdit.engine.memory import memory
from flagdit.engine.preflight import Preflight
from flagdit.engine.request import Request
from flagdit.engine.resolve import Options

FIXTURES = Path(__file__).parent / "runtime" / "fixtures.json"
REQUESTS: list[dict[str, Any]] = [
    {"prompt": "a red apple"},
    {"prompt": "a red apple", "preset": "quality", "seed": 3},
    {"prompt": "a red apple", "steps": 7, "ratio": 0.5, "size": [96, 64], "guidance": 1},
    {"prompt": "a red apple", "steps": 12, "mode": "paper", "schedule": "32/3", "negative": "a face"},
    {"prompt": "a red apple", "preset": "fast", "dense": True, "size": "128x128"},
]
"""Of one picture in fp32."""


def tokens() -> list[dict[str, Any]]:
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    texts = ["", "a red apple on a blue background", *prompts(80, seed=11)]
    return [{"text": text, "ids": tokenizer.encode(text).ids} for text in texts]


def planned(said: dict[str, Any]) -> dict[str, Any]:
    """Steps, size and memory, with one thread."""
    ready = Preflight(Bundle.open("demo"), threads=1, precision="float32")
    options = Options(
        preset=said.get("preset"),
        steps=said.get("steps"),
        ratio=(said["ratio"], None) if "ratio" in said else None,
        mode=said.get("mode", "corrected"),
        dense=said.get("dense", False),
        schedule=(32, 3) if "schedule" in said else None,
    )
    sides = said.get("size", [64, 64])
    width, height = map(int, sides.split("x")) if isinstance(sides, str) else sides
    how = ready.resolve(options, (width, height))
    scale = ready.spec.guidance.chosen(said.get("guidance"))
    request = Request.of(
        how, [said["prompt"]], [0], size=(width, height), guidance=scale, negative=said.get("negative", "")
    )
    plans = [plan for _, plan, _ in admit(ready.spec, ready.prompts, request, precision="float32").legs]
    needed = memory(ready.spec, plans, "float32", samples=1, branches=request.branches, threads=1).total
    return {"request": said, "steps": sum(len(plan.steps) for plan in plans), "size": [width, height], "bytes": needed}


def fixtures() -> dict[str, Any]:
    return {"tokens": tokens(), "plans": [planned(said) for said in REQUESTS]}


def test_the_fixtures_are_what_python_says() -> None:
    assert json.loads(FIXTURES.read_text()) == fixtures()


if __name__ == "__main__":
    FIXTURES.write_text(json.dumps(fixtures(), indent=1) + "\n")
