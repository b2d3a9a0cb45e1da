"""The root of all errors that a user can mend, and the one of writing, which every room may raise."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flagdit.files.printable import printable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FlagditError(Exception):
    """Base of all errors that a user can mend. What names and files bring into its message is escaped."""

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


class OutputError(FlagditError):
    """A result cannot be written where it was asked for."""


@contextmanager
def refusals(path: Path, kept: str = "") -> Iterator[None]:
    """Turn what the file system refuses inside the block into an OutputError of one line: which output, why, what next.

    kept: what is left of the work, for the message.
    """
    try:
        yield
    except OSError as error:
        remedy = "make room, or choose another path" if error.errno in FULL else "choose another path"
        reason = error.strerror or " ".join(str(error).split())
        raise OutputError(f"{path}: cannot be written ({reason}); {kept}{remedy}") from None
