"""How much memory this process may hold: of the machine, of its container, of its shell's limits.

Only what a system says is known: where it says nothing, nothing is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flagdit.engine.machine import memory_bytes

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")

UNLIMITED = 1 << 60  # above it, a cgroup of version 1 has no limit


def room(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Bytes that this process could hold in all, those that it holds already among them; None if nobody says.

    Linux: what /proc calls available and what every cgroup of the process has left (version 2 or 1), file pages that
    would give way not counted as used, and the limit on its address space. Elsewhere: the machine's memory.
    """
    own = resident(proc)
    left = [available for available in (_available(proc), *_cgroups(proc, cgroups)) if available is not None]
    bounds = [own + max(value, 0) for value in left] or [value for value in (memory_bytes(),) if value is not None]
    return min([*bounds, *_address_space(proc, own)], default=None)


def _numbers(path: Path) -> dict[str, int]:
    """Lines "NAME: NUMBER ..." or "NAME NUMBER" of a file, by name; none if it is not there."""
    try:
        lines = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}


def _number(path: Path) -> int | None:
    """The one number of a file; None if it holds none ("max")."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _available(proc: Path) -> int | None:
    kilobytes = _numbers(proc / "meminfo").get("MemAvailable")
    return None if kilobytes is None else kilobytes << 10


def resident(proc: Path = PROC) -> int:
    """Bytes that this process holds; 0 if nobody says."""
    return _numbers(proc / "self/status").get("VmRSS", 0) << 10


def _cgroups(proc: Path, root: Path) -> Iterator[int]:
    """What is left in the cgroups of this process and in those around them."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" or "memory" in controllers.split(","):
            base = root if number == "0" else root / "memory"
            own = base / path.lstrip("/")  # a container sees its own cgroup at the root, whatever it is called outside
            for folder in {base, *(f for f in (own, *own.parents) if f.is_relative_to(base))}:
                yield from _left(folder)


def _left(folder: Path) -> Iterator[int]:
    """Of a cgroup of version 2 or 1, if it has a limit."""
    for limit, used, stale in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = _number(folder / limit), _number(folder / used)
        if most is not None and now is not None and most < UNLIMITED:
            yield most - now + _numbers(folder / "memory.stat").get(stale, 0)


def _address_space(proc: Path, own: int) -> Iterator[int]:
    """ulimit -v, if there is one: it counts what is reserved, too."""
    try:
        import resource  # not on Windows
    except ImportError:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    reserved = _numbers(proc / "self/status").get("VmSize", 0) << 10
    if limit != resource.RLIM_INFINITY and reserved:
        yield own + max(limit - reserved, 0)
