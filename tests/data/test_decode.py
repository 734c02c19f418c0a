"""Every kind of image file comes out as a person sees it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from raysearch.data.decode import decode


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def colour(pixels: NDArray[np.uint8]) -> list[int]:
    return [int(value) for value in np.median(pixels.reshape(-1, 3), axis=0)]


RED = Image.new("RGB", (16, 16), (200, 30, 30))


def test_same_size_rgb_is_untouched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(image), "PNG"), 16, "squash"), image)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(RED.convert("L"), "PNG"), [81, 81, 81]),
        (encoded(Image.new("1", (16, 16), 1), "PNG"), [255, 255, 255]),
        (encoded(RED.quantize(4), "PNG"), [200, 30, 30]),
        (encoded(RED.quantize(4), "GIF"), [200, 30, 30]),
        (encoded(Image.new("RGBA", (16, 16), (200, 0, 0, 0)), "PNG"), [255, 255, 255]),
        (encoded(Image.new("RGBA", (16, 16), (200, 0, 0, 128)), "PNG"), [227, 127, 127]),
        (encoded(Image.new("LA", (16, 16), (0, 0)), "PNG"), [255, 255, 255]),
        (encoded(RED, "PNG", transparency=(200, 30, 30)), [255, 255, 255]),
        (encoded(Image.fromarray(np.full((16, 16), 32896, np.uint16)), "PNG"), [128, 128, 128]),
        (encoded(Image.fromarray(np.full((16, 16), 32896, np.uint16)), "TIFF"), [128, 128, 128]),
        (encoded(Image.fromarray(np.full((16, 16), 0.5, np.float32)), "TIFF"), [128, 128, 128]),
        (encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"), [255, 0, 0]),
        (encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "TIFF"), [255, 0, 0]),
        (encoded(RED, "WEBP", lossless=True), [200, 30, 30]),
        (encoded(RED, "BMP"), [200, 30, 30]),
    ],
    ids=[
        "grey", "bits", "palette", "gif", "clear", "half-clear", "grey-alpha", "rgb-key", "16-bit", "16-bit-tiff",
        "float", "cmyk-jpeg", "cmyk-tiff", "webp", "bmp",
    ],
)  # fmt: skip
def test_colours(data: bytes, expected: list[int]) -> None:
    pixels = decode(data, 8, "squash")
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(colour(pixels), expected, atol=3)


def test_palette_with_a_clear_colour_shows_white_there() -> None:
    assert colour(decode(encoded(RED.quantize(2), "PNG", transparency=0), 8, "squash")) == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8, :8] = (255, 255, 255)
    image = Image.fromarray(upright)
    # The stored picture is the upright one with the orientation's turn taken back.
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = image.transpose(inverse[orientation]) if orientation in inverse else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encoded(stored, "PNG", exif=exif), 16, "squash")
    np.testing.assert_array_equal(pixels, upright)


def test_a_colour_profile_is_applied_and_a_broken_one_is_ignored() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"not a profile"):
        np.testing.assert_allclose(
            colour(decode(encoded(RED, "PNG", icc_profile=profile), 8, "squash")), [200, 30, 30], atol=1
        )


def test_fits() -> None:
    """A wide image, red | green | blue: squash keeps all three, crop the middle, pad all with black bars."""
    wide = np.zeros((20, 60, 3), np.uint8)
    for k in range(3):
        wide[:, 20 * k : 20 * k + 20, k] = 255
    data = encoded(Image.fromarray(wide), "PNG")
    squash, crop, pad = (decode(data, 30, fit) for fit in ("squash", "crop", "pad"))
    assert [int(squash[15, x].argmax()) for x in (2, 15, 27)] == [0, 1, 2]
    assert squash.max(2).min() > 0
    assert (crop[4:-4, 4:-4].argmax(2) == 1).all()
    assert not pad[:8].any()
    assert not pad[-8:].any()
    assert pad[15].max(1).min() > 0


def test_a_large_jpeg_is_close_to_its_full_decode() -> None:
    rows, columns = np.mgrid[:600, :800]
    image = Image.fromarray(
        np.stack([rows * 255 // 600, columns * 255 // 800, (rows + columns) // 6], -1).astype(np.uint8)
    )
    data = encoded(image, "JPEG", quality=95)
    full = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))
    assert np.abs(decode(data, 64, "squash").astype(int) - full).mean() < 2


@pytest.mark.parametrize("data", [b"", b"not an image", encoded(RED.resize((200, 200)), "PNG")[:200]])
def test_damaged_bytes_raise(data: bytes) -> None:
    with pytest.raises((OSError, SyntaxError, ValueError)):
        decode(data, 16, "squash")


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="'stretch'"):
        decode(encoded(RED, "PNG"), 8, "stretch")
