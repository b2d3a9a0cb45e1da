"""The modules of examples/emoji, which find each other in their own folder."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

EXAMPLE = Path(__file__).parents[1] / "examples" / "emoji"


def module(name: str) -> ModuleType:
    """One of them. Its folder is looked into last."""
    if str(EXAMPLE) not in sys.path:
        sys.path.append(str(EXAMPLE))
    return importlib.import_module(name)
