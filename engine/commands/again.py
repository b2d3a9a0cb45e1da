"""The command that makes a picture again, from what the picture says of itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from flagdit.cpp_ext import TILE
from flagdit.engine.commands.coarse import format_coarse, positional
from flagdit.engine.commands.ras import DEFAULTS, format_value
from flagdit.engine.commands.skip_layers import format_skip_layer_guidance
from flagdit.engine.errors import RequestError
from flagdit.engine.ras import RasConfig
from flagdit.engine.report import About
from flagdit.engine.resolve import Options
from flagdit.engine.skip_layers import SkipLayerGuidance

T = TypeVar("T")


def command(about: About, output: str) -> list[str]:
    """Arguments of `flagdit` that make a picture again, on a machine such as that it was made on.

    Raises RequestError if it does not say what was asked for.
    """
    options = said(about)
    width, height = about.size
    out = ["generate", "-o", output, "--bundle", about.bundle, "--precision", about.precision]
    out += ["--size", f"{width}x{height}", "--seed", str(about.seed), "--guidance", positional(about.guidance)]
    out += ["--negative", about.negative] * bool(about.negative)
    if about.skip_layer_guidance is not None:
        skips = _of(SkipLayerGuidance, about.skip_layer_guidance, "the skip_layer_guidance of the picture is none")
        out += ["--skip-layer-guidance", format_skip_layer_guidance(skips)]
    if about.ntk_option is not None:
        out += ["--ntk", "auto" if about.ntk_option == "auto" else positional(about.ntk_option)]
    out += ["--proportional"] * about.proportional
    if about.tile or max(about.size) > TILE:  # larger ones are decoded in tiles where memory asks for it
        out += ["--tile", str(about.tile or "off")]
    for name, value in _sampling(options):
        out += [f"--{name}"] if value is None else [f"--{name}", value]
    prompt = str(about.prompt)
    return [*out, *(["--"] if prompt.startswith("-") else []), prompt]


def said(about: About) -> Options:
    """What was said of how to sample. Raises RequestError."""
    if about.image is not None or about.noise != "seed" or about.embeds:
        raise RequestError("the picture was made of another one, of given noise or features, which it does not hold")
    if about.options is None:
        raise RequestError("the picture was made by a program with a request of its own, for which there is no command")
    return _of(Options, about.options, "the options of the picture are none")


def _of(kind: type[T], said_of_it: dict[str, Any], refusal: str) -> T:
    """What a picture says, which may come from anywhere. Raises RequestError with the refusal and a reason."""
    try:
        return TypeAdapter(kind).validate_python(said_of_it)
    except ValidationError as error:
        raise RequestError(f"{refusal}: {error.errors()[0]['msg']}") from None


def _sampling(options: Options) -> Iterator[tuple[str, str | None]]:
    """Options of the command line, without their dashes, that `sampling` makes these of."""
    if options.preset is not None:
        yield "preset", options.preset
    if isinstance(options.steps, int):
        yield "steps", str(options.steps)
    elif options.steps is not None:
        yield "times", ",".join(map(positional, options.steps))
    if options.shift is not None:
        yield "shift", positional(options.shift)
    if options.solver is not None:
        yield "solver", options.solver
    if options.dense:
        yield "dense", None
    if options.mode == "paper":
        yield "mode", "paper"
    if options.ratio is not None:
        yield "ratio", ":".join(positional(ratio) for ratio in options.ratio if ratio is not None)
    if options.schedule is not None:
        yield "schedule", "{}/{}".format(*options.schedule)
    if options.coarse is not None:
        yield "coarse", format_coarse(options.coarse)
    yield from (("ras", text) for text in _ras(options))


def _ras(options: Options) -> Iterator[str]:
    """The texts of --ras."""
    named: dict[str, Any] = dict(options.changes)
    if options.ras is not None:
        yield DEFAULTS
        own = {field.name: getattr(options.ras, field.name) for field in fields(RasConfig)}
        named = {name: value for name, value in own.items() if value != getattr(RasConfig(), name)} | named
    yield from (f"{name}={format_value(value)}" for name, value in named.items())


def shell(arguments: Sequence[str]) -> str:
    """Arguments as they are typed into a shell: nothing in them does anything there, or to the terminal."""
    return " ".join(_quoted(argument) for argument in arguments)


def visible(text: str) -> str:
    """A text with escapes in place of what would not be seen, such as codes that steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(text: str) -> str:
    if text.isprintable():
        return shlex.quote(text)
    escaped = (c if c.isprintable() and c not in "'\\" else _bytes(c) for c in text)
    return "$'" + "".join(escaped) + "'"  # as bash, zsh and ksh read it


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
