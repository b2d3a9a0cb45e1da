"""The pictures that all settings are compared with, kept on disk for the next comparison if that is asked for.

Letters: B pictures, C channels.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flagdit.engine.bundle.reader import model_files
from flagdit.engine.layout import FloatArray, TokenLayout
from flagdit.engine.noise import NOISE
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.ras import DENSE
from flagdit.files import sweep, write_file
from flagdit.files.check import probe
from flagdit.files.errors import refusals

EXACT, EXACT_SHIFT = 100, 3.0
"""Dense steps of second order in fp32, and their time shift."""


def check_kept(folder: Path | None) -> None:
    """Make the folder that pictures are to be kept in. Raises OutputError if that cannot be."""
    if folder is not None:
        with refusals(folder):
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
            probe(folder)


def identity(pipeline: Pipeline) -> list[object]:
    """What makes a model another one, as plain data: it may be with the same weights. Presets are none of it."""
    spec, files = pipeline.spec, pipeline.bundle.manifest.files
    said = spec.model_dump(mode="json", exclude={"presets", "examples", "licences"})
    return [said, [files[name].sha256 for name in model_files(spec)]]


class ExactPictures:
    """Makes them with a bundle's fp32 graph, all with the same size and guidance scale."""

    def __init__(
        self, pipeline: Pipeline, size: tuple[int, int] | None, guidance: float, *, folder: Path | None = None
    ) -> None:
        """folder: where they are kept, a file each; None keeps them nowhere.

        Raises RequestError for a size that cannot be, OutputError for such a folder.
        """
        self._pipeline, self.size, self.guidance, self._folder = pipeline, size, guidance, folder
        layout = TokenLayout.of(pipeline.spec, size)
        self._shape = layout.channels, layout.height, layout.width
        self._reference: Pipeline | None = None  # a graph takes memory: it is loaded when there is something to do
        check_kept(folder)

    def __call__(self, prompts: Sequence[str], first: int) -> FloatArray:
        """Latents (B, C, H, W) of prompts, the first of which has the seed `first`."""
        seeds = range(first, first + len(prompts))
        kept = [self._read(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        found = [picture for picture in kept if picture is not None]
        if len(found) == len(kept):
            return np.stack(found)
        if self._reference is None:
            self._reference = self._pipeline.at("float32")
        made = self._reference(
            prompts=prompts,
            seeds=seeds,
            steps=EXACT,
            size=self.size,
            guidance=self.guidance,
            shift=EXACT_SHIFT,
            solver="ab2",
            ras=DENSE,
        ).latents
        for prompt, seed, picture in zip(prompts, seeds, made, strict=True):
            self._write(prompt, seed, picture)
        return made

    def _path(self, prompt: str, seed: int) -> Path | None:
        if self._folder is None:
            return None
        spec = self._pipeline.spec
        size = self.size or spec.latent.size
        about = [identity(self._pipeline), EXACT_SHIFT, EXACT, NOISE, *size, self.guidance, prompt, seed]
        return self._folder / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]}.npy"

    def _read(self, prompt: str, seed: int) -> FloatArray | None:
        """The picture (C, H, W), unless it is not there, or is no picture of this size."""
        path = self._path(prompt, seed)
        if path is None or not path.is_file():
            return None
        try:
            picture = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):  # cut short, or no array: made anew
            return None
        good = picture.shape == self._shape and picture.dtype == np.float32 and np.isfinite(picture).all()
        return np.array(picture) if good else None

    def _write(self, prompt: str, seed: int, picture: FloatArray) -> None:
        path = self._path(prompt, seed)
        if path is not None:
            file = io.BytesIO()
            np.save(file, picture, allow_pickle=False)
            write_file(path, file.getbuffer())
