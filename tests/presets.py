"""A preset such as a bundle is calibrated for."""

from __future__ import annotations

from flagdit.engine.bundle import Preset
from flagdit.engine.presets import of_spec

TIMES = (0.0, 0.1, 0.2, 0.35, 0.6, 1.0)
SPEC = Preset(
    name="sharp",
    size=(32, 32),
    times=TIMES,
    weights=((1, 0, 0), (1, 0.5, 0), (0.9, 0.5, 0.1), (1.1, 0.4, 0), (1, 0, 0)),
    ratios=(1, 1, 0.5, 1, 0.25),
    forecast_kv=(0, 0, 0.5, 0, 0.4),
    cost=0.125,
    psnr={"chosen": 31.25, "dense": 29.5},
)
SHARP = of_spec(SPEC)
