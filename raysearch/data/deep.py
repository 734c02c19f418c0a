"""Files of which Pillow keeps only the upper eight bits, or that it does not read: 16 bits or fractions in colour."""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

_DEEP_MODES = ("1", "L", "P", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Of Pillow, which hold all bits of their files, or have no more than eight."""
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES, _PLANAR = 258, 262, 277, 284
"""Tags of a TIFF."""
_TIFF = (b"II*\0", b"MM\0*")
_UPRIGHT = "TIFF"
"""The format that OpenCV turns upright by itself."""


def is_deep_colour(image: Image.Image) -> bool:
    """Whether a file that Pillow opened has 16 bits a channel where Pillow's mode has eight."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (8,))  # type: ignore[attr-defined]
        return image.mode not in _DEEP_MODES and max(bits) > 8
    if image.mode not in ("RGB", "RGBA", "LA") or image.format not in ("PNG", "PPM"):
        return False
    args = image.tile[0].args if image.tile else None  # type: ignore[attr-defined]
    raw = args[0] if isinstance(args, tuple) else args
    if image.format == "PPM":
        return isinstance(args, tuple) and int(args[1]) > 255
    return isinstance(raw, str) and ";16" in raw


def is_tiff(data: bytes) -> bool:
    """Whether the bytes begin as a TIFF does."""
    return data[:4] in _TIFF


def channels(image: Image.Image) -> int:
    """Channels of the file that an image was opened from, where it may have more than are read."""
    found = image.tag_v2.get(_SAMPLES, 1) if image.format == "TIFF" else 0  # type: ignore[attr-defined]
    return max(int(found), len(image.getbands()))


def white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF of more than eight bits says that 0 is white, of which Pillow takes no notice."""
    return (
        image.format == "TIFF" and image.mode.startswith("I;16") and image.tag_v2.get(_PHOTOMETRIC) == 0  # type: ignore[attr-defined]
    )


def read_colours(data: bytes, image: Image.Image) -> NDArray[np.generic]:
    """All bits of a file of colours, as `read_values` gives them, without channels that are no colour and not opaque.

    Raises:
        ValueError: OpenCV cannot read it, or its colours are not red, green and blue.
    """
    if image.mode in ("CMYK", "LAB", "YCbCr"):
        raise ValueError(f"a TIFF of {image.mode} with more than 8 bits: save it as RGB")
    values = read_values(data)
    return values[..., :3] if image.mode == "RGB" and values.ndim == 3 else values


def read_values(data: bytes) -> NDArray[np.generic]:
    """All bits of a file's values, shape (h, w), (h, w, 3) or (h, w, 4), in the order RGBA.

    Raises:
        ValueError: OpenCV cannot read it, or reads other values than it holds.
    """
    if is_tiff(data):
        _check_tiff(data)
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


def _check_tiff(data: bytes) -> None:
    """Refuse what OpenCV reads wrongly, or complains of on stderr.

    Raises:
        ValueError: the TIFF holds each channel by itself, or more channels than four.
    """
    stream = io.BytesIO(data)
    tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(8))
    stream.seek(tags.next)
    tags.load(stream)
    samples = int(tags.get(_SAMPLES, 1))
    if samples > 4:
        raise ValueError(f"a TIFF of {samples} channels: save the three that are meant as red, green and blue")
    if samples > 1 and tags.get(_PLANAR) == 2:
        raise ValueError("a TIFF of more than 8 bits, one colour after the other: save it with them interleaved")
