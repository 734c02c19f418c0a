"""Makes square uint8 RGB pixels of a file's bytes, with the colours that a person sees in a viewer."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from raysearch.data.deep import is_deep_colour, is_tiff, orientation, read_colours, read_values, white_is_zero
from raysearch.data.extras import open_extra
from raysearch.data.value_range import Extremes, PixelRange, RangeNeededError

Fit = Literal["squash", "crop", "pad"]
FITS: tuple[Fit, ...] = ("squash", "crop", "pad")
EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif",
)  # fmt: skip

logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)
"""What it says of each file that it does not read is said here, once for all of them."""
_LFS = b"version https://git-lfs"
_OF_FRAMES = ("GIF", "TIFF", "WEBP", "PNG", "AVIF")
_OPAQUE = ("L", "RGB", "CMYK")
_SRGB = ImageCms.createProfile("sRGB")


def decode(
    data: bytes | NDArray[np.generic] | Image.Image,
    image_size: int,
    fit: str,
    pixel_range: PixelRange | None = None,
    met: Callable[[Image.Image], None] | None = None,
) -> NDArray[np.uint8]:
    """Decode, turn upright, flatten onto white, resize and convert one image.

    Args:
        data: an image file's bytes, or an image already decoded: an array of shape (h, w), (h, w, 1), (h, w, 3) or
            (h, w, 4), of any type of numbers; or a Pillow image.
        image_size: height and width of the result, pixels.
        fit: squash (stretch), crop (the centre) or pad (black borders).
        pixel_range: which values are black and white, of the data set that the image is from; images of eight bits do
            not need it and are not changed by it.
        met: called with the image as it was opened, its size and mode known and its pixels not yet read.

    Returns:
        RGB, uint8, shape (image_size, image_size, 3).

    Raises:
        RangeNeededError: the image has more than eight bits, and no range was given.
        OSError, ValueError and other errors of Pillow: the bytes are not an image that can be read.
    """
    image = open_image(data, pixel_range)
    if met is not None:
        met(image)
    # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size; twice the target leaves the resize enough to average over.
    if isinstance(data, bytes):  # somebody else's Pillow image would be changed by it
        image.draft(None, (2 * image_size, 2 * image_size))
    image = _opaque(ImageOps.exif_transpose(image), pixel_range)
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


def open_image(data: bytes | NDArray[np.generic] | Image.Image, pixel_range: PixelRange | None = None) -> Image.Image:
    """A Pillow image; of most files the header is read and the pixels not yet.

    Raises:
        RangeNeededError: its values must be scaled for Pillow to hold them, and no range was given.
    """
    if isinstance(data, Image.Image):
        return data
    opened = _open_file(data) if isinstance(data, bytes) else data
    if isinstance(opened, np.ndarray):
        array = opened[..., 0] if opened.ndim == 3 and opened.shape[2] == 1 else opened
        return Image.fromarray(_eight_bit(array, pixel_range))
    if isinstance(data, bytes) and is_deep_colour(opened):
        image = Image.fromarray(_eight_bit(read_colours(data, opened), pixel_range))
        image.info |= {key: opened.info[key] for key in ("icc_profile",) if key in opened.info}
        image.getexif()[ExifTags.Base.Orientation] = orientation(opened)
        return image
    if isinstance(data, bytes) and white_is_zero(opened):
        turned = int(opened.getexif().get(ExifTags.Base.Orientation, 1))
        image = Image.fromarray(_eight_bit(np.uint16(65535) - np.asarray(opened, dtype=np.uint16), pixel_range))
        image.getexif()[ExifTags.Base.Orientation] = turned
        return image
    return opened


def several_frames(image: Image.Image) -> bool:
    """Whether a file has several pictures, of which the first is read; a phone's JPEG with a second one has not."""
    try:
        return image.format in _OF_FRAMES and bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001  the file ends within its second picture
        return True


def dimensions(data: bytes | NDArray[np.generic] | Image.Image) -> tuple[int, int]:
    """An image's width and height in pixels, from its header if it is a file, before it is turned upright."""
    opened = _open_file(data) if isinstance(data, bytes) else data
    return (opened.shape[1], opened.shape[0]) if isinstance(opened, np.ndarray) else opened.size


def shorter_side(data: bytes | NDArray[np.generic] | Image.Image) -> int:
    """The smaller of an image's height and width in pixels; a file's is read from its header."""
    return min(dimensions(data))


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def _open_file(data: bytes) -> Image.Image | NDArray[np.generic]:
    """What Pillow makes of a file; the values of one that Pillow does not read: fractions in colour, or DICOM."""
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        if is_tiff(data):
            return read_values(data)
        if (extra := open_extra(data)) is not None:
            return extra
        if data.startswith(_LFS):
            raise UnidentifiedImageError("a pointer of Git LFS in an image's place: run git lfs pull") from None
        # Pillow's own message gives the address of the buffer.
        raise UnidentifiedImageError("not an image of a known format") from None


def _opaque(image: Image.Image, pixel_range: PixelRange | None) -> Image.Image:
    """The same picture as L, RGB or CMYK; transparent parts over white."""
    profile = image.info.get("icc_profile")
    if _is_deep_grey(image):
        image = Image.fromarray(_eight_bit(np.asarray(image), pixel_range))
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    elif image.mode not in _OPAQUE:
        image = image.convert("L" if image.mode == "1" else "RGB")
    if profile is not None:
        image.info["icc_profile"] = profile
    return image


def _eight_bit(array: NDArray[np.generic], pixel_range: PixelRange | None) -> NDArray[np.uint8]:
    """Values as bytes: bytes as they are, truth values as black and white, others by the range."""
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    colour, alpha = (array[..., :3], array[..., 3]) if array.ndim == 3 and array.shape[2] == 4 else (array, None)
    if pixel_range is None:
        raise RangeNeededError(Extremes.of(colour))
    scaled = pixel_range.to_bytes(colour)
    return scaled if alpha is None else np.dstack([scaled, _eight_bit_alpha(alpha, pixel_range)])


def _eight_bit_alpha(alpha: NDArray[np.generic], pixel_range: PixelRange) -> NDArray[np.uint8]:
    """How opaque each pixel is, as bytes: opaque is 1, the white of the colours, or the largest of its type."""
    most = float(alpha.max())
    full = 1.0 if most <= 1 else pixel_range.high
    if most > full and alpha.dtype.kind in "iu":
        full = float(np.iinfo(alpha.dtype).max)  # type: ignore[type-var]
    return PixelRange(0.0, full).to_bytes(alpha)


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
