"""The specification of a model directory (`model.json`) and of a bundle (`manifest.json`): docs/bundle.md.

A bundle's manifest is the model's specification, a digest of every file, and the engines built from its graphs.
Letters of symbolic axes: A active, M cached, R rows, T text, S evaluations, N all tokens.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from flagdit.engine.bundle.graph_spec import Graph, Graphs, Tensor
from flagdit.engine.bundle.preset_spec import Preset
from flagdit.engine.bundle.spec import Digest, FileName, Size, Spec

SCHEMA_VERSION = 2

Count = Annotated[int, Field(ge=1, le=1 << 20)]
Side = Annotated[int, Field(ge=1, le=64)]
Flops = Annotated[int, Field(ge=0, le=1 << 60)]


class Weights(Spec):
    """The safetensors file that `condition` and `denoise` have their weights in."""

    file: FileName
    sha256: Digest
    dtype: Literal["float32", "float16", "bfloat16", "int8"]
    parameters: Annotated[int, Field(ge=1, le=1 << 50)]


class Latent(Spec):
    """What the flow ends in: pixels in [-1, 1], or latents of a VAE.

    size: (width, height) of the training, in pixels, of which a latent has `downscale` a side.
    """

    space: Literal["pixels", "vae"]
    channels: Annotated[int, Field(ge=1, le=64)]
    size: Size
    downscale: Annotated[int, Field(ge=1, le=256)] = 1
    frames: Annotated[int, Field(ge=1, le=65536)] = 1


class Tokens(Spec):
    """Patches of (frames, height, width) latents, as vectors ordered (channel, frame, height, width).

    closes: what ends with a token that carries no latent: every line of patches, every frame. multiple: of the number
    of tokens, up to which tokens that have no place follow the last one; 1 is none.
    """

    patch: tuple[Side, Side, Side]
    closes: Annotated[tuple[Literal["line", "frame"], ...], Field(max_length=2)]
    multiple: Annotated[int, Field(ge=1, le=1024)] = 1


class Guidance(Spec):
    """The channels that classifier-free guidance touches, the order of its branches in a batch, and its usual scale.

    renormalise: what brings the norm of a guided velocity back to that of the conditional one: a factor for the
    picture, at most 1, or one for every channel and line of latents; none. skip_layers: those that skip-layer guidance
    leaves out where nobody says others, of a model whose `condition` takes `layers`.
    """

    channels: tuple[Annotated[int, Field(ge=0, le=63)], ...]
    rows: tuple[Literal["cond"], Literal["uncond"]]
    scale: Annotated[float, Field(ge=0, le=100)] = 4.0  # that suits the model; 4 is Lumina-T2X's own
    renormalise: Literal["none", "picture", "line"] = "none"
    skip_layers: Annotated[tuple[Annotated[int, Field(ge=0, le=1 << 20)], ...], Field(max_length=1000)] = ()

    def chosen(self, scale: float | None) -> float:
        """A scale that somebody asked for, or the model's."""
        return self.scale if scale is None else scale


class ShiftByTokens(Spec):
    """A time shift exp(mu) with mu on the line through two numbers of patches (diffusers' dynamic shifting)."""

    tokens: tuple[Count, Count]
    mu: tuple[Annotated[float, Field(ge=-4, le=4)], Annotated[float, Field(ge=-4, le=4)]]

    @model_validator(mode="after")
    def _is_a_line(self) -> ShiftByTokens:
        if not self.tokens[0] < self.tokens[1]:
            raise ValueError(f"the tokens are {self.tokens[0]} and {self.tokens[1]}; the second are more")
        return self


class Flow(Spec):
    """Time runs from 0 (noise) to 1 (data), the velocity is data minus noise. shift: of times, that suits the model."""

    shift: Annotated[float, Field(ge=0.1, le=100)] | ShiftByTokens


class Sizes(Spec):
    """What the estimate of memory needs besides the ports: widths of a token, of its hidden layer, of the heads.

    text: tokens of every text, of a model that fills texts up.
    """

    width: Count
    hidden: Count
    heads: Count
    kv_heads: Count
    head: Count
    text: Count | None = None


class Price(Spec):
    """FLOPs (two a multiply-add) of a row and evaluation: A token + A (N + T) pair + T text + T (N + T) text_pair."""

    token: Flops
    pair: Flops
    text: Flops
    text_pair: Flops


class Text(Spec):
    """A text encoder. What its graph gives goes to the inputs of `condition` that have the same names.

    template: what a prompt is put into, at {}. negative: what the text of the unconditional branch is put into; none if
    it is the template. padding: the token that fills up to max_tokens, none if texts keep their own length. truncate:
    whether a longer text is cut before its last special tokens, rather than refused. dtype: how its matrices are
    stored, for people.
    """

    graph: Graph
    tokenizer: FileName
    template: str
    max_tokens: Annotated[int, Field(ge=2, le=4096)]
    padding: Annotated[int, Field(ge=0, le=1 << 24)] | None
    negative: str | None = None
    truncate: bool = False
    dtype: Literal["float32", "float16", "bfloat16", "int8", "int4"] = "float32"


def _unlike(presets: tuple[Preset, ...]) -> tuple[Preset, ...]:
    for (name, size), count in Counter((preset.name, preset.size) for preset in presets).items():
        if count > 1:
            raise ValueError(f"{name!r} for {size[0]}x{size[1]} is there twice or more; allowed is once")
    return presets


class ModelSpec(Spec):
    """The content of `model.json`.

    family, config: for people; nothing at run time reads them. phases: the times from which on tokens are placed
    anew, the first 0. ntk_power: of the area's growth, which is the factor that `--ntk auto` takes. pads: what fills an
    output of `condition` behind a text that is shorter than others of its batch; zeros if it is not named.
    """

    schema_version: Literal[2]
    name: str
    family: str
    config: dict[str, int | float | bool | str | None]
    weights: Weights
    latent: Latent
    tokens: Tokens
    guidance: Guidance
    flow: Flow
    phases: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1, max_length=8)] = (0.0,)
    ntk_power: Annotated[float, Field(ge=0, le=2)] = 1.0
    sizes: Sizes
    price: Price
    texts: Annotated[tuple[Text, ...], Field(max_length=4)]
    pads: dict[str, float] = Field(default_factory=dict)
    presets: Annotated[tuple[Preset, ...], AfterValidator(_unlike)] = ()
    examples: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=2000)], ...], Field(max_length=1000)] = ()
    graphs: Graphs
    licences: dict[str, str]
    exporter: dict[str, str | int]

    @property
    def text(self) -> Text | None:
        """The first text encoder, if there is one."""
        return self.texts[0] if self.texts else None

    @property
    def text_tokens(self) -> int:
        """Tokens of the longest text, of all encoders together; 0 without any."""
        return sum(text.max_tokens for text in self.texts)

    @property
    def patch_values(self) -> int:
        """P, the numbers of a patch."""
        return self.latent.channels * math.prod(self.tokens.patch)

    @property
    def layers(self) -> int:
        """How many `condition` is told to compute or to skip; 0: it is told nothing of them."""
        told = [tensor.shape for tensor in self.graphs.condition.inputs if tensor.name == "layers"]
        return told[0][0] if told and len(told[0]) == 1 and isinstance(told[0][0], int) else 0


class File(Spec):
    """What a file of the bundle is."""

    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]


class Profile(Spec):
    """Smallest, best and largest shape of one engine input."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


class Engine(Spec):
    """One graph compiled for one target. A GPU's runs only where the versions and the architectures match."""

    graph: Literal["condition", "denoise"]
    file: FileName
    target: Literal["tensorrt-rtx", "tensorrt", "onnxruntime", "onnxruntime-cuda"]
    version: str
    architectures: tuple[int, ...]  # compute capabilities times ten: 89 is 8.9; none of a CPU's
    platform: str
    precision: Literal["float32", "float16", "bfloat16", "int8", "int8-bf16", "fp8"]
    profiles: tuple[dict[str, Profile], ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    build_seconds: float
    peak_build_bytes: int | None = None
    psnr: float | None = None


class Manifest(Spec):
    """The content of `manifest.json`."""

    schema_version: Literal[2]
    flagdit: str
    model: ModelSpec
    files: dict[FileName, File]
    engines: tuple[Engine, ...] = ()
