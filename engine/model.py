"""A model as the core knows it: the numbers of its manifest that decisions need (model.h)."""

from __future__ import annotations

from flagdit.cpp_ext import Model
from flagdit.engine.bundle import ModelSpec, ShiftByTokens
from flagdit.engine.cost import head_multiple_of, sizes_of


def model_of(spec: ModelSpec) -> Model:
    """What a manifest says of a model."""
    shift = spec.flow.shift
    latent, takes = spec.latent, {tensor.name for tensor in spec.graphs.place.inputs}
    return Model(
        channels=latent.channels,
        patch=spec.tokens.patch,
        size=latent.size,
        sizes=sizes_of(spec),
        closes_lines="line" in spec.tokens.closes,
        closes_frames="frame" in spec.tokens.closes,
        frames=latent.frames,
        downscale=latent.downscale,
        guided=spec.guidance.channels,
        layers=spec.layers,
        skipped=spec.guidance.skip_layers,
        pads=spec.pads,
        takes_ntk="ntk" in takes,
        takes_proportional="proportional" in takes,
        shift=(*shift.tokens, *shift.mu) if isinstance(shift, ShiftByTokens) else shift,
        presets=spec.presets,
        head_multiple=head_multiple_of(spec),
        multiple=spec.tokens.multiple,
        renormalise=spec.guidance.renormalise,
        vae=latent.space == "vae",
        encodes=spec.graphs.encode is not None,
        ntk_power=spec.ntk_power,
        phases=spec.phases,
        decodes=spec.graphs.decode is not None,
    )
