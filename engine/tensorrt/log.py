"""What TensorRT complains of: its functions say no more than that they failed."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Any

LAST = 2
"""Complaints that are kept: the last one is often only that a function failed because of the one before."""


@cache
def log_of(trt: Any) -> Any:
    """The ILogger of a module. TensorRT listens to the first one of a process alone, so there is one."""

    class EngineLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._errors: deque[str] = deque(maxlen=LAST)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self._errors.append(message.partition("\n")[0])

        def taken(self) -> str:
            """In brackets, or nothing; forgets it."""
            text = "; ".join(dict.fromkeys(self._errors))
            self._errors.clear()
            return f" ({text})" if text else ""

    return EngineLog()
