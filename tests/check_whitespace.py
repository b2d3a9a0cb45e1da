"""Exit 1 if a text file named on the command line has trailing spaces or no newline at its end."""

import sys
from pathlib import Path


def fault(path: Path) -> str | None:
    """What is wrong with a file, if anything."""
    text = path.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        return "no newline at the end"
    lines = (i for i, line in enumerate(text.splitlines(), 1) if line != line.rstrip())
    first = next(lines, None)
    return None if first is None else f"trailing space in line {first}"


def main() -> int:
    faults = [(name, fault(Path(name))) for name in sys.argv[1:]]
    for name, what in faults:
        if what:
            print(f"{name}: {what}")
    return int(any(what for _, what in faults))


if __name__ == "__main__":
    sys.exit(main())
