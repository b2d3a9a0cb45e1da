"""Requests that no run serves: refused by one line that says what is allowed, before anything is allocated."""

from __future__ import annotations

import pytest
from tiny import assert_refused

from flagdit.engine import Pipeline, RasConfig

BAD = {
    "empty prompt": ({"prompt": "  "}, "the prompt is empty"),
    "no text": ({"prompt": "a \udcff book"}, r"the prompt 'a \udcff book' is no Unicode text; write it in UTF-8"),
    "no prompt": ({}, "give either one prompt or a list"),
    "long prompt": ({"prompt": "a " * 12}, "has 14 tokens; allowed are 12"),
    "size": ({"prompt": "a", "size": (33, 32)}, "33x32 is not made of 4x4 patches; the nearest is 32x32"),
    "one side": ({"prompt": "a", "size": 64}, "size is 64; allowed are a width and a height, for instance (64, 64)"),
    "three sides": ({"prompt": "a", "size": (1, 64, 64)}, "size is (1, 64, 64); allowed are a width and a height"),
    "half a pixel": ({"prompt": "a", "size": (64.5, 64)}, "size is (64.5, 64); allowed are a width and a height"),
    "zero size": ({"prompt": "a", "size": (0, 32)}, "nearest is 4x32"),
    "huge size": ({"prompt": "a", "size": (4000, 4000)}, "tokens; allowed are 131072"),
    "memory": ({"prompts": ["a"] * 1000, "size": (1024, 1024)}, "GB of memory are needed, and this process may hold"),
    "pictures": ({"prompts": ["a"] * 1025}, "there are 1025 prompts; allowed are 1 to 1024 at a time"),
    "warm-up above": ({"prompt": "a", "ras": RasConfig(warmup=10**9)}, "warmup is 1000000000; allowed are whole numb"),
    "warm-up between": ({"prompt": "a", "ras": RasConfig(warmup=1.5)}, "warmup is 1.5; allowed are whole numbers"),  # type: ignore[arg-type]
    "resets above": ({"prompt": "a", "ras": RasConfig(resets=(10**9,))}, "a reset is 1000000000; allowed are whole"),
    "many resets": ({"prompt": "a", "ras": RasConfig(resets=(1,) * 1001)}, "resets has 1001 values; allowed are 1000"),
    "ratio": ({"prompt": "a", "ras": RasConfig(ratio=0.0)}, "ratio"),
    "ratio above": ({"prompt": "a", "ras": RasConfig(ratio=1.5)}, "ratio"),
    "ratio nan": ({"prompt": "a", "ras": RasConfig(ratio=float("nan"))}, "ratio"),
    "ratio list": ({"prompt": "a", "ras": RasConfig(ratio=[0.5] * 29)}, "29"),
    "steps": ({"prompt": "a", "steps": 0}, "steps is 0; allowed are 1 to 1000"),
    "resets": ({"prompt": "a", "steps": 10, "ras": RasConfig(resets=(12,))}, "12"),
    "warmup": ({"prompt": "a", "ras": RasConfig(warmup=0)}, "warmup: got 0"),
    "max_age": ({"prompt": "a", "ras": RasConfig(ratio=0.125, max_age=2)}, "max_age is 2"),
    "guidance": ({"prompt": "a", "guidance": float("nan")}, "guidance is nan"),
    "shift": ({"prompt": "a", "shift": 0.0}, "shift is 0.0; allowed are 0.1 to 100"),
    "seed": ({"prompt": "a", "seed": -1}, "seed -1 is out of bounds; allowed are 0 to 18446744073709551615 (2^64 - 1)"),
    "seed above": ({"prompts": ["a", "the"], "seed": 2**64 - 1}, "seed 18446744073709551616 is out of bounds"),
    "seed between": ({"prompt": "a", "seed": 1.5}, "seed 1.5 is no integer"),
    "seed of two": ({"prompt": "a", "seeds": [True]}, "seed True is no integer"),
    "seeds": ({"prompts": ["a", "the"], "seeds": [1]}, "2 prompts and 1 seeds"),
    "one seed": ({"prompt": "a", "seeds": 3}, "seeds is 3; allowed is a list, a seed for each prompt"),
    "a dict": ({"prompt": "a", "ras": {"ratio": 0.5}}, "ras is of type dict; allowed is RasConfig(...)"),
    "ntk": ({"prompt": "a", "ntk": 0.9}, "ntk is 0.9; allowed are 'auto', a factor of 1 to 10000, and None (off)"),
    "ntk nan": ({"prompt": "a", "ntk": float("nan")}, "ntk is nan"),
    "ntk text": ({"prompt": "a", "ntk": "on"}, "ntk is 'on'"),
    "no prompts": ({"prompts": []}, "there is no prompt"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_refused(pipeline: Pipeline, case: str) -> None:
    assert_refused(pipeline, *BAD[case])


@pytest.mark.parametrize("case", ["ratio list", "resets", "warmup", "max_age", "ntk"])
def test_a_bad_request_allocates_nothing(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setattr("flagdit.cpp_ext.Run", lambda *_, **__: pytest.fail("a run was made"))
    assert_refused(pipeline, *BAD[case])
