"""The specification of a model directory (`model.json`) and of a bundle (`manifest.json`).

A bundle's manifest is the model's specification, a digest of every file, and the engines built from its graphs.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1

Size = tuple[Annotated[int, Field(ge=1, le=65536)], Annotated[int, Field(ge=1, le=65536)]]


def _plain_name(name: str) -> str:
    """A file beside the manifest: no folder, no way out of the bundle."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        raise ValueError("is not a plain file name")
    return name


FileName = Annotated[str, AfterValidator(_plain_name)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Spec(BaseModel):
    """Read strictly: what is not known is refused, nothing is guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=2000)


class Tensor(Spec):
    """One input or output of a graph; symbolic axes are letters (A active, M cached, R rows, T text, S steps)."""

    name: str
    dtype: Literal["float32", "float16", "bfloat16", "int64", "int32", "bool"]
    shape: Annotated[tuple[int | str, ...], Field(max_length=8)]


class Graph(Spec):
    file: FileName
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Graphs(Spec):
    """`condition` runs once per prompt, `denoise` once per step; a model without the others leaves them out."""

    condition: Graph
    denoise: Graph
    text_encoder: Graph | None = None
    decode: Graph | None = None


class Weights(Spec):
    file: FileName
    sha256: Digest
    dtype: Literal["float32", "float16", "bfloat16", "int8"]
    parameters: Annotated[int, Field(ge=1, le=1 << 50)]


class Latent(Spec):
    """What the flow ends in: pixels in [-1, 1], or latents of a VAE. `size` is (width, height) of the training."""

    space: Literal["pixels", "vae"]
    channels: Annotated[int, Field(ge=1, le=64)]
    size: Size


class Tokens(Spec):
    """Patches of `patch_size` squared, as vectors ordered (channel, ph, pw); special tokens carry no latent."""

    patch_size: Annotated[int, Field(ge=1, le=64)]
    order: Literal["channel,ph,pw"]
    special: tuple[Literal["nextline"], ...]


class Rope(Spec):
    kind: Literal["1d"]
    theta: Annotated[float, Field(ge=1, le=1e12)]
    head_dim: Annotated[int, Field(ge=2, le=1024)]


class Guidance(Spec):
    """The channels that classifier-free guidance touches, the order of its branches in a batch, and its usual scale."""

    channels: tuple[Annotated[int, Field(ge=0, le=63)], ...]
    rows: tuple[Literal["cond"], Literal["uncond"]]
    scale: Annotated[float, Field(ge=0, le=100)] = 4.0  # that suits the model; 4 is Lumina-T2X's own

    def chosen(self, scale: float | None) -> float:
        """A scale that somebody asked for, or the model's."""
        return self.scale if scale is None else scale


class Flow(Spec):
    time: Literal["noise-to-data"]
    velocity: Literal["data-minus-noise"]
    shift: Annotated[float, Field(ge=0.1, le=100)]  # time shift that suits the model


Width = Annotated[int, Field(ge=1, le=1 << 20)]


class Layers(Spec):
    """Sizes that price a step (FLOPs, cache bytes)."""

    count: Annotated[int, Field(ge=1, le=1024)]
    width: Width
    heads: Width
    kv_heads: Width
    ffn: Width


def _in_order(times: tuple[float, ...]) -> tuple[float, ...]:
    for before, after in pairwise(times):
        if not before < after:
            raise ValueError(f"the times are not in order: {after:g} is after {before:g}")
    return times


Time = Annotated[float, Field(ge=0, le=1)]
Times = Annotated[tuple[Time, ...], Field(min_length=2, max_length=1001), AfterValidator(_in_order)]
Weight = Annotated[float, Field(ge=-100, le=100)]


class CoarseSteps(Spec):
    """Dense steps of ab2 that a plan begins with, at the size over `factor`: between times from 0 to 1 or before.

    The picture is then enlarged, and brought with noise to the first of the plan's own times.
    """

    factor: Annotated[int, Field(ge=2, le=16)]
    times: Times

    @model_validator(mode="after")
    def _begins_at_noise(self) -> CoarseSteps:
        if self.times[0] != 0:
            raise ValueError(f"the times begin at {self.times[0]:g}; allowed is 0")
        return self


class Preset(Spec):
    """A plan that `flagdit calibrate` found: of S steps between S + 1 times, and what it was measured to do.

    weights: of each step, of its velocity, slope and curve (solver.h). ratios: the share of the patches that each
    computes. forecast_kv: see RasConfig, of each step. coarse: what comes before the first of the times, which is
    then above 0. cost: FLOPs over those of 30 dense steps. psnr: dB to the
    converged picture, over the prompts that it was chosen by, and over others ("held_out"); "dense" is that of plain
    dense steps of that cost, of ab2 or Euler on their best grid, over the same others.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$")]
    size: Size
    times: Times
    weights: tuple[tuple[Weight, Weight, Weight], ...]
    ratios: tuple[Annotated[float, Field(gt=0, le=1)], ...]
    forecast_kv: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    coarse: CoarseSteps | None = None
    cost: Annotated[float, Field(gt=0, le=1e6)]
    psnr: dict[Literal["chosen", "held_out", "dense"], Annotated[float, Field(ge=-1e3, le=1e3)]] = {}

    @model_validator(mode="after")
    def _fits(self) -> Preset:
        steps = len(self.times) - 1
        for name in ("weights", "ratios", "forecast_kv"):
            if len(getattr(self, name)) not in ((0, steps) if name != "ratios" else (steps,)):
                raise ValueError(f"{name} are {len(getattr(self, name))}, and there are {steps} steps")
        if (self.coarse is None) != (self.times[0] == 0):
            raise ValueError(f"the times begin at {self.times[0]:g}; allowed is 0, or above it after coarse steps")
        if self.times[-1] != 1:
            raise ValueError(f"the times end at {self.times[-1]:g}; allowed is 1")
        if self.ratios[0] != 1:
            raise ValueError(f"the first ratio is {self.ratios[0]:g}; allowed is 1: nothing is cached yet")
        return self


class Text(Spec):
    width: Width
    max_tokens: Annotated[int, Field(ge=2, le=4096)]
    tokenizer: FileName


def _unlike(presets: tuple[Preset, ...]) -> tuple[Preset, ...]:
    for (name, size), count in Counter((preset.name, preset.size) for preset in presets).items():
        if count > 1:
            raise ValueError(f"{name!r} for {size[0]}x{size[1]} is there twice or more; allowed is once")
    return presets


class ModelSpec(Spec):
    """The content of `model.json`."""

    schema_version: Literal[1]
    name: str
    family: Literal["flag-dit"]
    config: dict[str, int | float | bool | None]
    weights: Weights
    latent: Latent
    tokens: Tokens
    rope: Rope
    guidance: Guidance
    flow: Flow
    layers: Layers
    text: Text | None
    presets: Annotated[tuple[Preset, ...], AfterValidator(_unlike)] = ()
    examples: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=2000)], ...], Field(max_length=1000)] = ()
    graphs: Graphs
    licences: dict[str, str]
    exporter: dict[str, str | int]


class File(Spec):
    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]


class Profile(Spec):
    """Smallest, best and largest shape of one engine input."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


class Engine(Spec):
    """One graph compiled for one target. A GPU's runs only where the versions and the architectures match."""

    graph: Literal["condition", "denoise", "text_encoder", "decode"]
    file: FileName
    target: Literal["tensorrt-rtx", "tensorrt", "onnxruntime"]
    version: str
    architectures: tuple[int, ...]  # compute capabilities times ten: 89 is 8.9; none of a CPU's
    platform: str
    precision: Literal["float32", "float16", "bfloat16", "int8", "int8-bf16"]
    profiles: tuple[dict[str, Profile], ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    build_seconds: float
    peak_build_bytes: int | None = None


class Manifest(Spec):
    """The content of `manifest.json`."""

    schema_version: Literal[1]
    flagdit: str
    model: ModelSpec
    files: dict[FileName, File]
    engines: tuple[Engine, ...] = ()
