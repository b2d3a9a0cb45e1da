"""What TensorRT calls back while it builds: a logger and a progress monitor.

Their base classes are the bindings' own, so they are made for the module at hand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def make_log(trt: Any) -> Any:
    """An ILogger that keeps the layer list in `layers` and writes warnings and errors to stderr.

    The first logger of a process is the only one that TensorRT listens to: make one, and keep it.
    """

    class BuildLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.WARNING:
                print(message, file=sys.stderr, flush=True)
            elif "LayerType: " in message or "Total Activation Memory" in message or "Total Weights Memory" in message:
                self.layers += message + "\n"

    return BuildLog()


class Phases:
    """Nested phases of a build as one fraction: a phase's step counts as done in part while a child of it runs."""

    def __init__(self) -> None:
        self._phases: dict[str, tuple[str | None, int, int]] = {}  # name: parent, steps, steps done
        self.fraction = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        self._phases[name] = (parent, max(1, steps), 0)

    def step(self, name: str, step: int) -> None:
        """`step` (from 0) of a phase is done."""
        if name in self._phases:
            parent, steps, _ = self._phases[name]
            self._phases[name] = (parent, steps, min(step + 1, steps))
            self._update(name)

    def finish(self, name: str) -> None:
        self._phases.pop(name, None)

    def _update(self, name: str | None) -> None:
        part = 0.0
        while name in self._phases:
            name, steps, done = self._phases[name]
            part = min(1.0, (done + part) / steps)
        self.fraction = max(self.fraction, part)  # a phase may start again; progress never goes back


def make_monitor(trt: Any, progress: Callable[[float], None]) -> Any:
    """An IProgressMonitor that reports whole percents, as fractions in [0, 1]."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.phases, self.percent = Phases(), 0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.phases.step(phase_name, step)
            percent = int(100 * self.phases.fraction)
            if percent > self.percent:
                self.percent = percent
                progress(percent / 100)
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            self.phases.finish(phase_name)

    return Monitor()
