"""Measures of pictures of emoji scenes, on arrays: nothing in here knows where a picture came from.

Letters: B pictures, H and W their size, N names, S styles, F features, O places that an object may have.
Pictures are (B, 3, H, W) float32 in [-1, 1]; pixels are (H, W, 3) float32 in 0 to 255.
"""

import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "emoji"
sys.path.append(str(EXAMPLE))  # its scripts, `data` and `scenes`, are no package
