"""What a run does between engine calls, as a share of it, beside what another checkout of flagdit does there.

    python benchmarks/host.py                                        # the demo, every engine, 64x64 and 128x128
    python benchmarks/host.py --against ../other/build/typing --json host.json    # what to import that flagdit from

Each flagdit is a process of its own, and they take turns, a run each. Of every step the least of the repeats counts, so
that what else the machine does hardly does: all runs of a kind do the same. One thread, one picture. Milliseconds are
of a run: `engine` in engine calls, `host` between them, as a report says it, and `rest` all that is not in an engine
call, from one preview to the next, from the second step on. `cpu` is process time of the whole run, with text and
pictures, the least, too; `both` is engine and host. Shares are of engine and host, or rest.

Where the machine is so busy that hardly a step has a core to itself, let all clocks be CPU time of their thread:

    cc -O2 -shared -fPIC -o clock.so benchmarks/cpu_clock.c && LD_PRELOAD=$PWD/clock.so python benchmarks/host.py ...
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import typer

from flagdit.engine import Pipeline
from flagdit.engine.commands.common import parse_size
from flagdit.engine.result import Preview
from flagdit.files import write_file

PROMPT = "a red apple on a blue background"
SIZES = ("64x64", "128x128")


class Painter:
    """A flagdit in a process of its own, which paints when it is told to."""

    def __init__(self, bundle: str, path: str | None) -> None:
        """path: where to import flagdit from; None is where this process has it from."""
        environment = os.environ if path is None else {**os.environ, "PYTHONPATH": path}
        command = [sys.executable, __file__, "--paint", bundle]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def __call__(self, **job: str) -> dict[str, Any]:
        """Seconds of one run. Raises RuntimeError if the process has ended."""
        to, back = self._process.stdin, self._process.stdout
        assert to is not None and back is not None
        print(json.dumps(job), file=to, flush=True)
        line = back.readline()
        if not line:
            raise RuntimeError(f"a process that was to paint {job} has ended; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def paint_all(bundle: str, jobs: IO[str], out: IO[str]) -> None:
    """What a Painter's process does: a run a line."""
    pipelines: dict[str, Pipeline] = {}
    for line in jobs:
        job = json.loads(line)
        precision = job["precision"]
        if precision not in pipelines:
            pipelines[precision] = Pipeline.load(bundle, threads=1, precision=precision)
        print(json.dumps(painted(pipelines[precision], parse_size(job["size"]), job["preset"])), file=out, flush=True)


def painted(pipeline: Pipeline, size: tuple[int, int] | None, preset: str) -> dict[str, Any]:
    """CPU seconds of a run; of every step when it was done, and the seconds of its engine calls and between them."""
    marks: list[float] = []
    steps: list[tuple[float, float]] = []

    def mark(preview: Preview) -> None:
        marks.append(time.perf_counter())
        steps.append((preview.timed.denoise, preview.timed.host))

    start = time.process_time()
    pipeline(PROMPT, size=size, preset=preset, on_step=mark)
    return {"cpu": time.process_time() - start, "marks": marks, "steps": steps}


def figures(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Milliseconds and shares of runs of one kind."""
    steps = np.array([run["steps"] for run in runs])  # (runs, S, 2): engine, host
    between = np.diff([run["marks"] for run in runs], axis=1) - steps[:, 1:, 0]
    (engine, host), rest = steps.min(0).sum(0), between.min(0).sum()
    later = steps[:, 1:, 0].min(0).sum()
    return {
        "engine": engine * 1e3,
        "host": host * 1e3,
        "both": (engine + host) * 1e3,
        "rest": rest * 1e3,
        "cpu": min(run["cpu"] for run in runs) * 1e3,
        "host_share": host / (engine + host),
        "rest_share": rest / (later + rest),
        "host_share_median": float(np.median([s[:, 1].sum() / s.sum() for s in steps])),
    }


@contextmanager
def painters(bundle: str, against: str | None) -> Iterator[dict[str, Painter]]:
    """This flagdit, and the other one if there is one."""
    all_of_them = {"this": Painter(bundle, None)} | ({} if against is None else {"other": Painter(bundle, against)})
    try:
        yield all_of_them
    finally:
        for painter in all_of_them.values():
            painter.close()


def measure(bundle: str, against: str | None, kinds: list[dict[str, str]], repeats: int) -> list[dict[str, Any]]:
    """A row for each kind of run: its figures here and there, and ratios of the one to the other."""
    rows = []
    with painters(bundle, against) as sides:
        for kind in kinds:
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
            for _ in range(repeats + 1):
                for side, paint in sides.items():
                    runs[side].append(paint(**kind))
            row: dict[str, Any] = {**kind, **{side: figures(taken[1:]) for side, taken in runs.items()}}
            if against is not None:
                row["ratios"] = {name: row["this"][name] / row["other"][name] for name in row["this"]}
            rows.append(row)
            show(row)
    return rows


def show(row: dict[str, Any]) -> None:
    """A line a flagdit."""
    for side in ("this", "other"):
        if side in row:
            got = row[side]
            times = ", ".join(f"{name} {got[name]:.2f}" for name in ("engine", "host", "rest", "cpu"))
            print(f"{row['precision']} {row['size']} {row['preset']} {side}: {times} ms; host {got['host_share']:.2%}, "
                  f"rest {got['rest_share']:.2%}", flush=True)  # fmt: skip


def main(
    bundle: Annotated[str, typer.Option(help="A bundle that both can read.")] = "demo",
    against: Annotated[str | None, typer.Option(help="A PYTHONPATH that has another flagdit.")] = None,
    size: Annotated[list[str] | None, typer.Option(help="WxH; 64x64 and 128x128 by default.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="All that suit this CPU by default.")] = None,
    preset: Annotated[list[str] | None, typer.Option(help="balanced by default.")] = None,
    repeats: Annotated[int, typer.Option(min=1)] = 9,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
    paint: Annotated[str | None, typer.Option(hidden=True, help="Be the process of a Painter.")] = None,
) -> None:
    """Measure what a run does between engine calls."""
    if paint is not None:
        paint_all(paint, sys.stdin, sys.stdout)
        return
    engines = precision or list(Pipeline.load(bundle, threads=1).precisions)
    presets = preset or ["balanced"]
    kinds = [{"precision": p, "size": s, "preset": q} for p in engines for s in size or SIZES for q in presets]
    rows = measure(bundle, against, kinds, repeats)
    if json_path is not None:
        about = {"command": "benchmarks/host.py", "device": cpu_name(), "repeats": repeats, "threads": 1}
        write_file(json_path, json.dumps({**about, "rows": rows}, indent=1) + "\n")


def cpu_name() -> str:
    """The model of the CPU, as Linux says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


if __name__ == "__main__":
    typer.run(main)
