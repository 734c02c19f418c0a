"""From a file's bytes to square uint8 RGB pixels, with the colours that a person sees in a viewer."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

Fit = Literal["squash", "crop", "pad"]
FITS: tuple[Fit, ...] = ("squash", "crop", "pad")
EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif",
)  # fmt: skip

_OPAQUE = ("L", "RGB", "CMYK")
_SRGB = ImageCms.createProfile("sRGB")


def decode(
    data: bytes | NDArray[np.generic] | Image.Image,
    image_size: int,
    fit: str,
    met: Callable[[Image.Image], None] | None = None,
) -> NDArray[np.uint8]:
    """Decode, turn upright, flatten onto white, resize and convert one image.

    Args:
        data: an image file's bytes, or an image already decoded: an array of shape (h, w), (h, w, 1), (h, w, 3) or
            (h, w, 4) in uint8, uint16 or float in [0, 1]; or a Pillow image.
        image_size: height and width of the result, pixels.
        fit: squash (stretch), crop (the centre) or pad (black borders).
        met: called with the image as it was opened, its size and mode known and its pixels not yet read.

    Returns:
        RGB, uint8, shape (image_size, image_size, 3).

    Raises:
        OSError, ValueError and other errors of Pillow: the bytes are not an image that Pillow reads.
    """
    image = open_image(data)
    if met is not None:
        met(image)
    # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size; twice the target leaves the resize enough to average over.
    if isinstance(data, bytes):  # somebody else's Pillow image would be changed by it
        image.draft(None, (2 * image_size, 2 * image_size))
    image = _opaque(ImageOps.exif_transpose(image))
    size = (image_size, image_size)
    if image.size != size:
        if fit == "crop":
            image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        elif fit == "pad":
            image = ImageOps.contain(image, size, Image.Resampling.BILINEAR)
        elif fit == "squash":
            image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
        else:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, got {fit!r}")
    image = _to_srgb(image)
    if image.size != size:
        image = ImageOps.pad(image, size, Image.Resampling.BILINEAR, color=0)
    return np.asarray(image)


def open_image(data: bytes | NDArray[np.generic] | Image.Image) -> Image.Image:
    """A Pillow image, its header read and its pixels not yet."""
    if isinstance(data, bytes):
        try:
            return Image.open(io.BytesIO(data))
        except UnidentifiedImageError:  # its own message gives the address of the buffer
            raise UnidentifiedImageError("not an image of a known format") from None
    if isinstance(data, Image.Image):
        return data
    array = data[..., 0] if data.ndim == 3 and data.shape[2] == 1 else data
    return Image.fromarray(_eight_bit(array))


def _opaque(image: Image.Image) -> Image.Image:
    """The same picture as L, RGB or CMYK; transparent parts over white."""
    profile = image.info.get("icc_profile")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = Image.fromarray(_eight_bit(np.asarray(image)))
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    elif image.mode not in _OPAQUE:
        image = image.convert("L" if image.mode == "1" else "RGB")
    if profile is not None:
        image.info["icc_profile"] = profile
    return image


def _eight_bit(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Full range to 0..255: 16-bit by its 65535, floats in [0, 1] by 1; any other range by its own extremes."""
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    values = array.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("the image holds values that are not finite")
    floating = np.issubdtype(array.dtype, np.floating)
    if low >= 0 and floating and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255 and floating:
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    return np.rint((values - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)


def _to_srgb(image: Image.Image) -> Image.Image:
    """RGB in sRGB, by the image's colour profile where it has one that fits its mode."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in _OPAQUE:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
            return image.convert("RGB") if converted is None else converted
        except (ImageCms.PyCMSError, OSError):
            pass  # A damaged or foreign profile: viewers ignore it, and so do we.
    return image.convert("RGB")
