"""The option `--ras KEY=VALUE`: every field of RasConfig by name, of the kind and the meaning that it has there."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Sequence
from dataclasses import fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from rich.table import Table
from rich.text import Text

from flagdit.engine.commands.common import console
from flagdit.engine.errors import RequestError
from flagdit.engine.ras import RasConfig

DEFAULTS, HELP = "defaults", "help"
"""Words in place of KEY=VALUE: begin with RasConfig's own values instead of the preset's; list the fields."""

TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parse_ras(texts: Sequence[str] | None) -> tuple[dict[str, Any], bool]:
    """Fields of RasConfig by name, and whether the others are its own defaults.

    Raises RequestError for a field that there is none of or that is said twice, and for a value of another kind.
    Whether it is in its bounds, the plan checks.
    """
    out: dict[str, Any] = {}
    for text in texts or ():
        if text == DEFAULTS:
            continue
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise RequestError(f"ras {text!r} is not KEY=VALUE; for instance --ras warmup=3; {_LIST}")
        if name in out:
            raise RequestError(f"ras says {name} twice; say it once")
        out[name] = parse_value(name, value.strip())
    return out, DEFAULTS in (texts or ())


def parse_value(name: str, text: str) -> Any:
    """The value of a field of RasConfig. Raises RequestError."""
    hints = get_type_hints(RasConfig)
    if name not in hints:
        near = difflib.get_close_matches(name, hints, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise RequestError(f"ras has no {name!r}; {meant}{_LIST}")
    for alternative in _alternatives(hints[name]):
        try:
            return _READ[_key(alternative)](text, alternative)
        except (ValueError, KeyError):
            continue
    raise RequestError(f"ras {name} is {text!r}; allowed: {kind(name)}; {_LIST}")


def format_value(value: Any) -> str:
    """The text that `parse_value` reads a value from."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) or value is None:
        return value or "none"
    if isinstance(value, int):
        return str(value)
    return repr(float(value)) if isinstance(value, float) else ",".join(format_value(part) for part in value)


def kind(name: str) -> str:
    """What a field of RasConfig takes, in words; of several that share a sentence, the first."""
    hint = get_type_hints(RasConfig)[name.partition(",")[0]]
    return ", or ".join(_WORDS[_key(part)](part) for part in _alternatives(hint))


def meanings() -> dict[str, str]:
    """What the fields of RasConfig mean, as its docstring has it, by their names; some share a sentence."""
    return {names: meaning for group in groups().values() for names, meaning in group.items()}


def groups() -> dict[str, dict[str, str]]:
    """`meanings` by what the fields decide, in the words of the docstring; "" is the group of `mode`."""
    out: dict[str, dict[str, str]] = {"": {}}
    text = inspect.getdoc(RasConfig) or ""
    for title, names, meaning in re.findall(_PARTS, text, re.MULTILINE):
        if title:
            out[title] = {}
        else:
            out[next(reversed(out))][names] = " ".join(meaning.split())
    return out


def print_help(values: list[str] | None) -> list[str] | None:
    """List all fields, if that is what was asked for."""
    if HELP not in (values or ()):
        return values
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for title in ("--ras", "meaning"):
        table.add_column(title)
    for title, group in groups().items():
        if title:
            table.add_row("", Text(title, "bold"))
        for names, meaning in group.items():
            table.add_row(_with_defaults(names), Text.assemble(meaning, "\n", (f"takes {kind(names)}", "dim")))
    console.print(table, highlight=False)
    begins = (f"--ras {DEFAULTS}", "bold")
    console.print(
        Text.assemble(
            "Fields change what the preset says of regions; ", begins, " begins with the values above instead."
        )
    )
    raise typer.Exit


RasOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ras",
        metavar="KEY=VALUE",
        callback=print_help,
        is_eager=True,
        help=f"Change one more thing of region-adaptive sampling; may be given again. [bold]--ras {HELP}[/] lists all: "
        + ", ".join(field.name for field in fields(RasConfig))
        + ".",
    ),
]

_LIST = f"flagdit generate --ras {HELP} lists the fields"
_PARTS = r"^(\w[\w ]* \(\w+\)$)|^(\w+(?:, \w+)*): (.*(?:\n +.*)*)"
"""Of RasConfig's docstring: a title of a group, or names and their meaning."""


def _with_defaults(names: str) -> Text:
    """NAME=DEFAULT, a line for each."""
    defaults = {field.name: field.default for field in fields(RasConfig)}
    lines = [Text.assemble((name, "bold"), "=", (format_value(defaults[name]), "cyan")) for name in names.split(", ")]
    return Text("\n").join(lines)


def _alternatives(hint: Any) -> list[Any]:
    parts = list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]
    return sorted(parts, key=lambda part: part is NoneType)


def _key(hint: Any) -> Any:
    return get_origin(hint) or hint


def _choice(text: str, hint: Any) -> Any:
    return {str(choice): choice for choice in get_args(hint)}[text]


def _number(text: str, _: Any) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


def _whole(text: str, _: Any) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
        raise ValueError(text)
    return int(text)


def _nothing(text: str, _: Any) -> None:
    if text.lower() != "none":
        raise ValueError(text)


_READ: dict[Any, Any] = {
    NoneType: _nothing,
    bool: lambda text, _: TRUTH[text.lower()],
    int: _whole,
    float: _number,
    Literal: _choice,
    tuple: lambda text, _: tuple(_whole(part.strip(), _) for part in text.split(",") if text),
    Sequence: lambda text, _: [_number(part, _) for part in text.split(",")],
}
_WORDS: dict[Any, Any] = {
    NoneType: lambda _: "none",
    bool: lambda _: "true or false",
    int: lambda _: "a whole number",
    float: lambda _: "a number",
    Literal: lambda hint: "one of " + ", ".join(map(str, get_args(hint))),
    tuple: lambda _: "whole numbers with commas (nothing between them is an empty list)",
    Sequence: lambda _: "numbers with commas, one for every step",
}
