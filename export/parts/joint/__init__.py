"""Models of one stream: text and image tokens go through the same blocks (Lumina-Image 2.0, Z-Image)."""
