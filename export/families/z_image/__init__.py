"""Z-Image (arXiv 2511.22699): one stream as Lumina-Image 2.0, text and picture filled up with learned tokens."""

from flagdit.export.families.family import Family
from flagdit.export.families.z_image.names import DIFFUSERS, OFFICIAL, OWN

Z_IMAGE = Family("z-image", "Z-Image", (OFFICIAL, DIFFUSERS, OWN))

__all__ = ["Z_IMAGE"]
