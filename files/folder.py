"""A folder that is filled whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flagdit.files.check import probe
from flagdit.files.errors import OutputError, refusals
from flagdit.files.file import sync_path
from flagdit.files.lock import LOCK, locked
from flagdit.files.part import NAME, is_left, is_mine, name, sweep

MOVES = ".moves"
"""In an unfinished folder whose files take their places: their names."""
EMPTY = {LOCK, "lost+found"}
"""What may be in an empty folder: the second is in every new volume."""


def check_folder(path: Path, last: str, goes_on: str | None = None) -> None:
    """Raise OutputError now if `whole_folder` could not fill a folder later; see there."""
    with refusals(path):
        home = _home(path)
        if home.is_dir():
            with locked(home) as free:
                _clear(home, path, last, free=free, goes_on=goes_on)
                probe(home)
        else:
            above = next(folder for folder in home.parents if folder.exists())
            if not above.is_dir():
                raise OutputError(f"{path}: {above} is a file; choose another folder")
            probe(above)


@contextmanager
def whole_folder(path: Path, last: str, goes_on: str | None = None) -> Iterator[Path]:
    """A private folder to write to; its files move into `path` when the block ends well, and go if it does not.

    goes_on: a suffix. A folder with a file that has it stays where the process is killed or stopped by somebody, rather
    than by an error, and the next block with the same suffix gets it, with all that is in it.

    The file `last` moves last: with it `path` is whole, without it nothing. `path` may be missing, or an empty
    folder of any kind: the current one, a volume, a link to one. Raises OutputError if it holds anything, if another
    process fills it, or if the file system refuses; what a killed one left in it is removed first.
    """
    with refusals(path, "nothing of it is kept; "):
        home = _home(path)
        made = [folder for folder in (home, *home.parents) if not folder.exists()]
        try:
            with locked(home) as free:
                part = _clear(home, path, last, free=free, goes_on=goes_on) or home / name()
                part.mkdir(mode=0o700, exist_ok=True)
                stopped = False
                try:
                    yield part
                    _fill(part, home, path, last=last)
                except OutputError as error:  # of a file of this folder
                    raise OutputError(str(error).replace(str(part), str(path))) from None
                except Exception:
                    raise
                except BaseException:
                    stopped = True
                    raise
                finally:
                    if not (stopped and _goes_on(part, goes_on)):
                        shutil.rmtree(part, ignore_errors=True)
        except BaseException:
            for folder in made:
                with suppress(OSError):  # not empty: something is kept there
                    folder.rmdir()
            raise


def _home(path: Path) -> Path:
    """The folder that `path` is or will be, wherever links lead. Raises OutputError if it cannot be one."""
    home = Path(os.path.realpath(path))
    if home.exists() and not home.is_dir():
        raise OutputError(f"{path}: exists already, and is a file; choose another folder")
    if path.is_symlink() and not home.exists():
        raise OutputError(f"{path}: is a link to {path.readlink()}, which is not there; remove it, or make that folder")
    if home.is_dir():
        sweep(home)
        if not _unfinished(home):
            _refuse(path, _others(home))
    return home


def _clear(home: Path, path: Path, last: str, *, free: bool | None, goes_on: str | None) -> Path | None:
    """Remove what killed builds left; raise OutputError if there is anything else. free: as `locked` says it.

    Returns the folder that can be gone on with, if there is one.
    """
    kept: Path | None = None
    for part in _unfinished(home):
        if is_left(free, part.lstat()):
            moved, others = _moved(part), _others(home) - {part.name}
            if kept is None and not moved and _goes_on(part, goes_on):
                kept = part
                continue
            if last not in moved and others <= moved:  # killed while they moved
                for file in others:
                    (home / file).unlink()
            shutil.rmtree(part, ignore_errors=True)
    _refuse(path, _others(home) - ({kept.name} if kept else set()))
    return kept


def _goes_on(part: Path, suffix: str | None) -> bool:
    return suffix is not None and part.is_dir() and any(path.suffix == suffix for path in part.iterdir())


def _refuse(path: Path, others: set[str]) -> None:
    if others:
        raise OutputError(f"{path}: exists already, with {min(others)} in it; remove it, or choose another folder")


def _unfinished(home: Path) -> list[Path]:
    """Folders in which builds of this user work, or worked until they were killed."""
    with os.scandir(home) as entries:
        named = [Path(entry.path) for entry in entries if NAME.fullmatch(entry.name)]
    return [part for part in named if stat.S_ISDIR(part.lstat().st_mode) and is_mine(part.lstat())]


def _others(home: Path) -> set[str]:
    return {entry.name for entry in home.iterdir()} - EMPTY


def _moved(part: Path) -> set[str]:
    """Names of the files that have left an unfinished folder for their places."""
    try:
        names = json.loads((part / MOVES).read_bytes())
        return {file for file in names if not (part / file).exists()}
    except (OSError, ValueError, TypeError):
        return set()


def _fill(part: Path, home: Path, path: Path, *, last: str) -> None:
    """Move the files of `part` to `home`, all or none; if they cannot move, keep them under another name."""
    files = sorted((entry.name for entry in part.iterdir()), key=lambda file: (file == last, file))
    for file in files:
        sync_path(part / file)
    (part / MOVES).write_text(json.dumps(files))
    sync_path(part / MOVES)
    sync_path(part)
    strange = _others(home) - {part.name}
    if strange:
        raise OutputError(f"{path}: {min(strange)} has come into it meanwhile; {_keep(part)}")
    try:
        for file in files:
            if file == last:
                sync_path(home)
            (part / file).rename(home / file)
        sync_path(home)
    except BaseException as error:
        for file in _moved(part):
            (home / file).rename(part / file)
        if isinstance(error, OSError):
            raise OutputError(f"{path}: cannot be written ({error.strerror}); {_keep(part)}") from None
        raise


def _keep(part: Path) -> str:
    """Give finished work a name that no clearing removes; says which."""
    kept = part.with_name(f"finished-{secrets.token_hex(4)}")
    (part / MOVES).unlink()
    part.chmod(0o755)
    part.rename(kept)
    return f"the finished files are kept in {kept}"
