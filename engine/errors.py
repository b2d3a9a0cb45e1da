"""What can go wrong, as a tree. Every message says what, got, allowed, and the next command where there is one.

FlagditError
├── RequestError         a prompt, size, step count or ratio that cannot be served
├── BundleError          the bundle is missing, damaged or of another version
├── BuildError           an engine cannot be built
├── BackendError         a backend is not installed, or cannot run here
└── OutputError          a result cannot be written
"""

from flagdit.engine.printable import printable


class FlagditError(Exception):
    """Base of all errors that a user can mend. What names and files bring into its message is escaped."""

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


class RequestError(FlagditError, ValueError):
    """The request cannot be served: a prompt, size, step count or ratio is out of bounds."""


class BundleError(FlagditError):
    """The bundle or model directory is missing, damaged, or of another schema version."""


class BuildError(FlagditError):
    """An engine cannot be built for this target."""


class BackendError(FlagditError):
    """A backend is not installed, or cannot run on this machine."""


class OutputError(FlagditError):
    """A result cannot be written where it was asked for."""
