"""What the files of a command are called: one as it was asked for, several by numbers that no file has yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from flagdit.engine.errors import OutputError

PLACE = re.compile(r"%(?:0([1-9]))?d")
"""Where a name has its number, as in printf: %d, or %04d for at least four digits."""
OTHER = re.compile(r"%\d*[A-Za-z]")
"""Where printf would put something else, such as %n."""
NUMBERED = "%04d"


class Names:
    """Names of the files of every picture: what a user calls each kind of them, such as --map, and its path.

    With `%d` in the first path's name, a folder in its place, or more than one picture, all are numbered, from 1 or
    from above the highest number that is taken. Raises OutputError for a name that has a place, and none for a number,
    and for one of several pictures that is neither a picture's nor that of a folder.
    """

    def __init__(self, paths: Mapping[str, Path], several: bool, suffix: str = ".png") -> None:
        first = next(iter(paths))
        if several and not paths[first].suffix and not paths[first].exists():
            raise OutputError(
                f"{paths[first]}: there is no such folder, and it is no picture's name, which ends in {suffix}; make "
                f"the folder first: mkdir -p {paths[first]}"
            )
        folder = {first: paths[first] / f"{NUMBERED}{suffix}"} if paths[first].is_dir() else {}
        self._paths = {**paths, **folder}
        self.numbered = several or bool(folder) or PLACE.search(self._paths[first].name) is not None
        if self.numbered:
            self._paths = {what: _template(path) for what, path in self._paths.items()}
        self._first = first
        self._next = 1 + max(map(_highest, self._paths.values())) if self.numbered else 0

    @property
    def next(self) -> dict[str, Path]:
        """The files of the picture that comes next, by what a user calls them."""
        return {what: _filled(path, self._next) if self.numbered else path for what, path in self._paths.items()}

    @contextmanager
    def taken(self) -> Iterator[dict[str, Path]]:
        """`next`, kept from others that number their pictures alike until the block has written them.

        Raises OutputError if the file system refuses.
        """
        if not self.numbered:
            yield self.next
            return
        while any(path.exists() for path in self._others) or not _reserve(self.next[self._first]):
            self._next += 1
        mine = self.next
        try:
            yield mine
        finally:
            self._next += 1
            with suppress(OSError):
                if mine[self._first].stat().st_size == 0:
                    mine[self._first].unlink()

    @property
    def _others(self) -> list[Path]:
        return [path for what, path in self.next.items() if what != self._first]


def _template(path: Path) -> Path:
    """Raises OutputError for a name that has a place for something else than a number."""
    if PLACE.search(path.name):
        return path
    if other := OTHER.search(path.name):
        raise OutputError(
            f"{path}: has a place for something that is no number ({other[0][:2]}); a number's is %d, or %04d for at "
            "least four digits"
        )
    return path.with_name(f"{path.stem}-{NUMBERED}{path.suffix}")


def _filled(path: Path, number: int) -> Path:
    """The path with a number in its place."""
    return path.with_name(PLACE.sub(lambda place: f"{number:0{place[1] or 0}d}", path.name, count=1))


def _highest(path: Path) -> int:
    """The highest number among the names in its folder that are those of a template."""
    place = PLACE.search(path.name)
    if place is None:
        return 0
    name = re.compile(re.escape(path.name[: place.start()]) + r"(\d{1,18})" + re.escape(path.name[place.end() :]))
    with suppress(OSError):
        return max(
            (int(found[1]) for other in path.parent.iterdir() if (found := name.fullmatch(other.name))), default=0
        )
    return 0


def _reserve(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another path") from None
    return True
