"""What a picture says of itself: in all formats, to everyone who reads it, and enough to be made again."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from flagdit.engine import Coarse, Pipeline, RasConfig, RequestError
from flagdit.engine.commands.again import command, said, shell
from flagdit.engine.media import metadata
from flagdit.engine.report import About
from flagdit.engine.request import Request

PROMPT = "a red apple on a blue background"
SUFFIXES = (".png", ".jpg", ".webp")
every_format = pytest.mark.parametrize("suffix", SUFFIXES)


def parse(text: str) -> tuple[str, str, dict[str, str]]:
    """Prompt, negative prompt and facts, as Stable Diffusion web UI parses them (its `infotext_utils`, in essence)."""
    *lines, last = text.strip().split("\n")
    facts = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last)
    assert len(facts) >= 3  # or the web UI takes the line for a part of the prompt
    start = next((i for i, line in enumerate(lines) if line.startswith("Negative prompt:")), len(lines))
    negative = "\n".join(lines[start:]).removeprefix("Negative prompt:").strip()
    values = {name: json.loads(value) if value.startswith('"') else value for name, value in facts}
    return "\n".join(lines[:start]), negative, values


def comment(path: Path) -> str:
    """The UserComment, found by its bytes: tag 0x9286, of type 7 (undefined), in an EXIF of either byte order."""
    data = path.read_bytes()
    for order, tag in (("little", b"\x86\x92\x07\x00"), ("big", b"\x92\x86\x00\x07")):
        at = data.find(tag)
        if at >= 0:
            size, offset = (int.from_bytes(data[at + i : at + i + 4], order) for i in (4, 8))  # type: ignore[arg-type]
            exif = data.rfind(b"II*\0" if order == "little" else b"MM\0*", 0, at)
            code, text = data[exif + offset :][:8], data[exif + offset :][8:size]
            return text.decode({b"ASCII\0\0\0": "ascii", b"UNICODE\0": "utf-16-be"}[code])
    raise AssertionError("no UserComment")


def parameters(path: Path) -> str:
    """What web interfaces read, by other means than ours."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            return str(image.info["parameters"])
    return comment(path)


TEXTS = [
    PROMPT,
    "a book, flagdit: \"a 'star'\\",
    "a\nNegative prompt: the\nSteps: 1",
    "ein Ö star \N{ROCKET}",
]


@every_format
@pytest.mark.parametrize("prompt", TEXTS)
def test_every_reader_finds_prompt_and_seed(pipeline: Pipeline, tmp_path: Path, suffix: str, prompt: str) -> None:
    result = pipeline(prompt, negative="green star", seed=2**64 - 1, steps=3, guidance=2.5)
    path = tmp_path / f"a{suffix}"
    result.save(path)
    about = metadata.read(path)
    assert about == result.report.alone(0)
    assert (about.prompt, about.negative, about.seed, about.size) == (prompt, "green star", 2**64 - 1, (32, 32))
    assert about.digest == pipeline.spec.weights.sha256 and len(about.times) == 4
    text, negative, facts = parse(parameters(path))
    if "Negative prompt" not in prompt:  # that is how the web UI reads it
        assert (text, negative) == (prompt, "green star")
    expected = {"Steps": "3", "Sampler": "ab2", "CFG scale": "2.5", "Seed": str(2**64 - 1), "Size": "32x32"}
    assert facts.items() >= expected.items()
    assert facts["Model hash"] == about.digest[:10] and facts["Version"] == f"flagdit {about.version}"


@every_format
def test_pictures_of_a_batch_speak_for_themselves(pipeline: Pipeline, tmp_path: Path, suffix: str) -> None:
    result = pipeline(prompts=["a book", "green star"], seeds=[4, 7], steps=2)
    for i, (prompt, seed) in enumerate((("a book", 4), ("green star", 7))):
        result.save(tmp_path / f"a{suffix}", i)
        about = metadata.read(tmp_path / f"a{suffix}")
        assert (about.prompt, about.seed, about.pictures) == (prompt, seed, 2)


def test_a_jpeg_has_room_for_less(pipeline: Pipeline, tmp_path: Path) -> None:
    """First without what others read, then without anything: the picture is written all the same."""
    about = pipeline("a book", steps=2).report.alone(0)
    for length in (1000, 40_000, 80_000):
        longer = about.model_copy(update={"prompt": "a" * length})
        for suffix in SUFFIXES:
            path = tmp_path / f"{length}{suffix}"
            Image.new("RGB", (8, 8)).save(path, **metadata.options_of(longer, path))
            if (length, suffix) != (80_000, ".jpg"):
                assert metadata.read(path) == longer
    assert "Steps: 2" in parameters(tmp_path / "1000.jpg") and "Steps: 2" not in parameters(tmp_path / "40000.jpg")
    with pytest.raises(RequestError, match="does not say how it was made"):
        metadata.read(tmp_path / "80000.jpg")


def test_what_is_no_such_picture_is_refused(flagdit, pipeline: Pipeline, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    plain = Image.new("RGB", (8, 8))
    for suffix in SUFFIXES:
        plain.save(tmp_path / f"plain{suffix}")
    info = PngInfo()
    info.add_itxt("flagdit", '{"prompt": "a"}')
    plain.save(tmp_path / "old.png", pnginfo=info)
    (tmp_path / "text.png").write_text("no picture")
    pipeline("a book", steps=1).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:60])
    for name, message in {
        "plain.png": "does not say how it was made",
        "plain.jpg": "does not say how it was made",
        "plain.webp": "does not say how it was made",
        "old.png": "was made by another version of flagdit, or changed since (model: Field required)",
        "text.png": "cannot be read as a PNG, JPEG or WebP picture",
        "cut.jpg": "cannot be read",
        "none.png": "cannot be read",
    }.items():
        code, out, err = flagdit("inspect", name)
        assert code == 2 and out == "" and err.startswith(f"error: {name}: ") and message in err, err
        assert err.count("\n") == 1


AGAIN: dict[str, list[Any]] = {
    "nothing": [],
    "text": ["--negative", "$(star) 'a'", "--seed", 2**64 - 1, "--guidance", 2.3],
    "preset": ["--preset", "fast", "--size", "48x16"],
    "steps": ["--steps", 5, "--shift", 2.7, "--solver", "heun", "--ratio", "0.5:0.3"],
    "times": ["--times", "0,.00001,.3333333333333333,1", "--solver", "euler"],
    "ras": [
        "--steps",
        6,
        "--ratio",
        0.5,
        "--ras",
        "warmup=1",
        "--ras",
        "resets=",
        "--ras",
        "metric=std",
        "--ras=bucket=4",
    ],
    "defaults": ["--steps", 6, "--ras", "defaults", "--ras", "ratio=.5,.4,.3,.3,.3,1", "--ras", "forecast_norm=yes"],
    "own options": ["--steps", 6, "--ratio", 0.5, "--error-budget", 0.05, "--guidance-every", 2, "--forecast-kv", 0.3],
    "paper": ["--mode", "paper", "--steps", 8, "--ratio", 0.5, "--schedule", "8/4"],
    "dense": ["--dense", "--steps", 4, "--precision", "float32"],
    "coarse": ["--coarse", "2:3:0.35:none:0.9", "--steps", 3, "--ntk", "auto", "--proportional", "--size", "64x64"],
    "coarse times": ["--coarse", "2:0,.4,.7:0.35:1.5:0.7", "--steps", 3, "--ntk", 1.7],
}


@pytest.mark.parametrize("case", AGAIN)
def test_the_command_makes_the_picture_again(flagdit, bundle_dir: Path, tmp_path: Path, case: str) -> None:  # type: ignore[no-untyped-def]
    """As it is printed, read by a shell's rules; and it says of itself what the first does."""
    (tmp_path / "bundle").symlink_to(bundle_dir)
    prompt = "-a 'red' apple"
    name = f"out{SUFFIXES[len(case) % 3]}"
    code, _, err = flagdit("generate", "-o", name, "--bundle", "bundle", *AGAIN[case], "--", prompt)
    assert code == 0, err
    code, out, err = flagdit("inspect", name)
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("again: flagdit ")]
    code, _, err = flagdit(*shlex.split(line)[2:])
    assert code == 0, err
    again = tmp_path / f"again{Path(name).suffix}"
    with Image.open(tmp_path / name) as first, Image.open(again) as second:
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
    abouts = [metadata.read(path).model_copy(update={"options": None}) for path in (tmp_path / name, again)]
    assert abouts[0] == abouts[1]


@pytest.mark.slow
def test_a_calibrated_preset_is_made_again(flagdit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The demo's, whose steps have weights that no option says."""
    for preset in ("draft", "quality"):
        name = f"{preset}.png"
        assert flagdit("generate", PROMPT, "--preset", preset, "--seed", 5, "-o", name)[0] == 0
        _, out, _ = flagdit("inspect", name)
        assert f"preset    {preset}" in out and "weights   of each step" in out
        assert flagdit(*shlex.split(out.splitlines()[-1])[2:])[0] == 0
        assert Image.open("again.png").tobytes() == Image.open(name).tobytes()


PYTHON: dict[str, dict[str, Any]] = {
    "ras": {"steps": 6, "ras": RasConfig(0.3, resets=(-1, 4), bucket=4, forecast=2)},
    "paper": {"steps": np.int64(6), "ras": RasConfig(ratio=0.5, mode="paper", high_ratio=0.5)},
    "coarse": {"coarse": Coarse(2, (0.0, 0.5, 1.0), None, 0.3), "steps": 3},
    "times": {"steps": np.array([0, 0.1, 0.5, 1]), "solver": "midpoint", "seed": 9},
}


@pytest.mark.parametrize("case", PYTHON)
def test_what_python_made_is_made_again(
    flagdit, pipeline: Pipeline, bundle_dir: Path, tmp_path: Path, case: str
) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "bundle").symlink_to(bundle_dir)
    result = pipeline(PROMPT, **PYTHON[case])
    result.save("out.png")
    code, _, err = flagdit(*command(metadata.read(Path("out.png")), "again.png"), "--threads", 1)
    assert code == 0, err
    assert Image.open("again.png").tobytes() == result.image.tobytes()


def test_a_request_of_its_own_has_no_command(flagdit, pipeline: Pipeline, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = pipeline.start(Request([PROMPT], [3], 2, None, 4.0, 1.0, RasConfig(ratio=1.0)))
    for _ in run:
        pass
    run.result().save("own.png")
    code, out, _ = flagdit("inspect", "own.png")
    assert code == 0 and "for which there is no command" in out and "again:" not in out


def test_as_json(flagdit, pipeline: Pipeline, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pipeline(PROMPT, seed=2**64 - 1, steps=2).save("a.webp")
    code, out, _ = flagdit("inspect", "a.webp", "--json")
    assert code == 0 and json.loads(out)["seed"] == 2**64 - 1
    assert About.model_validate_json(out) == metadata.read(Path("a.webp"))


def test_a_picture_says_nothing_to_the_terminal(flagdit, pipeline: Pipeline, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Nor does what it says do anything in a shell: a picture may come from anyone."""
    evil = "a\x1b]0;owned\x07 \u202e`touch x`\n[bold]$(touch y)[/] 'b'"
    result = pipeline("a", steps=1)
    about = result.report.alone(0).model_copy(update={"prompt": evil, "bundle": "; touch z", "model": "\x1b[31m"})
    result.image.save("evil.png", **metadata.options_of(about, Path("evil.png")))
    code, out, _ = flagdit("inspect", "evil.png")
    assert code == 0 and "[bold]" in out
    assert all(c.isprintable() or c == "\n" for c in out)
    arguments = command(metadata.read(Path("evil.png")), "again.png")
    assert evil in arguments and shell(arguments) in out
    script = f'printf "%s\\0" {shell(arguments)}'
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True)
    assert done.stdout.decode().split("\0")[:-1] == arguments
    assert {path.name for path in tmp_path.iterdir()} == {"evil.png"}


def test_options_that_are_none_are_refused(pipeline: Pipeline) -> None:
    about = pipeline("a", steps=1).report.alone(0)
    for options in ({"steps": "many"}, {"coarse": {"factor": 99}}, {"ras": {"forecast": 7}}):
        with pytest.raises(RequestError, match="the options of the picture are none"):
            said(about.model_copy(update={"options": options}))


@pytest.mark.parametrize(
    "said_of", [{"scale": "much"}, {"scale": 1e9}, {"layers": [[1]]}, {"layers": list(range(2000))}]
)
def test_a_guidance_that_skips_no_layers_is_refused(flagdit, pipeline: Pipeline, said_of: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
    """`inspect` shows what the picture says, and in a sentence why no command makes it again."""
    result = pipeline("a", steps=1)
    about = result.report.alone(0).model_copy(update={"skip_layer_guidance": said_of})
    result.image.save("a.png", **metadata.options_of(about, Path("a.png")))
    code, out, err = flagdit("inspect", "a.png")
    assert code == 0 and not err and "the skip_layer_guidance of the picture is none: " in out
    assert "pydantic" not in out and "again:" not in out
