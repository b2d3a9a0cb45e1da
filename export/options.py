"""What an export is asked for, and all that can be refused of it before minutes of work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flagdit.export.errors import ExportError
from flagdit.export.families.family import Facts
from flagdit.export.journal import SUFFIX
from flagdit.export.parts.autoencoder import read_vae
from flagdit.export.parts.text.classes import check_classes
from flagdit.export.parts.text.given import Folder, check_given
from flagdit.export.parts.text.precision import AUTO, check_precision
from flagdit.export.storage import STORAGE
from flagdit.files import check_folder

MODEL = "model.json"
MAX_SIZE = 65_536
MAX_TOKENS = 131_072  # the longest sequence of the Lumina-T2X paper
MAX_TEXT_TOKENS = 4096
RENORMALISE = ("none", "picture", "line")
MAX_EXAMPLES, MAX_LETTERS = 1000, 2000


@dataclass(frozen=True)
class ExportOptions:
    """What the checkpoint does not say."""

    name: str | None = None  # in reports; none: the family's
    size: tuple[int, int] = (64, 64)  # width, height of latents that the model was trained at
    dtype: str = "float16"  # of the stored matrices; the graphs compute in fp32
    text_encoder: Path | None = None
    text_encoders: Mapping[str, Folder] = field(default_factory=dict)  # by the name of their features
    max_text_tokens: int | None = None  # of the longest prompt; none: the family's
    vae: Path | None = None  # an autoencoder's folder, to paint pictures
    preview: Path | None = None  # one of a small decoder
    renormalise: str | None = None  # of guidance; none: the family's
    phases: tuple[float, ...] | None = None  # times from which on tokens are placed anew; none: the family's
    shift: float | None = None  # time shift of sampling (4 for Lumina-T2I at 1024 pixels); none: the family's
    guidance: float | None = None  # guidance scale that suits the model; none: the family's
    text_encoder_weights: str = AUTO  # what the encoders' are stored in
    rescale: bool = True  # where that lets float16 hold activations, and changes nothing else
    examples: tuple[str, ...] = ()  # prompts that the model was made for
    classes: tuple[str, ...] = ()  # names of a model's classes, in their order, if it paints those
    licences: dict[str, str] = field(default_factory=dict)

    def given(self) -> dict[str, Folder]:
        """All text encoders. One without a name has those features that most models call `text`."""
        one = {} if self.text_encoder is None else {"text": Folder(self.text_encoder, self.text_encoder)}
        return {**one, **self.text_encoders}


def check(directory: Path, options: ExportOptions, facts: Facts) -> None:
    """Raise ExportError or OutputError for what cannot be exported, by the options and the headers of the inputs.

    Of the text encoder no weight is read, and of the checkpoint, of which these are facts, nothing.
    """
    check_alone(directory, options)
    width, height = options.size
    patch = facts.patch
    if width % patch or height % patch:
        near = "x".join(str(max(patch, round(n / patch) * patch)) for n in options.size)
        raise ExportError(f"size {width}x{height} is not made of {patch}x{patch} patches; the nearest is {near}")
    tokens = (width // patch + ("line" in facts.closes)) * (height // patch)
    if tokens > MAX_TOKENS:
        raise ExportError(f"size {width}x{height} has {tokens} tokens; allowed are {MAX_TOKENS}")
    check_classes(options.classes, facts.classes)
    if facts.classes and options.given():
        raise ExportError("the model paints classes, which need no text encoder; leave --text-encoder out")
    if options.phases is not None and len(options.phases) > len(facts.phases):
        raise ExportError(
            f"phases are {len(options.phases)} times; this family's place has {len(facts.phases)}, from 0 on"
        )
    if options.text_encoder_weights != AUTO and not options.given():
        raise ExportError(
            "text_encoder_weights are of a text encoder, and there is none; give --text-encoder DIRECTORY, or leave "
            "them out"
        )
    check_given(options.given(), facts.encoders, options.max_text_tokens, examples=options.examples)
    for folder in (options.vae, options.preview):
        if folder is not None:
            read_vae(folder, facts.channels)


def check_alone(directory: Path, options: ExportOptions) -> None:
    """Raise ExportError for an option that no checkpoint could make right, OutputError for such a directory."""
    check_folder(directory, MODEL, SUFFIX)
    if options.dtype not in STORAGE:
        raise ExportError(f"dtype {options.dtype!r} is not one of {', '.join(STORAGE)}")
    if options.name is not None and not options.name.strip():
        raise ExportError("the name is empty; say what the model is called in reports, for instance --name emoji")
    if not all(1 <= n <= MAX_SIZE for n in options.size):
        raise ExportError(
            f"size {'x'.join(map(str, options.size))} is out of bounds; allowed are 1 to {MAX_SIZE} a side"
        )
    if options.shift is not None and not 0.1 <= options.shift <= 100:
        raise ExportError(f"shift is {options.shift}; allowed are 0.1 to 100, 1 is none")
    if options.guidance is not None and not 0 <= options.guidance <= 100:
        raise ExportError(f"guidance is {options.guidance}; allowed are 0 to 100, 1 is none")
    if options.max_text_tokens is not None and not 2 <= options.max_text_tokens <= MAX_TEXT_TOKENS:
        raise ExportError(f"max_text_tokens is {options.max_text_tokens}; allowed are 2 to {MAX_TEXT_TOKENS}")
    if options.renormalise not in (None, *RENORMALISE):
        raise ExportError(f"renormalise {options.renormalise!r} is not one of {', '.join(RENORMALISE)}")
    if options.phases is not None and not _rise(options.phases):
        said = ", ".join(f"{time:g}" for time in options.phases)
        raise ExportError(f"phases are {said or 'none'}; allowed are times that do not fall, from 0 to at most 1")
    check_precision(options.text_encoder_weights)
    _check_words(options)


def _rise(phases: tuple[float, ...]) -> bool:
    inside = all(0 <= time <= 1 for time in phases)  # no NaN either
    return inside and phases[:1] == (0.0,) and list(phases) == sorted(phases)


def _check_words(options: ExportOptions) -> None:
    if len(options.examples) > MAX_EXAMPLES:
        raise ExportError(f"there are {len(options.examples)} examples; allowed are {MAX_EXAMPLES}")
    for number, text in enumerate(options.examples, 1):
        if not 1 <= len(text) <= MAX_LETTERS:
            raise ExportError(f"example {number} has {len(text)} letters; allowed are 1 to {MAX_LETTERS}")
    for part, licence in options.licences.items():
        if not (part.strip() and licence.strip()):
            raise ExportError(f"licence {part + '=' + licence!r} is not PART=SPDX-ID; for instance weights=MIT")
