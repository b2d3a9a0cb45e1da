"""What is seen of a run while it goes on."""

from __future__ import annotations

from typing import Any

import pytest
from test_pipeline import PROMPT

from flagdit.engine import Coarse, Pipeline, Preview, RasConfig

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "regions": {"ras": RasConfig(ratio=0.25, warmup=1, guidance_every=2)},
    "coarse": {"coarse": Coarse(2, 3), "steps": 4},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_previews_stay_what_they_were(pipeline: Pipeline, options: dict[str, Any]) -> None:
    """Looked at when the run is over, they are what they were when it had come to them."""
    kept: list[Preview] = []
    seen: list[list[bytes]] = []

    def look(preview: Preview) -> None:
        kept.append(preview)
        seen.append([image.tobytes() for image in preview.images])

    pipeline(prompts=[PROMPT, "green star"], **options, on_step=look)
    later = [[image.tobytes() for image in preview.images] for preview in kept]
    assert later == seen
    assert len({first for first, _ in seen}) == len(seen)  # or there was nothing that could have changed


def test_a_preview_is_no_way_into_the_run(pipeline: Pipeline) -> None:
    """What a callback does to what it got changes no picture."""
    expected = pipeline(PROMPT, steps=4).latents

    def spoil(preview: Preview) -> None:
        preview._look.latents()[...] = 0
        preview.images[0].putpixel((0, 0), (1, 2, 3))

    assert (pipeline(PROMPT, steps=4, on_step=spoil).latents == expected).all()
