"""Files of which Pillow keeps only the upper eight bits, or that it does not read: 16 bits or fractions in colour."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_TIFF = (b"II*\0", b"MM\0*")
_UPRIGHT = "TIFF"
"""The format that OpenCV turns upright by itself."""


def is_deep_colour(image: Image.Image) -> bool:
    """Whether a file that Pillow opened has 16 bits a channel where Pillow's mode has eight."""
    if image.mode not in ("RGB", "RGBA", "LA") or image.format not in ("PNG", "TIFF", "PPM"):
        return False
    args = image.tile[0].args if image.tile else None  # type: ignore[attr-defined]
    raw = args[0] if isinstance(args, tuple) else args
    if image.format == "PPM":
        return isinstance(args, tuple) and int(args[1]) > 255
    return isinstance(raw, str) and ";16" in raw


def is_tiff(data: bytes) -> bool:
    """Whether the bytes begin as a TIFF does."""
    return data[:4] in _TIFF


def read_values(data: bytes) -> NDArray[np.generic]:
    """All bits of a file's values, shape (h, w), (h, w, 3) or (h, w, 4), in the order RGBA.

    Raises:
        ValueError: OpenCV cannot read it.
    """
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("not an image of a known format")
    if values.ndim == 3:
        order = [2, 1, 0, *range(3, values.shape[2])]
        return np.ascontiguousarray(values[..., order])
    return values


def orientation(image: Image.Image) -> int:
    """How the values that `read_values` gives are turned, as EXIF numbers it; 1 is upright."""
    return 1 if image.format == _UPRIGHT else int(image.getexif().get(0x0112, 1))
