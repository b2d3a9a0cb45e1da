"""Text of others, such as a manifest's, as it may reach a terminal."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """The text with an escape in place of everything that is no letter, sign or space, such as \\x1b.

    So it moves no cursor, renames no window, turns no line around and ends none. keep: characters that stay.
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
