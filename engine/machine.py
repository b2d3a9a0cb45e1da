"""What a machine says of memory. Not every system does: Windows has neither `sysconf` nor `resource`."""

from __future__ import annotations

import os
import sys


def memory_bytes() -> int | None:
    """Memory that the machine has, None where the system does not say."""
    try:
        present = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return present if present > 0 else None


def peak_bytes() -> int | None:
    """Most memory that this process has held, None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux KiB
