"""The command line as a user meets it: exit codes, one-line errors, whole files or none."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save_file
from tiny import TINY, random_flag_dit

PROMPT = "a red apple on a blue background"


def test_generate_writes_picture_report_and_map(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    options = ("--bundle", bundle_dir, "--steps", 12, "--size", "48x32", "--seed", 3, "--ratio", 0.5)
    outputs = ("-o", "a.png", "--report", "r.json", "--map", "m.png")
    code, _, err = flagdit("generate", PROMPT, *options, *outputs)
    assert code == 0, err
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (48, 32)
        about = json.loads(image.text["flagdit"])
    assert about["prompt"] == PROMPT and about["seed"] == 3
    with Image.open(tmp_path / "m.png") as image:
        assert image.format == "PNG" and image.width > 800
        assert "flagdit" in image.text
    report = json.loads((tmp_path / "r.json").read_text())
    assert {"flop_ratio", "expected_speedup", "cache_bytes", "backend", "seed", "version"} <= report.keys()
    facts = {"index", "t", "active", "dense", "size", "tokens", "evaluations", "branches", "seconds"}
    assert set(report["steps"][0]) == facts
    assert len(report["steps"]) == 12 and not report["steps"][5]["dense"]
    assert report["seconds"]["total"] > report["seconds"]["denoise"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "r.json", "m.png"}


def test_dense_and_ras_differ_and_repeat(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name, *options in (("ras",), ("again",), ("dense", "--dense"), ("full", "--ratio", "1.0")):
        code, _, err = flagdit("generate", PROMPT, "--bundle", bundle_dir, "-o", f"{name}.png", *options)
        assert code == 0, err
    pixels = {path.stem: Image.open(path).tobytes() for path in tmp_path.glob("*.png")}
    assert pixels["ras"] == pixels["again"] != pixels["dense"] == pixels["full"]


def test_solvers(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for solver, calls in (("euler", 8), ("ab2", 8), ("heun", 16), ("midpoint", 16)):
        options = ("--bundle", bundle_dir, "--steps", 8, "--ratio", 0.25, "--solver", solver, "-o", f"{solver}.png")
        code, _, err = flagdit("generate", PROMPT, *options, "--report", "r.json")
        assert code == 0, err
        report = json.loads((tmp_path / "r.json").read_text())
        dense = sum(step["dense"] for step in report["steps"])
        assert 0 < dense < 8 and (f"8 steps ({dense} dense, 16 evaluations)" in err) == (calls == 16)
        assert f"of the work of dense {solver}" in err
        assert (report["solver"], report["evaluations"], len(report["steps"])) == (solver, calls, 8)
        code, out, _ = flagdit("plan", "--tokens", 64, "--steps", 8, "--solver", solver)
        assert code == 0 and f"64 tokens, {calls} evaluations" in " ".join(out.split())
    assert len({Image.open(path).tobytes() for path in tmp_path.glob("*.png")}) == 4


@pytest.mark.parametrize("name", ["a[red].png", "a.jpg", "a.webp"])
def test_every_name_and_format_is_written_and_named(flagdit, bundle_dir: Path, tmp_path: Path, name: str) -> None:  # type: ignore[no-untyped-def]
    code, _, err = flagdit("generate", PROMPT, "--bundle", bundle_dir, "--steps", 2, "-o", name)
    assert code == 0 and f"\n{name}  32x32" in err
    with Image.open(tmp_path / name) as image:
        assert image.size == (32, 32)


def test_latents_are_not_painted(flagdit, model_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A model whose latents need a VAE that is not there: refused before it runs."""
    model = Path(shutil.copytree(model_dir, tmp_path / "model"))
    spec = json.loads((model / "model.json").read_text())
    spec["latent"]["space"] = "vae"
    (model / "model.json").write_text(json.dumps(spec))
    assert flagdit("build", "model", "-o", "bundle")[0] == 0
    code, _, err = flagdit("generate", PROMPT, "--bundle", "bundle")
    assert code == 2 and err.startswith(
        "error: the model ends in latents and its bundle has no decode graph; export it with --vae"
    )
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("name", ["m.gif", "m.webp"])
def test_a_map_may_move(flagdit, bundle_dir: Path, tmp_path: Path, name: str) -> None:  # type: ignore[no-untyped-def]
    code, _, err = flagdit("generate", PROMPT, "--bundle", bundle_dir, "--steps", 7, "--size", "48x16", "--map", name)
    assert code == 0, err
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 7
    assert {path.name for path in tmp_path.iterdir()} == {"out.png", name}


def test_sizes_beyond_training(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Both options change the picture, and the PNG says so."""
    pictures, told = [], []
    for options in (("--ntk", "off"), ("--ntk", "auto"), ("--ntk", 3), ("--no-proportional",), ("--proportional",)):
        given = ("--bundle", bundle_dir, "--steps", 8, "--size", "64x32", *options)
        code, _, err = flagdit("generate", PROMPT, *given)
        assert code == 0, err
        with Image.open(tmp_path / "out.png") as image:
            pictures.append(image.tobytes())
            about = json.loads(image.text["flagdit"])
        told.append((about["ntk"], about["proportional"]))
    assert told == [(1, False), (2, False), (3, False), (1, False), (1, True)]
    assert pictures[0] == pictures[3] and len(set(pictures)) == 4


BAD_GENERATE = {
    "empty prompt": (["", "-o", "a.png"], "the prompt is empty"),
    "size": (["a", "--size", "33x32"], "33x32 is not made of 4x4 patches; the nearest is 32x32"),
    "size text": (["a", "--size", "big"], "size 'big' is not WIDTHxHEIGHT"),
    "ratio": (["a", "--ratio", "0"], "ratio"),
    "ratio words": (["a", "--ratio", "half"], "ratio 'half' is neither a number nor FROM:TO; for instance 0.25"),
    "error budget": (["a", "--error-budget", "11"], "error_budget is 11.0; allowed are 0 to 10"),
    "both": (["a", "--ratio", "0.5", "--dense"], "dense and ratio contradict each other; give one of them"),
    "both schedules": (["a", "--schedule", "8/4", "--dense"], "dense and schedule contradict each other"),
    "schedule": (["a", "--schedule", "8"], "schedule '8' is not PATCHES/STEPS"),
    "schedule of nothing": (["a", "--schedule", "8/0"], "schedule '8/0' is not PATCHES/STEPS, neither of them 0"),
    "steep schedule": (
        ["a", "--mode", "paper", "--schedule", "32/4"],
        "patches to cache in step 4: got -64, allowed 0..63",
    ),
    "ratio above": (["a", "--ratio", "1.01"], "ratio"),
    "steps": (["a", "--steps", "0"], "steps is 0; allowed are 1 to 1000"),
    "solver": (["a", "--solver", "rk4"], "solver: got 'rk4', allowed 'euler', 'midpoint', 'heun', 'ab2'"),
    "seed": (["a", "--seed", "-1"], "seed -1 is out of bounds; allowed are 0 to 18446744073709551615 (2^64 - 1)"),
    "seed above": (["a", "--seed", str(2**64)], "seed 18446744073709551616 is out of bounds"),
    "several into nothing": (["a", "b", "-o", "DIR"], "DIR: there is no such folder, and it is no picture's name"),
    "no ending": (["a", "-o", "picture"], "picture: the name says no type; allowed are .png"),
    "bundle": (["a", "--bundle", "nowhere"], "no such bundle directory; make one with: flagdit build"),
    "folder": (["a", "-o", "no/such/a.png"], "there is no folder no/such; make it first"),
    "no file system": (["a", "-o", "/proc/a.png"], "/proc/a.png: cannot be written"),
    "kind of map": (["a", "--map", "m.bmp"], "allowed are .png, .jpg, .jpeg, .gif, .webp"),
    "ntk": (["a", "--ntk", "0.5"], "ntk is 0.5; allowed are 'auto', a factor of 1 to 10000, and None (off)"),
    "ntk text": (["a", "--ntk", "big"], "ntk 'big' is none of auto, off, and a factor; for instance --ntk 4"),
    "kind": (["a", "-o", "a.bmp"], "allowed are .png, .jpg, .jpeg, .webp"),
    "report": (["a", "--report", "r.txt"], "allowed are .json"),
    "prompt length": (["a " * 50, "-o", "a.png"], "the prompt has 52 tokens; allowed are 12"),
}


@pytest.mark.parametrize("case", BAD_GENERATE)
def test_generate_refuses(flagdit, bundle_dir: Path, tmp_path: Path, case: str) -> None:  # type: ignore[no-untyped-def]
    arguments, message = BAD_GENERATE[case]
    bundle = [] if "--bundle" in arguments else ["--bundle", bundle_dir]
    code, out, err = flagdit("generate", *arguments, *bundle)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1 and "Traceback" not in err
    assert out == "" and list(tmp_path.iterdir()) == []


def test_export_build_inspect(flagdit, text_encoder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A checkpoint without a configuration becomes a bundle that paints."""
    save_file(random_flag_dit(TINY).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "examples.txt").write_text("a book\n\n a house\n")
    options = ("--patch-size", 4, "--size", "32x32", "--text-encoder", text_encoder, "--licence", "weights=MIT")
    options += ("--examples", "examples.txt", "--text-encoder-weights", "int8")
    code, _, err = flagdit("export", "model.safetensors", "-o", "model", *options)
    assert code == 0 and "next: flagdit build model" in err and "the text encoder is stored as int8 in blocks" in err
    code, _, err = flagdit("build", "model", "-o", "bundle")
    assert code == 0, err
    code, out, _ = flagdit("inspect", "bundle")
    assert code == 0 and "all intact" in out and "weights: MIT" in out
    code, out, _ = flagdit("inspect", "bundle", "--json")
    assert json.loads(out)["model"]["sizes"]["width"] == TINY.dim
    assert json.loads(out)["model"]["examples"] == ["a book", "a house"]
    assert json.loads(out)["model"]["texts"][0]["dtype"] == "int8"
    code, _, err = flagdit("generate", "a book", "--bundle", "bundle")
    assert code == 0 and (tmp_path / "out.png").is_file()


def test_export_refuses_a_pickle(flagdit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "model.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    code, _, err = flagdit("export", "model.pth", "-o", "out")
    assert code == 2 and "pickles, which can run code" in err and not (tmp_path / "out").exists()


def test_export_without_torch_says_what_to_install(flagdit, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    for name in ("torch", "flagdit.export.checkpoint"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it now fails as if it were not there
    code, _, err = flagdit("export", "model", "-o", "out")
    assert code == 2
    assert err == "error: torch is not installed; flagdit export needs: pip install 'flagdit[export]'\n"


def test_build_refuses(flagdit, model_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, _, err = flagdit("build", "nowhere", "-o", "bundle")
    assert code == 2 and "make one with: flagdit export" in err
    code, _, err = flagdit("build", model_dir, "-o", "bundle", "--target", "coreml")
    assert code == 2 and "coreml" in err
    assert list(tmp_path.iterdir()) == []


def test_generate_as_the_paper(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for mode in ("corrected", "paper"):
        outputs = ("-o", f"{mode}.png", "--report", f"{mode}.json")
        code, _, err = flagdit("generate", PROMPT, "--bundle", bundle_dir, "--mode", mode, *outputs)
        assert code == 0, err
        ras = json.loads((tmp_path / f"{mode}.json").read_text())["ras"]
        assert ras["mode"] == mode and (ras["ratio"] == 0.5 or mode == "corrected")
    paper, corrected = (Image.open(tmp_path / f"{mode}.png").tobytes() for mode in ("paper", "corrected"))
    assert paper != corrected


@pytest.mark.parametrize("command", ["generate", "export", "build", "inspect", "plan", "bench"])
def test_help_teaches(flagdit, command: str) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = flagdit(command, "--help")
    assert code == 0 and "Usage" in out and len(out.splitlines()) > 10


def test_version(flagdit) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = flagdit("--version")
    assert code == 0 and out.startswith("flagdit ")


def test_a_bundle_here_is_not_taken_for_the_demo(flagdit, bundle_dir: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(bundle_dir, tmp_path / "demo")
    assert "./demo" in flagdit("inspect", "demo")[2]
    assert "./demo" not in flagdit("inspect", "./demo")[2]
