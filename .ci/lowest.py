"""The lowest versions that pyproject.toml declares, as requirements; or a check that an environment has them.

What is pinned is left out: its lowest version is its only one, and every other environment has it.

    python .ci/lowest.py EXTRA... > requirements.txt      of the runtime, the build and these extras
    PYTHON .ci/lowest.py --check EXTRA...                 whether the packages that PYTHON imports are those
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(?P<sign>>=|==)\s*(?P<floor>[\w.]+)(,<[\w.]+)?")


def declared(extras: list[str]) -> Iterator[str]:
    """Requirements of the build, the runtime and the extras; extras of ours within them are to be named."""
    table = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    project = table["project"]
    lists = [table["build-system"]["requires"], project["dependencies"]]
    lists += [project["optional-dependencies"][extra] for extra in extras]
    yield from (line for lines in lists for line in lines if not line.startswith(f"{project['name']}["))


def floors(extras: list[str]) -> dict[str, str]:
    """The lowest version of each. Raises ValueError if one declares none."""
    lowest = {}
    for line in declared(extras):
        match = REQUIREMENT.fullmatch(line)
        if match is None:
            raise ValueError(f"pyproject.toml: {line!r} declares no lowest version; write name>=version")
        if match["sign"] == ">=":
            lowest[match["name"]] = match["floor"]
    return lowest


def release(text: str) -> list[int]:
    """Numbers of a version, without zeros at its end: 1.25 is 1.25.0."""
    numbers = [int(part) for part in re.findall(r"\d+", text.partition("+")[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def main(arguments: list[str]) -> int:
    """As the module says; 1 if an environment has other versions."""
    if arguments[:1] != ["--check"]:
        print("\n".join(f"{name}=={floor}" for name, floor in floors(arguments).items()))
        return 0
    wrong = {n: f for n, f in floors(arguments[1:]).items() if release(version(n)) != release(f)}
    for name, floor in wrong.items():
        print(f"{name} is {version(name)}, not {floor}, the lowest that pyproject.toml declares", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
