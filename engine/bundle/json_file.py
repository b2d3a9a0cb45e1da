"""JSON that somebody else may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flagdit.engine.errors import BundleError


def parse_json(content: bytes, path: Path) -> Any:
    """The document. Raises BundleError, by the file's path, if it is none or nested too deeply to be read."""
    try:
        return json.loads(content)
    except RecursionError:
        raise BundleError(f"{path}: nested too deeply for a {path.name}; rebuild the bundle") from None
    except ValueError as error:
        raise BundleError(f"{path}: not JSON ({error}); rebuild the bundle") from None
