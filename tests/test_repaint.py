"""Pictures to begin with, and masks of them, where a model paints pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from noise import noise_of
from PIL import Image

from flagdit.engine import DENSE, Coarse, Pipeline, RasConfig, RequestError
from flagdit.engine.media.canvas import pixels

PROMPT = "a red apple"
IMAGE = np.random.default_rng(7).integers(0, 256, (32, 32, 3), np.uint8)
HALF = np.zeros((32, 32), np.uint8)
HALF[:, 16:] = 255


def test_all_of_the_way_is_the_plain_run(pipeline: Pipeline) -> None:
    """A strength of 1 begins with noise alone, at all of the times."""
    options: dict[str, Any] = {"steps": 6, "seed": 5}
    plain = pipeline(PROMPT, **options)
    begun = pipeline(PROMPT, image=IMAGE, strength=1, **options)
    np.testing.assert_array_equal(plain.latents, begun.latents)
    assert begun.report.image == {"strength": 1.0, "masked": False} and plain.report.image is None


def test_it_begins_at_a_time_of_the_plan(pipeline: Pipeline) -> None:
    times = pipeline(PROMPT, steps=10).report.times
    for strength, left in ((0.3, 3), (0.01, 1), (0.58, 6)):
        result = pipeline(PROMPT, image=IMAGE, strength=strength, steps=10)
        assert result.report.times == times[10 - left :]
    assert len(pipeline(PROMPT, image=IMAGE, steps=10).report.times) == 7  # .6 of them


def test_little_strength_changes_little(pipeline: Pipeline) -> None:
    distance = [
        np.abs(np.asarray(pipeline(PROMPT, image=IMAGE, strength=s, steps=20).image, np.int16) - IMAGE).mean()
        for s in (0.05, 0.4, 1)
    ]
    assert distance[0] < distance[1] < distance[2]


@pytest.mark.parametrize("how", [{"ras": DENSE}, {"ras": RasConfig(0.5)}, {"solver": "heun", "steps": 8}, {}], ids=str)
def test_what_is_kept_stays(pipeline: Pipeline, how: dict[str, Any]) -> None:
    """To the bit in the picture; on the way it is on the line from its noise to itself."""
    options = {"steps": 12, "seed": 3, **how}
    result = pipeline(prompts=[PROMPT, "the sea"], seeds=[3, 4], image=IMAGE, mask=HALF, **{**options, "seed": 0})
    data, noise = IMAGE.transpose(2, 0, 1) / np.float32(127.5) - 1, noise_of(3, (3, 32, 32))
    for image in result.images:
        found = np.asarray(image)
        np.testing.assert_array_equal(found[HALF == 0], IMAGE[HALF == 0])
        assert np.abs(found.astype(int) - IMAGE)[HALF == 255].mean() > 10
    np.testing.assert_allclose(result.latents[:, :, :, :16], [data[:, :, :16]] * 2, atol=2e-5)
    seen: list[np.ndarray] = []

    def look(preview: Any) -> None:
        t = preview.timed.step.t_next
        seen.append(np.asarray(preview.images[0])[:, :16])
        assert 0 < t <= 1

    alone = pipeline(PROMPT, image=IMAGE, mask=HALF, on_step=look, **options)
    assert alone.image == result.images[0] and noise.shape == data.shape
    for each in seen:
        np.testing.assert_array_equal(each, IMAGE[:, :16])


def test_patches_that_are_kept_are_not_computed(pipeline: Pipeline) -> None:
    """They are known, so regions leave them out first; and a step computes so much less."""
    options: dict[str, Any] = {"steps": 20, "ras": RasConfig(0.5, warmup=2, resets=())}
    whole, half = (
        pipeline(PROMPT, image=IMAGE, strength=1, **options),
        pipeline(PROMPT, image=IMAGE, mask=HALF, **options),
    )
    assert half.report.flop_ratio < 0.75 * whole.report.flop_ratio
    columns = half.refreshes[0].shape[1]
    kept, painted = half.refreshes[0][:, : columns // 2], half.refreshes[0][:, columns // 2 :]
    assert kept.mean() < 0.6 * painted.mean()
    assert half.ages.max() <= half.report.max_age
    active = [step.active for step in half.report.steps if not step.dense]
    assert max(active) < min(step.active for step in whole.report.steps if not step.dense)


def test_repainting_in_regions_is_close_to_dense(pipeline: Pipeline) -> None:
    options: dict[str, Any] = {"image": IMAGE, "mask": HALF, "steps": 20}
    dense, much, little = (
        pipeline(PROMPT, ras=ras, **options).latents for ras in (DENSE, RasConfig(0.2), RasConfig(0.8))
    )
    assert 0 < np.abs(little - dense).mean() < np.abs(much - dense).mean()


def test_given_noise(pipeline: Pipeline) -> None:
    plain = pipeline(PROMPT, seed=9, steps=4)
    given = pipeline(PROMPT, latents=noise_of(9, (1, 3, 32, 32)), steps=4)
    np.testing.assert_allclose(given.latents, plain.latents, atol=1e-4)
    assert (given.report.noise, plain.report.noise) == ("given", "seed")


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.zeros((1, 3, 4, 4)), r"latents are \(1, 3, 4, 4\); allowed are \(1, 3, 32, 32\): pictures, channels"),
        (np.zeros((1, 32, 32, 3)), r"latents are \(1, 32, 32, 3\); allowed are \(1, 3, 32, 32\)"),
        (np.zeros(3072), r"latents are \(3072\); allowed are \(1, 3, 32, 32\)"),
        (np.zeros((0, 3, 32, 32)), r"latents are \(0, 3, 32, 32\); allowed are"),
        (np.full((1, 3, 32, 32), np.nan), "latents have values that are no numbers in float32"),
        (np.full((1, 3, 32, 32), 1e300), "latents have values that are no numbers in float32"),
        (np.zeros((1, 3, 32, 32)) + 1j, "latents are no numbers that NumPy reads"),
        ("noise", "latents are no numbers that NumPy reads"),
        ([[1], [2, 3]], "latents are no numbers that NumPy reads"),
    ],
    ids=str,
)
def test_noise_that_does_not_fit(pipeline: Pipeline, latents: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        pipeline(PROMPT, latents=latents)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.5}, "there is a strength and no picture that it is of; give an image"),
        ({"mask": HALF}, "there is a mask and no picture that it is of; give an image"),
        ({"image": IMAGE, "strength": 0}, "strength is 0; allowed are above 0"),
        ({"image": IMAGE, "strength": 1.5}, r"strength is 1\.5; allowed are above 0"),
        ({"image": IMAGE, "mask": HALF[:16]}, "the mask is 32x16 and the image 32x32; give a mask of the image's size"),
        ({"image": IMAGE, "mask": HALF * 0}, "the mask keeps all of the image; make white"),
        ({"image": IMAGE, "size": (32, 16)}, "the image is 32x32 and the size 32x16; make the image of that size"),
        ({"image": IMAGE[:30]}, "size 32x30 is not made of"),
        ({"image": IMAGE, "coarse": Coarse(2)}, "a picture is given, and coarse begins with a smaller one of noise"),
        (
            {"image": IMAGE / 255.0},
            r"image is float64 \(32, 32, 3\); allowed are a picture of Pillow, a path, and uint8",
        ),
        ({"image": "no.png"}, "no.png: there is no such file; give a picture"),
        ({"tile": 1.5}, r"tile is 1\.5; allowed are whole numbers of pixels, and 0 for the whole at once"),
        ({"tile": 2**70}, "tile is .*; allowed are whole numbers of pixels"),
        ({"tile": "512"}, "tile is '512'; allowed are numbers"),
        ({"image": "a" * 5000}, "cannot be read as a PNG, JPEG or WebP picture"),
        ({"tile": 64}, "tile is 64; this model ends in pixels, which nothing decodes: leave it out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(pipeline: Pipeline, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        pipeline(PROMPT, **options)


def test_pictures_of_any_kind(tmp_path: Path) -> None:
    grey = Image.fromarray(HALF)
    grey.save(tmp_path / "grey.png")
    wanted = np.repeat(HALF[:, :, None], 3, 2)
    for picture in (grey, HALF, wanted, tmp_path / "grey.png", str(tmp_path / "grey.png"), grey.convert("RGBA")):
        np.testing.assert_array_equal(pixels(picture, "image"), wanted)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(RequestError, match=r"text\.png: cannot be read as a PNG, JPEG or WebP picture"):
        pixels(tmp_path / "text.png", "image")


def test_pictures_of_16_bits_and_turned_ones(tmp_path: Path) -> None:
    """Of 16 bits the upper ones, as flagdit_run has them; EXIF says how a camera was held."""
    Image.fromarray(IMAGE[:, :, 0].astype(np.uint16) * 256 + 77).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(pixels(tmp_path / "deep.png", "image")[:, :, 1], IMAGE[:, :, 0])
    wide, exif = Image.fromarray(IMAGE[:16]), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    wide.save(tmp_path / "held.webp", lossless=True, exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "held.webp", "image"), np.rot90(IMAGE[:16], -1))
    for mode in ("F", "I"):
        with pytest.raises(RequestError, match=f"image cannot be read as a picture .*of mode {mode}"):
            pixels(Image.new(mode, (8, 8)), "image")
    whole = io.BytesIO()
    wide.save(whole, "PNG")
    with pytest.raises(RequestError, match="mask cannot be read as a picture"):
        pixels(Image.open(io.BytesIO(whole.getvalue()[:700])), "mask")


def test_the_command_line(flagdit: Any, bundle_dir: Path, tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "in.png")
    Image.fromarray(HALF).save(tmp_path / "mask.png")
    line = ["generate", PROMPT, "--bundle", bundle_dir, "--image", "in.png", "--mask", "mask.png", "--steps", "4"]
    code, _, err = flagdit(*line)
    assert code == 0, err
    with Image.open(tmp_path / "out.png") as made:
        np.testing.assert_array_equal(np.asarray(made)[:, :16], IMAGE[:, :16])
    code, _, err = flagdit(*line, "-o", "in.png")
    assert code == 2 and "in.png" in err
    code, _, err = flagdit("generate", PROMPT, "--bundle", bundle_dir, "--tile", "x")
    assert code == 2 and "tile 'x' is none of auto, off, and pixels; for instance --tile 512" in err
