"""Where commands write: names, prompts and errors come out as they are, and never as instructions.

What a manifest, a file name or an exception says is text of others. So no string is markup here, and what is no letter
or sign is escaped; styles are given to `rich.text.Text` instead.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from flagdit.files.printable import printable


class Terminal(Console):
    """A console that prints every string literally, in tables too."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text, keep="\n"), **{**options, "markup": False, "emoji": False})


console = Terminal()
messages = Terminal(stderr=True)


def say(text: str) -> None:
    """Print one line to standard error, unwrapped."""
    messages.print(text, highlight=False, soft_wrap=True)


def complain(error: Exception) -> None:
    """Print what a user can mend."""
    messages.print(Text("error:", "bold red"), str(error), highlight=False, soft_wrap=True)
