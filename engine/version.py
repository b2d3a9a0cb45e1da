"""Versions of packages, for what is written down of a run."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of(package: str) -> str:
    """The version that a package was installed as; "unknown" if nothing was, as in a tree of sources.

    Never a reason to lose what was made: it is asked for at the end of work.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
