"""`flagdit verify`: every byte of a bundle, read and compared with its digests."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.commands.common import console, say_which
from flagdit.engine.commands.progress import Work, working
from flagdit.engine.commands.terminal import complain
from flagdit.engine.errors import BundleError


class _Bar(ExitStack):
    """A bar of bytes, from when it is known how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self._work: Work | None = None
        self._done = 0

    def tell(self, done: int, whole: int) -> None:
        if self._work is None:
            self._work = self.enter_context(working("verifying", whole, remaining=True, in_bytes=True))
        self._work.advance(done - self._done)
        self._done = done


def verify(bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle directory, or demo.")]) -> None:
    """Read every byte of a bundle, and name the files that are not what its manifest says; exit status 1 if any.

    Other commands read what they use; a large file that was right once, and has not changed since, they do not check
    again.

    [dim]flagdit verify BUNDLE[/]
    """
    say_which(bundle)
    with _Bar() as bar:
        faults = Bundle.verify(bundle, bar.tell)
    for fault in faults:
        complain(BundleError(fault))
    if faults:
        raise typer.Exit(1)
    console.print("every byte is what the manifest says", highlight=False)
