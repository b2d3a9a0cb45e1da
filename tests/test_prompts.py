"""What a text becomes for an encoder: templates, what is cut and what fills up, as transformers' tokenizers do it."""

from __future__ import annotations

from pathlib import Path

import pytest
from encoders import VOCABULARY, write_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from flagdit.cpp_ext import Prompts, Tokenizer
from flagdit.engine import BundleError, RequestError

WORDS = st.lists(st.sampled_from(VOCABULARY[4:]), max_size=12).map(" ".join)


@pytest.fixture(scope="module", params=[(True, True), (True, False), (False, True)], ids=["both", "begin", "end"])
def tokenizers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """transformers' and ours, with marks at these ends."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    begin, end = request.param
    theirs = write_tokenizer(folder, begin=begin, end=end)
    return theirs, Tokenizer.read("tokenizer.json", (folder / "tokenizer.json").read_bytes())


@given(WORDS, st.integers(2, 9), st.booleans())
@settings(deadline=None, max_examples=60)
def test_texts_are_cut_and_filled_up(tokenizers, text: str, most: int, padded: bool) -> None:  # type: ignore[no-untyped-def]
    """Cut before the marks of the end, which stay."""
    theirs, ours = tokenizers
    found = Prompts(ours, most, padding=3 if padded else None, truncate=True).tokens(text)
    wanted = theirs(text, truncation=True, max_length=most).input_ids
    assert found == wanted + [3] * (most - len(wanted) if padded else 0)


@given(WORDS, st.booleans())
@settings(deadline=None, max_examples=30)
def test_texts_are_put_into_templates(tokenizers, text: str, negative: bool) -> None:  # type: ignore[no-untyped-def]
    theirs, ours = tokenizers
    into = {False: "user {} assistant", True: "modern {}"}
    prompts = Prompts(ours, 40, template=into[False], negative=into[True])
    assert prompts.tokens(text, negative=negative) == theirs(into[negative].replace("{}", text)).input_ids
    alike = Prompts(ours, 40, template=into[False])
    assert alike.tokens(text, negative=True) == theirs(into[False].replace("{}", text)).input_ids


def test_braces_of_a_prompt_are_its_own(tokenizers) -> None:  # type: ignore[no-untyped-def]
    theirs, ours = tokenizers
    assert Prompts(ours, 40, template="a {} star").tokens("red {} {}") == theirs("a red {} {} star").input_ids


def test_limits_count_after_the_template(tokenizers) -> None:  # type: ignore[no-untyped-def]
    theirs, ours = tokenizers
    most = len(theirs("a red apple").input_ids)
    prompts = Prompts(ours, most, template="a {}", negative="{}")
    prompts.check("red apple")
    prompts.check("a red apple", negative=True)
    with pytest.raises(RequestError, match=f"the prompt has {most + 1} tokens; allowed are {most}"):
        prompts.check("red apple star")


def test_of_several_encoders_the_longest_refuses(tokenizers) -> None:  # type: ignore[no-untyped-def]
    _, ours = tokenizers
    prompts = Prompts.of([Prompts(ours, 4, truncate=True, padding=0), Prompts(ours, 12)])
    assert len(prompts.all_tokens("a red apple on the left")[0]) == 4
    with pytest.raises(RequestError, match="allowed are 12, please shorten it"):
        prompts.check("a red apple on the left of a red apple on the left")
    with pytest.raises(RequestError, match="the prompt is empty"):
        prompts.check("")


def test_an_empty_text_needs_tokens(tmp_path: Path) -> None:
    """... which a template, or what fills up, may give."""
    write_tokenizer(tmp_path, begin=False)
    bare = Tokenizer.read("tokenizer.json", (tmp_path / "tokenizer.json").read_bytes())
    with pytest.raises(BundleError, match=r"tokenizer\.json: makes no token of an empty text, and guidance needs one"):
        Prompts(bare, 8)
    with pytest.raises(BundleError, match="makes no token of an empty text"):
        Prompts(bare, 8, template="user {}", negative="{}")
    with pytest.raises(BundleError, match="the tokenizer makes 2 tokens of an empty text; the model takes 1"):
        Prompts(bare, 1, template="user {} assistant")
    assert Prompts(bare, 8, template="user {}").tokens("") == [VOCABULARY.index("user")]
    assert Prompts(bare, 3, padding=5).tokens("") == [5, 5, 5]
