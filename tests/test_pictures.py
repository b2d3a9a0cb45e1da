"""Several pictures by one command: which, in what files, and what is left when it is stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from flagdit.engine import OutputError
from flagdit.engine.commands import paint
from flagdit.engine.commands.names import Names
from flagdit.engine.run import Run

PROMPT = "a red apple on a blue background"
FAST = ("--steps", 3, "--ratio", 0.5)


def pixels(path: Path | str) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def files(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def test_every_prompt_and_seed_is_the_picture_it_is_alone(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """With options that make pictures of a batch decide together, too."""
    options = ("--bundle", bundle_dir, *FAST, "--error-budget", 0.05, "--seed", 7)
    code, _, err = flagdit("generate", "a book", "green star", *options, "--count", 2, "--report", "r.json")
    assert code == 0, err
    names = [f"out-000{i}.png" for i in (1, 2, 3, 4)]
    assert files(tmp_path) == {*names, *(f"r-000{i}.json" for i in (1, 2, 3, 4))}
    for i, (prompt, seed) in enumerate((prompt, seed) for prompt in ("a book", "green star") for seed in (7, 8)):
        report = json.loads((tmp_path / f"r-000{i + 1}.json").read_text())
        assert (report["prompt"], report["seed"]) == (prompt, seed)
        line = next(line for line in err.splitlines() if line.startswith(f"{names[i]}  32x32, 3 steps"))
        assert f", seed {seed};" in line
        assert flagdit("generate", prompt, *options[:-1], seed, "-o", "alone.png")[0] == 0
        assert pixels("alone.png") == pixels(names[i])
    assert len({pixels(name) for name in names}) == 4


def test_prompts_of_a_file(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "prompts.txt").write_text("# of the test\n\n a book \n#a star\ngreen star\n")
    (tmp_path / "made").mkdir()
    for expected in (("0001.png", "0002.png"), ("0003.png", "0004.png")):
        code, _, err = flagdit("generate", "--bundle", bundle_dir, *FAST, "--prompts", "prompts.txt", "-o", "made")
        assert code == 0, err
        assert [f"made/{name}  32x32" in err for name in expected] == [True, True]
    assert files(tmp_path / "made") == {f"000{i}.png" for i in (1, 2, 3, 4)}
    assert pixels("made/0001.png") == pixels("made/0003.png") != pixels("made/0002.png")


def test_one_picture_has_its_name_and_says_what_it_replaces(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for replaced in (False, True):
        code, _, err = flagdit("generate", PROMPT, "--bundle", bundle_dir, *FAST, "-o", "a.png")
        assert code == 0 and ("it took the place of a file of that name" in err) is replaced
    assert files(tmp_path) == {"a.png"}


def test_a_random_seed_is_said_everywhere(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    options = ("--bundle", bundle_dir, *FAST, "-o", "a%d.png", "--report", "r.json")
    code, _, err = flagdit("generate", PROMPT, *options, "--seed", "random", "--count", 2)
    assert code == 0, err
    seeds = [json.loads((tmp_path / f"r-000{i}.json").read_text())["seed"] for i in (1, 2)]
    assert seeds[1] == seeds[0] + 1 and all(f"seed {seed};" in err for seed in seeds)
    assert flagdit("generate", PROMPT, *options, "--seed", seeds[1])[0] == 0
    assert pixels("a3.png") == pixels("a2.png") != pixels("a1.png")
    assert files(tmp_path) == {f"a{i}.png" for i in (1, 2, 3)} | {f"r-000{i}.json" for i in (1, 2, 3)}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OutputError])
def test_what_is_done_is_kept_when_it_is_stopped(
    flagdit, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:  # type: ignore[no-untyped-def]
    """In the middle of the third picture, or of writing it."""
    done = []

    def write(path: Path, *rest: object, **more: object) -> None:
        done.append(path)
        if len(done) == 3:
            raise stop("no more")
        written(path, *rest, **more)  # type: ignore[arg-type]

    written = paint.write
    monkeypatch.setattr(paint, "write", write)
    code, _, err = flagdit("generate", PROMPT, "--bundle", bundle_dir, *FAST, "--count", 4)
    assert code != 0 and files(tmp_path) == {"out-0001.png", "out-0002.png"}
    assert stop is OutputError or "stopped after 2 of 4 pictures, which are kept" in err
    assert "Traceback" not in err


BAD = {
    "neither": ([], "give either prompts or a file of them; for instance: flagdit generate"),
    "both": (["a", "--prompts", "p.txt"], "give either prompts or a file of them"),
    "no file": (["--prompts", "none.txt"], "none.txt: there is no such file"),
    "none": (["a", "--count", "0"], "1 prompts and a count of 0; allowed are 1 to 10000 pictures in all"),
    "too many": (["a", "the", "--count", "5001"], "2 prompts and a count of 5001; allowed are 1 to 10000"),
    "the last seed": (["a", "--count", "2", "--seed", str(2**64 - 1)], f"seed {2**64} is out of bounds"),
    "the second prompt": (["a", "a " * 12], "the prompt has 14 tokens; allowed are 12"),
    "seed": (["a", "--seed", "ramdom"], "seed 'ramdom' is neither a whole number of 0 to 18446744073709551615"),
    "negative": (["a", "--negative", "b", "--guidance", "1"], "there is a negative prompt and guidance is 1"),
    "same file": (["a", "--map", "out.png"], "out.png: is also what"),
    "same numbers": (["a", "the", "--map", "out.png"], "out-0001.png: is also what"),
    "kind of many": (["a", "the", "-o", "out.bmp"], "allowed are .png, .jpg, .jpeg, .webp"),
    "kind of a template": (["a", "-o", "out-%d"], "allowed are .png, .jpg, .jpeg, .webp"),
}


@pytest.mark.parametrize("case", BAD)
def test_is_refused_before_the_first_picture(
    flagdit, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:  # type: ignore[no-untyped-def]
    arguments, message = BAD[case]
    monkeypatch.setattr(Run, "__iter__", lambda _: pytest.fail("a picture was begun"))
    code, out, err = flagdit("generate", *arguments, "--bundle", bundle_dir)
    assert code == 2 and message in err
    assert err.count("\n") == 1 and out == "" and list(tmp_path.iterdir()) == []


def taken(names: Names) -> list[str]:
    with names.taken() as paths:
        for path in paths.values():
            path.write_text("a picture")
    return [path.name for path in paths.values()]


@pytest.mark.parametrize(
    ("output", "several", "there", "expected"),
    [
        ("a.png", False, ["a.png", "a-0001.png"], "a.png"),
        ("a.png", True, [], "a-0001.png"),
        ("a.png", True, ["a.png", "a-0001.png", "a-0007.png", "b-0009.png", "a-x.png", "a-0010.jpg"], "a-0008.png"),
        ("a.png", True, ["a-9999.png"], "a-10000.png"),
        ("a.png", True, ["a-12.png"], "a-0013.png"),
        ("a%d.webp", False, ["a8.webp", "a9.webp"], "a10.webp"),
        ("%03d-a.jpg", True, ["005-a.jpg"], "006-a.jpg"),
        ("100%.png", True, ["100%-0003.png"], "100%-0004.png"),
        ("a.b+c.png", True, ["aXb+c-0003.png", "a.b+c-0001.png"], "a.b+c-0002.png"),
    ],
)
def test_numbers(tmp_path: Path, output: str, several: bool, there: list[str], expected: str) -> None:
    """Above all that there are, so that no file is lost and pictures stay in their order."""
    for name in there:
        (tmp_path / name).write_text("kept")
    names = Names({"-o": tmp_path / output}, several)
    assert names.next["-o"].name == expected
    assert taken(names) == [expected]
    assert all((tmp_path / name).read_text() == "kept" for name in there if name != output or several)


def test_all_files_of_a_picture_have_its_number(tmp_path: Path) -> None:
    (tmp_path / "r-0004.json").write_text("kept")
    names = Names({"-o": tmp_path / "a.png", "--report": tmp_path / "r.json", "--map": tmp_path / "m%d.png"}, True)
    assert taken(names) == ["a-0005.png", "r-0005.json", "m5.png"]
    assert taken(names) == ["a-0006.png", "r-0006.json", "m6.png"]


def test_two_commands_do_not_take_the_same_name(tmp_path: Path) -> None:
    """Both began when there was nothing, and one has come first."""
    one, other = (Names({"-o": tmp_path / "a.png"}, True) for _ in range(2))
    with one.taken() as mine:
        assert taken(other) == ["a-0002.png"]
        mine["-o"].write_text("a picture")
    assert (mine["-o"].name, taken(one), taken(other)) == ("a-0001.png", ["a-0003.png"], ["a-0004.png"])
