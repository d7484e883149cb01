"""Images embedded in a page."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

SMALL = 32
"""Up to this side in pixels images are embedded without loss and enlarged as squares."""
LARGE = 160
"""Larger images are reduced to this side."""
_QUALITY = 85


def data_uri(pixels: npt.NDArray[np.uint8], largest: int = LARGE) -> str:
    """An image (S, S, C) as a data URI: PNG up to 32 pixels a side, JPEG above.

    Args:
        pixels: what the network sees.
        largest: it is reduced to this side where it is larger.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if image.width > largest:
        image = image.resize((largest, largest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if image.width <= SMALL:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
