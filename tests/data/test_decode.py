"""Every kind of image file comes out as a person sees it."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from raysearch.data.decode import decode, dimensions
from raysearch.data.value_range import PixelRange, RangeNeededError


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
def test_colours(data: bytes, expected: list[int], request: pytest.FixtureRequest) -> None:
    white = {"16-bit": 65535, "16-bit-tiff": 65535, "float": 1}.get(request.node.callspec.id)
    pixels = decode(data, 8, "squash", PixelRange(0, white) if white else None)
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


def profile_of_linear_light() -> bytes:
    """An ICC profile, version 2, with the primaries of sRGB (Bradford-adapted to D50) and values in linear light."""

    def fixed(*numbers: float) -> bytes:
        return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)

    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 7) + b"linear\0" + bytes(4 + 4 + 2 + 1 + 67),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249),
        b"rXYZ": b"XYZ \0\0\0\0" + fixed(0.43607, 0.22249, 0.01392),
        b"gXYZ": b"XYZ \0\0\0\0" + fixed(0.38515, 0.71687, 0.09708),
        b"bXYZ": b"XYZ \0\0\0\0" + fixed(0.14307, 0.06061, 0.71410),
        **{name: b"curv\0\0\0\0" + struct.pack(">I", 0) for name in (b"rTRC", b"gTRC", b"bTRC")},
    }
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header = (header + bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)).ljust(128, b"\0")
    return header + struct.pack(">I", len(tags)) + table + body


def test_a_profile_of_linear_light_becomes_srgb() -> None:
    """IEC 61966-2-1: 55/255 = 0.2157 of linear light is 1.055 * 0.2157 ** (1 / 2.4) - 0.055 = 0.5018, 128 of 255."""
    data = encoded(Image.new("RGB", (8, 8), (55, 55, 55)), "PNG", icc_profile=profile_of_linear_light())
    np.testing.assert_allclose(colour(decode(data, 8, "squash")), [128, 128, 128], atol=1)


def test_cmyk_with_black_ink() -> None:
    """RGB = (255 - ink) * (255 - black) / 255: cyan 51 and black 51 leave 204 * 204 / 255 = 163, and 204."""
    data = encoded(Image.new("CMYK", (8, 8), (51, 0, 0, 51)), "TIFF")
    np.testing.assert_allclose(colour(decode(data, 8, "squash")), [163, 204, 204], atol=1)


def test_a_half_clear_palette_colour_is_mixed_with_white() -> None:
    """Alpha 102 of 255 is 0.4: 0.4 * (200, 30, 30) + 0.6 * 255 = (233, 165, 165)."""
    data = encoded(RED.quantize(2), "PNG", transparency=bytes([102]))
    np.testing.assert_allclose(colour(decode(data, 8, "squash")), [233, 165, 165], atol=1)


GREY = np.linspace(0, 4080, 64).astype(np.uint16).reshape(8, 8)
TWELVE_BITS = PixelRange(0, 4095)
RGB = np.dstack([GREY, GREY[::-1], GREY.T])


def opencv(array: NDArray[np.generic], ending: str) -> bytes:
    """A file that Pillow cannot write: colour of more than eight bits."""
    channels = array if array.ndim == 2 else array[..., [2, 1, 0, *range(3, array.shape[2])]]
    return bytes(cv2.imencode(ending, channels)[1])


@pytest.mark.parametrize("ending", [".png", ".tiff", ".ppm"])
@pytest.mark.parametrize("array", [GREY, RGB], ids=["grey", "colour"])
def test_all_bits_are_used(ending: str, array: NDArray[np.uint16]) -> None:
    """By hand: v of 0 to 4095 becomes v * 255 / 4095, rounded; Pillow alone keeps the upper eight bits of colour."""
    if ending == ".ppm" and array.ndim == 2:
        ending = ".pgm"
    expected = np.rint(array * (255 / 4095)).astype(np.uint8)
    expected = np.dstack([expected] * 3) if expected.ndim == 2 else expected
    data = opencv(array, ending)
    np.testing.assert_array_equal(decode(data, 8, "squash", TWELVE_BITS), expected)
    with pytest.raises(RangeNeededError) as needed:
        decode(data, 8, "squash")
    assert (needed.value.extremes.low, needed.value.extremes.high) == (0, 4080)


def test_colour_of_fractions_in_a_tiff() -> None:
    values = (RGB / 4080).astype(np.float32)
    expected = np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    np.testing.assert_array_equal(decode(opencv(values, ".tiff"), 8, "squash", PixelRange(0, 1)), expected)


def test_deep_colour_keeps_its_transparency() -> None:
    opaque = np.full((8, 8), 65535, np.uint16)
    clear = np.where(np.arange(8) < 4, np.uint16(0), np.uint16(65535))[None].repeat(8, 0)
    seen = decode(opencv(np.dstack([RGB, opaque]), ".png"), 8, "squash", TWELVE_BITS)
    np.testing.assert_array_equal(seen, np.rint(RGB * (255 / 4095)).astype(np.uint8))
    half = decode(opencv(np.dstack([RGB, clear]), ".png"), 8, "squash", TWELVE_BITS)
    assert (half[:, :4] == 255).all()
    np.testing.assert_array_equal(half[:, 4:], seen[:, 4:])
    with pytest.raises(RangeNeededError) as needed:  # opacity is no brightness
        decode(opencv(np.dstack([RGB, opaque]), ".png"), 8, "squash")
    assert needed.value.extremes.high == 4080


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_deep_colour_is_turned_upright(ending: str) -> None:
    upright = np.rint(RGB * (255 / 4095)).astype(np.uint8)
    stored = np.ascontiguousarray(np.rot90(RGB))  # orientation 6 says: turn it clockwise
    if ending == ".png":
        exif = Image.Exif()
        exif[0x0112] = 6
        data = opencv(stored, ending)
        chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
        data = data[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    else:
        data = turned_tiff(stored, 6)
    np.testing.assert_array_equal(decode(data, 8, "squash", TWELVE_BITS), upright)


def turned_tiff(array: NDArray[np.uint16], orientation: int) -> bytes:
    """An uncompressed TIFF of 16-bit RGB with an orientation, byte for byte."""
    height, width = array.shape[:2]
    pixels = array.astype("<u2").tobytes()
    bits = 8 + len(pixels)
    # Of each entry: tag, type (3: 16 bits, 4: 32 bits), number of values, value or where it lies.
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 8),
        (274, 3, 1, orientation), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(pixels)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", bits + 6) + pixels + struct.pack("<3H", 16, 16, 16) + directory


@pytest.mark.parametrize(
    ("array", "given", "expected"),
    [
        (np.array([[0, 2048], [4095, 9999]], np.uint16), (0, 4095), [[0, 128], [255, 255]]),
        (np.array([[-1.0, 0.0], [0.5, 2.0]], np.float32), (-1, 1), [[0, 128], [191, 255]]),
        (np.array([[-1000, 0], [1000, 3000]], np.int16), (-1000, 1000), [[0, 128], [255, 255]]),
        (np.array([[0, 100], [200, 255]], np.int64), (0, 255), [[0, 100], [200, 255]]),
        (np.array([[0, 255], [7, 8]], np.uint8), (0, 4095), [[0, 255], [7, 8]]),
        (np.array([[False, True], [True, False]]), None, [[0, 255], [255, 0]]),
    ],
    ids=["uint16", "symmetric", "hounsfield", "int64", "bytes-stay", "truth-values"],
)
def test_arrays_by_a_range(
    array: NDArray[np.generic], given: tuple[int, int] | None, expected: list[list[int]]
) -> None:
    for shaped in (array, array[..., None], np.dstack([array] * 3)):
        pixels = decode(shaped, 2, "squash", PixelRange(*given) if given else None)
        np.testing.assert_array_equal(pixels, np.dstack([np.array(expected)] * 3))


def test_a_pointer_of_git_lfs_says_what_to_do() -> None:
    with pytest.raises(UnidentifiedImageError, match="run git lfs pull"):
        dimensions(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
