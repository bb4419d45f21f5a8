"""Thumbnails that stand inside an HTML file."""

from __future__ import annotations

import base64
import io

from PIL import Image

_QUALITY = 55


def thumbnail_data(image: Image.Image, side: int) -> str:
    """Return an image as a small WebP in base64.

    Args:
        image: upright and RGB; it is made smaller in place.
        side: most pixels of its longer side.
    """
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, format="WEBP", quality=_QUALITY, method=4)
    return base64.b64encode(content.getvalue()).decode("ascii")
