"""The benchmark of picture quality: real renders pass, and every kind of wrong picture fails as it should."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from emoji_quality import places  # noqa: E402
from emoji_quality.colour import NAMED, backdrop, lab, named, pixels  # noqa: E402
from emoji_quality.frechet import frechet, picture_distance  # noqa: E402
from emoji_quality.judge import Judge, summary  # noqa: E402
from emoji_quality.sheet import write_sheet  # noqa: E402
from emoji_quality.training import EmojiData, Recipe, load_classifier  # noqa: E402
from icons import SIZES  # noqa: E402
from pareto import searched  # noqa: E402
from quality import ALL, Settings, benchmark, check_canvas, read_icons, show  # noqa: E402
from scenes import COLOURS, STYLES, Background, Scene, boxes, cells  # noqa: E402

from flagdit.engine import Pipeline, Preset, RasConfig, RequestError  # noqa: E402
from flagdit.engine.bundle.builder import build_bundle  # noqa: E402
from flagdit.export import ExportOptions, FlagDiT, export_model  # noqa: E402

CANVAS = 64, 64
MAX_TOKENS = 24
NAMES = [f"thing {i}" for i in range(16)]
RECIPE = Recipe(widths=(16, 32, 48), sides=(32,), steps=120, batch=32, rate=1e-2)


def icon(rng: np.random.Generator) -> Image.Image:
    """A few shapes of random colours, premultiplied; they reach the middle of every edge, as most emoji do."""
    image = Image.new("RGBA", (112, 112))
    draw = ImageDraw.Draw(image)
    draw.ellipse((6, 6, 106, 106), tuple(int(c) for c in rng.integers(0, 256, 3)))
    for _ in range(4):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        corners = [tuple(int(x) for x in point) for point in rng.integers(8, 104, (3, 2))]
        draw.polygon(corners, colour)
    return image.convert("RGBa")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Icons as `data.py` prepares them; the second style of each is a little darker."""
    rng, folder = np.random.default_rng(1), tmp_path_factory.mktemp("icons")
    images = [icon(rng) for _ in NAMES]
    shade = np.array([[[[1, 1, 1, 1]]], [[[0.8, 0.8, 0.8, 1]]]])  # (S, 1, 1, 4)
    for side in SIZES:
        small = np.stack([np.asarray(image.resize((side, side), Image.Resampling.BOX)) for image in images])
        np.save(folder / f"icons-{side}.npy", (small[:, None] * shade).astype(np.uint8))
    (folder / "icons.json").write_text(json.dumps(NAMES))
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> EmojiData:
    return EmojiData(folder, rest=1.0)


@pytest.fixture(scope="module")
def judge(data: EmojiData, folder: Path) -> Judge:
    return Judge(data, load_classifier(data, folder, RECIPE), CANVAS)


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory, flag_dit: FlagDiT, text_encoder: Path) -> Pipeline:
    """The tiny model, with room for long prompts. Its weights are random."""
    folder = tmp_path_factory.mktemp("painter")
    options = ExportOptions(
        name="tiny", size=CANVAS, dtype="float32", text_encoder=text_encoder, max_text_tokens=MAX_TOKENS
    )
    export_model(flag_dit, folder / "model", options)
    build_bundle(folder / "model", folder / "bundle")
    return Pipeline.load(folder / "bundle", threads=1)


@pytest.fixture(scope="module")
def scenes(data: EmojiData) -> list[Scene]:
    return data.scenes(40, CANVAS, np.random.default_rng(0), held_out=True)


def painted(data: EmojiData, scenes: list[Scene], seed: int = 1) -> np.ndarray:
    return data.paint_all(scenes, CANVAS, np.random.default_rng(seed))


def test_real_renders_pass(data: EmojiData, judge: Judge, scenes: list[Scene]) -> None:
    assert {places.kind(scene) for scene in scenes} == set(places.KINDS)
    found = summary(judge(painted(data, scenes), scenes))
    assert found.top1 > 0.95 and found.top5 == 1
    assert found.background == 1 and found.place == 1


def test_other_objects_are_found_by_chance_only(data: EmojiData, judge: Judge, scenes: list[Scene]) -> None:
    shift = {name: NAMES[(i + 5) % len(NAMES)] for i, name in enumerate(NAMES)}
    others = [replace(scene, objects=tuple(shift[name] for name in scene.objects)) for scene in scenes]
    found = summary(judge(painted(data, others), scenes))
    assert found.top1 < 0.1 and found.top5 < 0.6
    assert found.background == 1


def test_swapped_objects_are_in_the_wrong_place(data: EmojiData, judge: Judge, scenes: list[Scene]) -> None:
    pairs = [scene for scene in scenes if len(scene.objects) == 2 and scene.place is not None]
    swapped = [replace(scene, objects=scene.objects[::-1]) for scene in pairs]
    assert summary(judge(painted(data, swapped), pairs)).place == 0


def test_an_unsaid_place_of_two_objects_may_be_either(data: EmojiData, judge: Judge) -> None:
    said = Scene(("thing 1", "thing 2"), "left of")
    both = [said, replace(said, place="right of")]
    verdicts = judge(painted(data, both), [replace(said, place=None)] * 2)
    assert [verdict.ranks for verdict in verdicts] == [(1, 1), (1, 1)]
    assert {verdict.place for verdict in verdicts} == {None}


@pytest.mark.parametrize("corner", places.CORNERS)
def test_another_corner_is_wrong(data: EmojiData, judge: Judge, corner: str) -> None:
    scene = Scene(("thing 3",), corner)
    verdicts = judge(painted(data, [scene] * 4), [replace(scene, place=place) for place in places.CORNERS])
    assert [verdict.place for verdict in verdicts] == [place == corner for place in places.CORNERS]


def test_an_empty_picture_is_nowhere(judge: Judge) -> None:
    empty = np.full((2, 3, 64, 64), 0.95, np.float32)
    verdicts = judge(empty, [Scene(("thing 1",), "top left corner"), Scene(("thing 1", "thing 2"), "left of")])
    assert [verdict.place for verdict in verdicts] == [False, False]


def test_another_background_is_wrong(data: EmojiData, judge: Judge, scenes: list[Scene]) -> None:
    said = [scene for scene in scenes if scene.background is not None and scene.background.top != "teal"]
    others = [replace(scene, background=Background("teal", scene.background.bottom)) for scene in said]  # type: ignore[union-attr]
    assert summary(judge(painted(data, others), said)).background == 0


@pytest.mark.parametrize("blended", [False, True])
@pytest.mark.parametrize("top", COLOURS)
def test_every_background_is_seen(data: EmojiData, top: str, blended: bool) -> None:
    for seed, bottom in enumerate(COLOURS):
        scene = Scene((NAMES[seed],), background=Background(top, bottom, blended))
        (picture,) = painted(data, [scene], seed)
        assert backdrop(pixels(picture), places.rooms(scene, CANVAS, 4)).colours == (top, bottom)


def test_colours_are_their_own_names() -> None:
    assert [named(np.array(rgb, np.float32)) for rgb in COLOURS.values()] == list(COLOURS)
    np.testing.assert_allclose(lab(np.array([255, 0, 0], np.float32)), [53.24, 80.09, 67.20], atol=0.02)
    assert len(NAMED) == len(COLOURS)


@pytest.mark.parametrize("canvas", [(64, 64), (128, 64), (64, 128), (96, 64), (128, 128)])
def test_rooms_are_what_the_scenes_draw_from(canvas: tuple[int, int]) -> None:
    """`places` lists what `scenes` draws."""
    rng = np.random.default_rng(0)
    said = [Scene(("a",)), Scene(("a", "b"), "left of"), Scene(("a", "b"), "below"), Scene(("a",), "top right corner")]
    for scene in said:
        rooms = places.rooms(scene, canvas, 4)
        drawn = [boxes(scene, canvas, 4, rng) for _ in range(400)]
        assert [{pick[i] for pick in drawn} for i in range(len(rooms))] == [set(room.boxes) for room in rooms]
        assert len(cells(scene, canvas, rng)) == len(rooms)


def test_canvases_without_icons_are_known() -> None:
    assert all(places.fits(canvas, 4) for canvas in ((64, 64), (128, 64), (64, 128), (128, 128)))
    assert not places.fits((72, 72), 4)


def test_the_classifier_is_trained_once(data: EmojiData, folder: Path, judge: Judge) -> None:
    (path,) = folder.glob("classifier-*.safetensors")
    before = path.stat().st_mtime_ns
    again = load_classifier(data, folder, RECIPE)
    assert path.stat().st_mtime_ns == before and not list(folder.glob("*.partial"))
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, judge.classifier.state_dict()[name], atol=0, rtol=0)


def test_perceptual_distance_grows_with_the_difference(data: EmojiData, judge: Judge, scenes: list[Scene]) -> None:
    images = torch.from_numpy(painted(data, scenes))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    same, near, far = (judge.classifier.perceptual(images, images + s * noise) for s in (0, 0.02, 0.2))
    assert same.shape == (len(scenes),) and same.abs().max() == 0
    assert (near > 0).all() and (far > near).all()
    assert judge.classifier.features(images).shape == (len(scenes), RECIPE.widths[-1])


def test_frechet_distance() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 3))
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x, x + np.array([3, 0, 4])) == pytest.approx(25)
    assert frechet(x, 2 * (x - x.mean(0)) + x.mean(0)) == pytest.approx(np.trace(np.cov(x, rowvar=False)))


def test_real_renders_are_nearer_than_noisy_ones(data: EmojiData, judge: Judge, scenes: list[Scene]) -> None:
    first, second = painted(data, scenes, 1), painted(data, scenes, 2)
    noisy = first + np.random.default_rng(0).normal(0, 0.3, first.shape).astype(np.float32)
    floor = picture_distance(judge.classifier, first, second)
    assert picture_distance(judge.classifier, noisy, second) > 2 * floor


def test_the_style_that_was_said_is_asked_for(data: EmojiData, judge: Judge) -> None:
    flat = Scene(("thing 6",), style=STYLES[0])
    scores = np.zeros((len(NAMES), len(STYLES)), np.float32)
    scores[6], scores[7, 1] = (3, 1), 2
    assert [judge.rank(scores, "thing 6", style) for style in (*STYLES, None)] == [1, 2, 1]
    assert judge(painted(data, [flat]), [flat])[0].ranks == (1,)


def test_the_sheet_shows_pairs(data: EmojiData, judge: Judge, scenes: list[Scene], tmp_path: Path) -> None:
    pictures = painted(data, scenes)[:4]
    write_sheet(tmp_path / "sheet.png", pictures, pictures, scenes[:4], judge(pictures, scenes[:4]), columns=2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * 2 * 64 and sheet.height > 2 * 64


@pytest.mark.slow
def test_a_bundle_is_painted_judged_and_shown(
    painter: Pipeline, data: EmojiData, judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(Preset(2, "euler", RasConfig(ratio=0.5)), guidance=4.0, batch=4)
    result = benchmark(painter, data, judge, 6, settings)
    assert result.pictures["generated"].shape == result.pictures["ceiling"].shape == (6, 3, 64, 64)
    assert result.evaluations == pytest.approx(2)  # both steps are dense
    generated, ceiling = (result.rows[name].groups[ALL] for name in ("generated", "ceiling"))
    assert generated.pictures == ceiling.pictures == 6
    assert generated.background < ceiling.background == 1 and generated.top5 < ceiling.top5
    assert result.rows["generated"].frechet > result.rows["ceiling"].frechet
    show(result.rows)
    assert "100.0%" in capsys.readouterr().out


def test_what_cannot_be_measured_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"examples/emoji/data\.py --icons"):
        read_icons(tmp_path)
    with pytest.raises(RequestError, match="72x72"):
        check_canvas((72, 72), pipeline)


def test_a_line_alone_is_what_it_is_among_all() -> None:
    """RAS as published, and the run that costs are compared with, have the best grid of 30 Euler steps."""
    assert searched([6, 14], ["paper"]) == searched([6, 14], []) == [("euler", 30)]
    assert searched([6, 14], ["ab2"]) == [("euler", 30), ("ab2", 30), ("ab2", 14), ("ab2", 6)]
