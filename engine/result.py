"""What a run gives: a preview after every step, and the pictures at its end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from flagdit.cpp_ext import Snapshot, StepDone
from flagdit.engine.decoder import Decoder
from flagdit.engine.layout import FloatArray
from flagdit.engine.media import maps, metadata, picture
from flagdit.engine.report import Report
from flagdit.files import check_file


@dataclass(frozen=True)
class Preview:
    """The run after one step: it stays what it was when the run goes on, and does not change the run.

    index: of the step, among the total of all; `timed.step` counts those of its size.
    """

    timed: StepDone
    total: int
    index: int
    _decoder: Decoder
    _look: Snapshot  # (B, C, F, H, W), of the leg's size
    _factor: int  # by which the picture is larger

    @property
    def images(self) -> list[Image.Image]:
        """What the pictures would be if every velocity stayed as it is now. Raises as Result.images does.

        Of a model with an autoencoder, by its graph for previews; without one, by that of the pictures, which takes
        long.
        """
        looks = self._decoder.pictures(self._look.latents()[:, :, 0], factor=self._factor, rough=True)
        return [picture.to_image(x) for x in looks]


@dataclass(frozen=True)
class Result:
    """Pictures of a run, and how they came about."""

    latents: FloatArray  # (B, C, H, W)
    ages: npt.NDArray[np.int16]  # (S, B, lines, columns): after each step, steps since each patch was computed
    report: Report
    _decoder: Decoder

    @cached_property
    def refreshes(self) -> npt.NDArray[np.int32]:
        """How many steps computed each patch: (B, lines, columns)."""
        counts: npt.NDArray[np.int32] = (self.ages == 0).sum(axis=0, dtype=np.int32)
        return counts

    @cached_property
    def images(self) -> list[Image.Image]:
        """All pictures, decoded when they are first asked for.

        Raises BackendError if the model ends in latents that its bundle has no graph for.
        """
        return [picture.to_image(x) for x in self.decoded(self.latents)]

    def decoded(self, latents: FloatArray) -> FloatArray:
        """Pictures (B, 3, Y, X) in about [-1, 1] of latents as this run's own. Raises as `images` does."""
        return self._decoder.pictures(latents)

    @property
    def image(self) -> Image.Image:
        """The first picture."""
        return self.images[0]

    def save(self, path: Path | str, index: int = 0) -> None:
        """Write a picture as PNG, JPEG or WebP, with how it was made (`flagdit inspect`). Raises OutputError."""
        path = Path(path)
        check_file(path, tuple(picture.FORMATS))
        picture.save(self.images[index], path, **metadata.options_of(self.report.alone(index), path))

    def map(self, index: int = 0) -> Image.Image:
        """A picture, how often each of its regions was recomputed, and their ages after each step."""
        return maps.still(self.images[index], self.refreshes[index], self.ages[:, index], steps=self.report.steps)
