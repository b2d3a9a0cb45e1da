"""A builder in a process of its own: a crash becomes an error with the builder's last words.

The job goes in through stdin; out of stdout come lines of JSON: {"progress": 0.5}, and at last either
{"built": {...}} or {"error": [kind, message]}. stderr is the builder's log.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import IO, Any

from flagdit.engine.compiler.build import Built, Job, build
from flagdit.engine.errors import BackendError, BuildError, FlagditError, OutputError
from flagdit.engine.tensorrt.package import NAMES, require

COMMAND = (sys.executable, "-P", "-m", "flagdit.engine.compiler.process")  # -P: no module of the working directory
LOG_LINES = 12  # of the builder's log in an error message
ERRORS: dict[str, type[FlagditError]] = {e.__name__: e for e in (BackendError, BuildError, OutputError)}


def build_apart(job: Job, progress: Callable[[float], None]) -> Built:
    """Build one engine in a child process; `progress` gets fractions in [0, 1], never decreasing.

    Raises BackendError if TensorRT is not installed, BuildError with the tail of the builder's log if there is no
    engine in the end, OutputError if it cannot be written.
    """
    require(job.target)
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as child:
            try:
                outcome = _converse(child, job, progress)
            finally:
                child.kill()  # also on Ctrl-C: a builder does not listen while it compiles
        if "built" in outcome:
            return Built.model_validate(outcome["built"])
        kind, message = outcome.get("error", ("BuildError", _end(job, child.returncode)))
        raise ERRORS[kind](message if kind == "OutputError" else message + _tail(log))


def _converse(child: subprocess.Popen[bytes], job: Job, progress: Callable[[float], None]) -> dict[str, Any]:
    """Hand over the job and listen until the child closes its end; returns its last word."""
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(job.model_dump_json().encode())
        child.stdin.close()
    except BrokenPipeError:  # it died before it read; its log says why
        pass
    outcome: dict[str, Any] = {}
    for line in child.stdout:
        outcome = json.loads(line)
        if "progress" in outcome:
            progress(outcome["progress"])
    child.wait()
    return outcome


def _end(job: Job, code: int) -> str:
    """How a child ended that did not say."""
    how = f"was stopped by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{job.graph.name}: the builder of {NAMES[job.target]} {how}"


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()[-LOG_LINES:]
    return "".join(f"\n  {line}" for line in lines)


def main() -> None:
    """The child: one job from stdin, its outcome to stdout."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # whatever a library prints belongs into the log

        def say(**message: Any) -> None:
            print(json.dumps(message), file=out, flush=True)

        try:
            built = build(Job.model_validate_json(sys.stdin.buffer.read()), lambda fraction: say(progress=fraction))
            say(built=built.model_dump(mode="json"))
        except FlagditError as error:
            say(error=[type(error).__name__, str(error)])


if __name__ == "__main__":
    main()
