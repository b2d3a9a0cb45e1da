"""The program and the library without Python paint what Python paints: `make runtime` builds them first."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pipelines import CASES as FAMILIES
from pipelines import write_bundle
from records import SETTLED, WEIGHTS, changed
from test_pictures import painter, text  # noqa: F401

from flagdit.cpp_ext import FileRecord
from flagdit.engine import Pipeline
from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.bundle.reader import DEMO
from flagdit.engine.media import metadata

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "runtime"
PROGRAM, INSTALLED = BUILD / "flagdit_run", BUILD / "installed"
PROMPT = "a red apple, on a blue background"

pytestmark = pytest.mark.skipif(not PROGRAM.is_file(), reason="build/runtime is not there; next: make runtime")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the program finds ONNX Runtime: in Python's package; and where it runs (PWD)."""
    spec = find_spec("onnxruntime")
    assert spec is not None and spec.submodule_search_locations
    return {
        **os.environ,
        "FLAGDIT_ONNXRUNTIME": f"{next(iter(spec.submodule_search_locations))}/capi",
        "PWD": str(tmp_path_factory.mktemp("runs")),
    }


def run(environment: dict[str, str], *arguments: object, bundle: object = DEMO) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), str(bundle), *map(str, arguments)]
    where = environment["PWD"]
    return subprocess.run(command, env=environment, cwd=where, capture_output=True, text=True, check=False, timeout=300)


def told(report: dict[str, Any]) -> dict[str, Any]:
    """Without what is another each time, or of the package."""
    steps = [{name: value for name, value in step.items() if name != "seconds"} for step in report["steps"]]
    return {**report, "steps": steps, "seconds": sorted(report["seconds"]), "version": ""}


CASES = [
    "",
    "--preset quality --seed 9",
    "--dense --steps 6 --solver heun",
    "--precision float32 --ratio 0.5:0.2 --steps 8",
    "--mode paper --steps 10 --schedule 32/3",
    "--size 96x64 --ntk auto --proportional",
    "--coarse 2:5:0.4:2:1 --steps 6 --ras warmup=2 --ras max_age=4",
    "--guidance 1 --steps 5",
    "--negative 'a face' --guidance-every 2 --error-budget 0.05",
    "--ras defaults --ras resets=3,5 --steps 9",
    "--times 0,0.1,0.3,0.6,1 --forecast-kv 0.5",
]


@pytest.mark.parametrize("case", CASES)
def test_the_same_picture_and_report(environment: dict[str, str], tmp_path: Path, case: str) -> None:
    """To the byte, and in every field but times."""
    check_alike(environment, tmp_path, shlex.split(case), DEMO)


def test_a_picture_to_begin_with(environment: dict[str, str], tmp_path: Path) -> None:
    """Of PNGs in any colours: a palette, and one that is transparent."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[10:50, 30:] = 255
    Image.fromarray(mask).convert("P").save(tmp_path / "mask.png")
    options = ["--image", str(tmp_path / "image.png"), "--steps", "6"]
    check_alike(environment, tmp_path, [*options, "--strength", "0.5"], DEMO)
    check_alike(environment, tmp_path, [*options, "--mask", str(tmp_path / "mask.png")], DEMO)
    with Image.open(tmp_path / "core.png") as made:
        np.testing.assert_array_equal(np.asarray(made)[mask == 0], image[mask == 0][:, :3])
    refused = run(environment, PROMPT, "--mask", tmp_path / "mask.png")
    assert refused.returncode == 1 and "there is a mask and no picture that it is of" in refused.stderr
    refused = run(environment, PROMPT, "--image", DEMO / "manifest.json")
    assert refused.returncode == 1 and "manifest.json: cannot be read as a PNG picture" in refused.stderr


def test_an_autoencoder(environment: dict[str, str], tmp_path: Path, painter: Any) -> None:  # noqa: F811
    """Whole and in tiles."""
    for options in ([], ["--tile", "32", "--size", "64x96"]):
        check_alike(environment, tmp_path, ["--steps", "3", *options], painter[2].bundle.directory)


def test_a_model_that_ends_in_latents(environment: dict[str, str], tmp_path: Path, painter: Any) -> None:  # noqa: F811
    """Is refused before it is loaded, as in Python, and not after its last step."""
    shutil.copytree(painter[2].bundle.directory.parent / "model", tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    spec = json.loads(path.read_text())
    del spec["graphs"]["decode"]
    path.write_text(json.dumps(spec))
    build_bundle(tmp_path / "model", tmp_path / "bundle")
    refused = run(environment, PROMPT, "--steps", "2", bundle=tmp_path / "bundle")
    assert refused.returncode == 1 and "its bundle has no decode graph; export it with --vae" in refused.stderr
    assert "step" not in refused.stderr


SKIPS = ("--skip-layer-guidance", "1.5:0.01:0.6:0,1")


@pytest.mark.parametrize(("name", "more"), [("lumina2", ()), ("z-image", ()), ("sd3.5", SKIPS)])
def test_other_families(environment: dict[str, str], tmp_path: Path, name: str, more: tuple[str, ...]) -> None:
    """Templates, three encoders, texts beside the slots, norms that are kept, layers that a branch of guidance skips:
    the program knows no family.
    """
    write_bundle(FAMILIES[name], tmp_path)
    options = ["--steps", "4", "--size", "64x32", "--guidance", "2.5", *more]
    check_alike(environment, tmp_path, options, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("2.8", "skip_layer_guidance is 2.8, and this bundle's model has no branch that skips layers"),
        ("2.8:0.3", "skip_layer_guidance is from 0.3 to 0.2 of the steps; allowed are shares of 0 to 1"),
        ("2.8:0.1:0.2:", "skip_layer_guidance '2.8:0.1:0.2:' is not SCALE[:START[:STOP[:LAYERS]]]; for instance 2.8"),
        ("much", "skip_layer_guidance 'much' is not SCALE[:START[:STOP[:LAYERS]]]; for instance 2.8"),
    ],
)
def test_skip_layer_guidance_is_refused(environment: dict[str, str], said: str, message: str) -> None:
    refused = run(environment, PROMPT, "--skip-layer-guidance", said, "--steps", "16")
    assert refused.returncode == 1 and message in refused.stderr, refused.stderr


def test_a_larger_picture_is_placed_anew(environment: dict[str, str], tmp_path: Path) -> None:
    """On the way, by the factor that suits the model."""
    write_bundle(FAMILIES["next-dit"], tmp_path)
    options = "--steps 8 --ratio 0.5 --size 192x256 --guidance 2.5 --ntk auto --proportional"
    check_alike(environment, tmp_path, options.split(), tmp_path / "bundle")


def check_alike(environment: dict[str, str], tmp_path: Path, options: list[str], bundle: Path) -> None:
    made = run(
        environment, PROMPT, "-o", tmp_path / "core.png", "--report", tmp_path / "core.json", *options, bundle=bundle
    )
    assert made.returncode == 0, made.stderr
    code = "from flagdit.engine.cli import main; main()"
    files = ["-o", str(tmp_path / "python.png"), "--report", str(tmp_path / "python.json")]
    command = [sys.executable, "-c", code, "generate", PROMPT, "--bundle", str(bundle), *files, *options]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    core, python = (np.asarray(Image.open(tmp_path / name)) for name in ("core.png", "python.png"))
    assert np.array_equal(core, python)
    reports = [json.loads((tmp_path / name).read_text()) for name in ("core.json", "python.json")]
    assert told(reports[0]) == told(reports[1]) and list(reports[0]) == list(reports[1])
    about = [metadata.read(tmp_path / name).model_dump(exclude={"version"}) for name in ("core.png", "python.png")]
    assert about[0] == about[1]


def test_verify(environment: dict[str, str], believed: Path) -> None:
    """Reads what --inspect knows from a record of Python's, and names every file that is damaged."""
    with_records = {**environment, "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]}
    del with_records["FLAGDIT_NO_RECORDS"]
    shown = run(with_records, "--inspect", bundle=believed)
    assert shown.returncode == 0 and "large files are as they were when they were read last" in shown.stdout
    (believed / "place.onnx").unlink()
    refused = run(with_records, "--verify", bundle=believed)
    assert refused.returncode == 1 and refused.stdout == "" and len(refused.stderr.splitlines()) == 2
    assert f"Error: {believed / WEIGHTS}: damaged" in refused.stderr and "place.onnx: missing" in refused.stderr
    whole = run(environment, "--verify")
    assert (whole.returncode, whole.stdout, whole.stderr) == (0, "every byte is what the manifest says\n", "")


def test_a_known_file_is_read_in_parts(environment: dict[str, str], tmp_path: Path, cache: Path) -> None:
    """Those that its graphs need, and the picture is the same."""
    copy = Path(shutil.copytree(DEMO, tmp_path / "bundle"))
    digest = json.loads((copy / "manifest.json").read_text())["files"][WEIGHTS]["sha256"]
    with (copy / WEIGHTS).open("rb") as opened:
        FileRecord(opened.fileno(), changed(copy / WEIGHTS) + SETTLED).keep(digest)
    with_records = {**environment, "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]}
    del with_records["FLAGDIT_NO_RECORDS"]
    for name, where in (("known.png", with_records), ("whole.png", environment)):
        made = run(where, PROMPT, "--steps", 2, "-q", "-o", tmp_path / name, bundle=copy)
        assert made.returncode == 0, made.stderr
    np.testing.assert_array_equal(*(np.asarray(Image.open(tmp_path / name)) for name in ("known.png", "whole.png")))


def test_several_pictures(environment: dict[str, str], tmp_path: Path) -> None:
    """Are numbered, and never replace another; each is what it is alone."""
    for count in (1, 2):
        assert run(environment, "an apple", "a boat", "--steps", "3", "-o", tmp_path, "-q").returncode == 0
        assert len(list(tmp_path.iterdir())) == 2 * count
    alone = tmp_path / "alone.png"
    assert run(environment, "a boat", "--steps", 3, "-o", alone, "-q").returncode == 0
    assert np.array_equal(np.asarray(Image.open(alone)), np.asarray(Image.open(tmp_path / "0002.png")))


def test_reports_of_several_pictures(environment: dict[str, str], tmp_path: Path) -> None:
    """Have the numbers of their pictures, which are above all taken ones: named as by `flagdit generate`."""
    options = ["an apple", "a boat", "--count", "2", "--steps", "2", "-o", "p%03d.png", "--report", "r.json"]
    names = []
    for program in ("core", "python"):
        folder = tmp_path / program
        folder.mkdir()
        (folder / "r-0004.json").touch()
        if program == "core":
            run({**environment, "PWD": str(folder)}, *options).check_returncode()
        else:
            command = [sys.executable, "-c", "from flagdit.engine.cli import main; main()", "generate", *options]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
        names.append(sorted(file.name for file in folder.iterdir()))
        made = [metadata.read(folder / f"p{number:03}.png") for number in range(5, 9)]
        reports = [json.loads((folder / f"r-{number:04}.json").read_text()) for number in range(5, 9)]
        assert [(about.prompt, about.seed) for about in made] == [(r["prompt"], r["seed"]) for r in reports]
    assert names[0] == names[1] and len(names[0]) == 9


def test_pictures_of_several_programs_do_not_meet(environment: dict[str, str], tmp_path: Path) -> None:
    command = [PROGRAM, DEMO, "an apple", "--count", "2", "--steps", "1", "-o", tmp_path, "-q", "--threads", "1"]
    running = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [program.wait(timeout=300) for program in running] == [0, 0, 0]
    files = sorted(tmp_path.iterdir())
    assert len(files) == 6 and all(file.stat().st_size > 0 for file in files)


def test_prompts_of_a_file(environment: dict[str, str], tmp_path: Path) -> None:
    """A mark at its beginning is none of the text; the same bytes elsewhere are."""
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\xef\xbb\xbfan apple\n# none\n" + "\uff21 boat\n".encode())
    made = run(environment, "--prompts", file, "--steps", 1, "-o", tmp_path, "-q")
    assert made.returncode == 0, made.stderr
    assert [metadata.read(tmp_path / f"000{i}.png").prompt for i in (1, 2)] == ["an apple", "\uff21 boat"]


def test_a_full_output_is_no_success(environment: dict[str, str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [PROGRAM, DEMO, "a boat", "--plan"]
        ended = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1 and ended.stderr == "Error: standard output: cannot be written\n"


def test_plan_and_inspect(environment: dict[str, str]) -> None:
    shown = run(environment, "--inspect")
    assert shown.returncode == 0 and "emoji" in shown.stdout and "denoise runs in" in shown.stdout
    shown = run(environment, "a boat", "--plan", "--steps", "8", "--ratio", "0.5")
    assert shown.returncode == 0 and re.search(
        r"\d dense and \d RAS steps over 272 tokens, 8 evaluations", shown.stdout
    )


ERRORS: dict[str, tuple[list[str], str]] = {
    "no prompt": ([], "give either prompts or a file"),
    "blank": ([" "], "the prompt is empty"),
    "too long": (["red " * 3000], "has 12000 characters"),
    "a ratio": (["a", "--ratio", "x"], "is neither a number nor FROM:TO"),
    "steps": (["a", "--steps", "0"], "steps"),
    "a size": (["a", "--size", "65x64"], "is not made of 4x4 patches"),
    "a preset": (["a", "--preset", "finest"], "preset"),
    "a field": (["a", "--ras", "what=1"], "ras has no 'what'"),
    "memory": (["a", "--max-memory", "1M"], "of memory are needed"),
    "memory in words": (["a", "--max-memory", "much"], "max-memory is 'much'"),
    "a name that is an ending": (
        ["a", "-o", ".png"],
        "writes PNG alone; give a name that ends in .png, such as out.png",
    ),
    "no number": (
        ["a", "b", "-o", "a%n.png"],
        "a%n.png: has a place for something that is no number (%n); a number's is",
    ),
    "no image": (["a", "--image", ""], "image is empty; give a PNG picture, or leave it out"),
    "an image without end": (["a", "--image", "/dev/zero"], "/dev/zero: there is no such file; give a PNG picture"),
    "a map": (["a", "--map", "m.png"], "draws no maps; leave --map out, or use flagdit generate"),
    "a report of another kind": (["a", "--report", "r.txt"], "a report is JSON; give a name that ends in .json"),
    "no folder": (["a", "-o", "nowhere/a.png"], "there is no such folder"),
    "another format": (["a", "-o", "a.jpg"], "writes PNG alone"),
    "no runtime": (["a", "--onnxruntime", "/nowhere"], "pip install onnxruntime"),
    "a report that is the picture": (["a", "-o", "a.png", "--report", "./a.png"], "is also what -o writes"),
    "a report nowhere": (["a", "--report", "nowhere/r.json"], "there is no such folder"),
    "a report that is a folder": (["a", "--report", "."], "is a folder"),
    "a precision": (["a", "--precision", "fp4"], "precision 'fp4' is not one of"),
    "no UTF-8": (["a\udcff"], "no Unicode text; write it in UTF-8"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(environment: dict[str, str], case: str) -> None:
    """One line that says what to do, and nothing loaded."""
    arguments, message = ERRORS[case]
    refused = run(environment, *arguments)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: ") and message in refused.stderr and refused.stderr.count("\n") == 1


def test_no_bundle(environment: dict[str, str], tmp_path: Path) -> None:
    refused = run(environment, "a", bundle=tmp_path / "none")
    assert refused.returncode == 1 and "flagdit build MODEL -o" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("language", ["c", "cpp"])
def test_examples(environment: dict[str, str], tmp_path: Path, language: str) -> None:
    """Built as a user would, against what was installed: the picture is Python's."""
    if language == "c":
        packages = {**os.environ, "PKG_CONFIG_PATH": f"{INSTALLED}/lib/pkgconfig"}
        found = ["-I", f"{INSTALLED}/include", "-L", f"{INSTALLED}/lib", "-lflagdit"]
        if shutil.which("pkg-config"):
            flags = ["pkg-config", "--cflags", "--libs", "flagdit"]
            found = shlex.split(subprocess.run(flags, env=packages, check=True, capture_output=True, text=True).stdout)
        source = ROOT / "examples" / "c" / "paint.c"
        subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", source, "-o", tmp_path / "paint", *found], check=True)
    else:
        cmake = [Path(sys.executable).with_name("cmake"), "-S", ROOT / "examples" / "cpp", "-B", tmp_path]
        subprocess.run([*cmake, f"-DCMAKE_PREFIX_PATH={INSTALLED}"], check=True, capture_output=True)
        subprocess.run([cmake[0], "--build", tmp_path], check=True, capture_output=True)
    picture = tmp_path / ("out.ppm" if language == "c" else "out.png")
    own = {**environment, "LD_LIBRARY_PATH": f"{INSTALLED}/lib"}
    subprocess.run([tmp_path / "paint", DEMO, PROMPT, picture], env=own, check=True, timeout=300)
    expected = Pipeline.load("demo")(PROMPT, seed=7, preset="quality").image
    assert np.array_equal(np.asarray(Image.open(picture)), np.asarray(expected))


@pytest.mark.slow
def test_the_library_shows_its_interface_alone() -> None:
    """Names of the C interface, under a version, and what ONNX Runtime looks for."""
    command = ["nm", "-D", "--defined-only", INSTALLED / "lib" / "libflagdit.so"]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    names = {line.split()[-1] for line in listing.splitlines()}
    header = (INSTALLED / "include" / "flagdit.h").read_text()
    declared = set(re.findall(r"FLAGDIT_API [\w\s*]*?(flagdit_\w+)\(", header))
    assert {f"{name}@@FLAGDIT_1" for name in declared} | {"RegisterCustomOps@@FLAGDIT_1", "FLAGDIT_1"} == names
