"""TIFFs and other files that hold more than is read, or hold it in another way than Pillow says."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.data.decode import decode
from raysearch.data.pixels import load
from raysearch.data.value_range import PixelRange
from tests.data.pictures import fill, picture, put, tiff

TWELVE = PixelRange(0, 4095)
COLOURS = np.random.default_rng(1).integers(0, 4096, (6, 6, 4), dtype=np.uint16)


def as_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values * (255 / 4095)).astype(np.uint8)


def decoded(data: bytes) -> np.ndarray:
    return decode(data, 6, "squash", TWELVE)


def test_colours_of_sixteen_bits() -> None:
    assert np.array_equal(decoded(tiff(COLOURS[..., :3], 2)), as_bytes(COLOURS[..., :3]))


def test_a_fourth_channel_that_is_not_said_to_be_opacity_is_none() -> None:
    """Near infrared, as drones and satellites have it."""
    assert np.array_equal(decoded(tiff(COLOURS, 2, extra=0)), as_bytes(COLOURS[..., :3]))


def test_opacity_is_over_white() -> None:
    half = np.dstack([np.full((6, 6, 3), 1000, np.uint16), np.full((6, 6), 0, np.uint16)])
    assert (decoded(tiff(half, 2, extra=2)) == 255).all()


def test_channels_one_after_the_other() -> None:
    """Pillow and OpenCV give other values than the file holds where it has more than eight bits."""
    small = (COLOURS[..., :3] >> 4).astype(np.uint8)
    assert np.array_equal(decode(tiff(small, 2, planar=True), 6, "squash"), small)
    with pytest.raises(ValueError, match="one colour after the other"):
        decoded(tiff(COLOURS[..., :3], 2, planar=True))


def test_zero_is_white_where_the_file_says_so() -> None:
    grey = COLOURS[..., 0]
    full = PixelRange(0, 65535)
    seen = decode(tiff(grey, 0), 6, "squash", full)[..., 0]
    assert np.array_equal(seen, np.rint((65535 - grey.astype(float)) * (255 / 65535)).astype(np.uint8))
    small = (grey >> 4).astype(np.uint8)
    assert np.array_equal(decode(tiff(small, 0), 6, "squash")[..., 0], 255 - small)


def test_inks_of_sixteen_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="CMYK"):
        decoded(tiff(COLOURS, 5))


def test_many_channels() -> None:
    with pytest.raises(ValueError, match="13 channels: save the three"):
        decoded(tiff(np.dstack([COLOURS] * 4)[..., :13], 1))


def two_pictures(form: str) -> bytes:
    first, second = (Image.open(io.BytesIO(picture(number))) for number in (1, 2))
    stream = io.BytesIO()
    first.save(stream, form, save_all=True, append_images=[second])
    return stream.getvalue()


@pytest.mark.parametrize(("form", "ending"), [("TIFF", "tif"), ("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png")])
def test_several_frames_are_told_and_the_first_is_read(tmp_path: Path, form: str, ending: str) -> None:
    root = fill(tmp_path / "d", {"cat": 8, "dog": 8})
    file = put(root / f"cat/many.{ending}", two_pictures(form))
    doubts = load(str(root), image_size=10, progress=False).account.doubts
    told = f"1 images have several frames or pages, of which the first is read (cat/many.{ending})."
    assert told in [doubt.what for doubt in doubts]
    if form in ("TIFF", "PNG"):
        with Image.open(io.BytesIO(picture(1))) as first:
            assert np.array_equal(decode(file.read_bytes(), 10, "squash"), decode(first.copy(), 10, "squash"))


def test_one_frame_is_not_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"cat": 8, "dog": 8})
    for form in ("TIFF", "GIF", "WEBP", "PNG"):
        put(root / f"cat/one.{form.lower()}", picture(50 + len(form) * ord(form[0]), form))
    stream = io.BytesIO()
    first, second = (Image.open(io.BytesIO(picture(number))) for number in (1, 2))
    first.save(stream, "MPO", save_all=True, append_images=[second])
    put(root / "cat/phone.jpg", stream.getvalue())
    assert load(str(root), image_size=10, progress=False).account.doubts == ()


def test_more_channels_than_are_read_are_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"cat": 8, "dog": 8})
    put(root / "cat/5.tif", tiff((np.dstack([COLOURS, COLOURS[..., :1]]) >> 4).astype(np.uint8), 2, extra=0))
    doubts = load(str(root), image_size=10, progress=False).account.doubts
    assert "1 images have more than four channels (up to 5; cat/5.tif)." in [doubt.what for doubt in doubts]
