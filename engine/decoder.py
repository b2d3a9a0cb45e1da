"""Latents of a run -> pictures: through the graphs of an autoencoder where the model has one."""

from __future__ import annotations

from dataclasses import dataclass

from flagdit import cpp_ext
from flagdit.cpp_ext import Job, Session, upsample
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.errors import BackendError
from flagdit.engine.layout import FloatArray


def check_paints(spec: ModelSpec) -> None:
    """Raise BackendError unless the model ends in pictures: in pixels, or in latents that its bundle can decode."""
    if spec.latent.space != "pixels" and spec.graphs.decode is None:
        raise BackendError(
            "the model ends in latents and its bundle has no decode graph; export it with --vae, or use .latents in "
            "Python"
        )


@dataclass(frozen=True)
class Decoder:
    """What one run is decoded with: in tiles if its job says so, and with what stays of a picture that was given."""

    spec: ModelSpec
    job: Job
    decode: Session | None = None
    preview: Session | None = None  # small and rough

    def pictures(self, latents: FloatArray, *, factor: int = 1, rough: bool = False) -> FloatArray:
        """Pictures (B, 3, Y, X) in [-1, 1] of latents (B, C, H, W), enlarged by `factor`.

        rough: by the graph for previews, if there is one. Raises BackendError if there is none that decodes.
        """
        check_paints(self.spec)
        made, downscale = latents, self.spec.latent.downscale
        if rough and self.preview is not None:
            made = cpp_ext.decode(self.preview, latents, downscale)
        elif self.decode is not None:
            made = cpp_ext.decode(self.decode, latents, downscale, self.job.tile)
        return self.job.kept(upsample(made, factor) if factor > 1 else made)
