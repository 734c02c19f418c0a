"""One range for a data set: found in its values, kept with it, the same for all its images and for later ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.pixels import Dataset, load
from raysearch.data.value_range import Extremes, PixelRange, assumed_range, common_range, range_of
from raysearch.errors import InputError

WHOLE, FRACTIONS = True, False
PICTURE = np.random.default_rng(0).integers(40, 256, (24, 16, 16), dtype=np.uint8)
PICTURE[0, 0, :2] = 0, 255


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0, 255, WHOLE, (0, 255)),
        (3, 90, WHOLE, (0, 255)),
        (0, 1, WHOLE, (0, 1)),
        (0, 1000, WHOLE, (0, 1023)),
        (16, 4080, WHOLE, (0, 4095)),
        (0, 9000, WHOLE, (0, 16383)),
        (0, 60000, WHOLE, (0, 65535)),
        (0, 1_000_000, WHOLE, (0, 1_000_000)),
        (-1024, 3071, WHOLE, (-1024, 3071)),
        (0, 0.4, FRACTIONS, (0, 1)),
        (-0.003, 1.002, FRACTIONS, (0, 1)),
        (-1, 0.9, FRACTIONS, (-1, 1)),
        (-0.5, 0.5, FRACTIONS, (-0.5, 0.5)),
        (0, 255, FRACTIONS, (0, 255)),
        (0, 4095, FRACTIONS, (0, 4095)),
        (0, 3, FRACTIONS, (0, 3)),
        (-2.1, 2.6, FRACTIONS, (-2.1, 2.6)),
        (5, 5, FRACTIONS, (5, 6)),
    ],
)
def test_what_extremes_tell(low: float, high: float, whole: bool, expected: tuple[float, float]) -> None:
    assert range_of(Extremes(low, high, whole)) == PixelRange(*expected)


def write_folder(root: Path, images: NDArray[np.generic], ending: str = ".tiff") -> Path:
    for k, image in enumerate(images):
        file = root / ("cat", "dog")[k % 2] / f"{k:02}{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return root


def by_path(data: Dataset) -> dict[str, NDArray[np.uint8]]:
    return {
        path: np.asarray(pixels)[..., 0]
        for split in (data.train, data.val, data.test)
        for path, pixels in zip(split.paths, split.pixels, strict=True)
    }


@pytest.mark.parametrize(
    ("values", "ending", "expected"),
    [
        (PICTURE.astype(np.uint16) * 16, ".png", (0, 4095)),
        (PICTURE.astype(np.uint16) * 257, ".png", (0, 65535)),
        (PICTURE.astype(np.int32), ".tiff", (0, 255)),
        (PICTURE.astype(np.float32) * 16, ".tiff", (0, 4095)),
        (PICTURE.astype(np.float32) / 255, ".tiff", (0, 1)),
        ((PICTURE / 127.5 - 1).astype(np.float32), ".tiff", (-1, 1)),
    ],
    ids=["12-in-16", "16", "int32", "float-4095", "float-1", "float-symmetric"],
)
def test_a_folder_of_deep_images(
    tmp_path: Path, values: NDArray[np.generic], ending: str, expected: tuple[float, float]
) -> None:
    data = load(str(write_folder(tmp_path / "x", values, ending)), image_size=16, progress=False)
    assert data.notes.pixel_range == PixelRange(*expected)
    assert data.notes.deep == 24
    assert data.notes.doubts() == []
    low, high = expected
    found = by_path(data)
    assert len(found) == 24
    for k, image in enumerate(values):
        by_hand = np.rint((image.astype(np.float64) - low) / (high - low) * 255)
        np.testing.assert_array_equal(found[f"{('cat', 'dog')[k % 2]}/{k:02}{ending}"], by_hand)
        np.testing.assert_allclose(by_hand, PICTURE[k], atol=1)


def npz(file: Path, **changes: NDArray[np.generic]) -> Path:
    labels = np.arange(8) % 2
    images = {f"{split}_images": PICTURE[8 * k : 8 * k + 8] for k, split in enumerate(("train", "val", "test"))}
    np.savez(file, **(images | {f"{split}_labels": labels for split in ("train", "val", "test")} | changes))
    return file


def test_standardised_arrays_have_one_range(tmp_path: Path) -> None:
    """The image of the smallest contrast keeps its small contrast."""
    scaled = {
        f"{split}_images": ((PICTURE[8 * k : 8 * k + 8] - 147.0) / 62.0).astype(np.float32)
        for k, split in enumerate(("train", "val", "test"))
    }
    scaled["train_images"][3] = scaled["train_images"][3] * 0.1
    data = load(str(npz(tmp_path / "a.npz", **scaled)), image_size=16, progress=False)
    low, high = np.float32(-147 / 62), np.float32(108 / 62)
    assert data.notes.pixel_range == PixelRange(float(low), float(high))
    assert by_path(data)["train/3"].std() < 0.2 * by_path(data)["train/2"].std()


def test_whole_numbers_of_any_type_are_read(tmp_path: Path) -> None:
    data = load(str(npz(tmp_path / "a.npz", train_images=PICTURE[:8].astype(np.int64))), image_size=16, progress=False)
    np.testing.assert_array_equal(by_path(data)["train/2"], PICTURE[2])
    np.testing.assert_array_equal(by_path(data)["test/2"], PICTURE[18])


def test_splits_of_two_scales_are_refused(tmp_path: Path) -> None:
    train, test = (PICTURE[:8] / 255).astype(np.float32), PICTURE[16:].astype(np.float32)
    with pytest.raises(InputError, match="train hold fractions from 0 to 1, those of test hold fractions .* to 255"):
        load(str(npz(tmp_path / "a.npz", train_images=train, test_images=test)), progress=False)


def test_whole_numbers_beside_fractions_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "x", PICTURE.astype(np.uint16) * 16)
    write_folder(root, (PICTURE / 255).astype(np.float32)[:2], ".TIF")
    with pytest.raises(InputError, match=r"24 images hold whole numbers from 0 to 4080; 2 images hold fractions"):
        load(str(root), progress=False)


def test_values_that_are_not_finite_make_an_image_unreadable_and_no_range(tmp_path: Path) -> None:
    values = (PICTURE / 255).astype(np.float32)
    values[5, 0, 0] = np.nan
    data = load(str(write_folder(tmp_path / "x", values)), image_size=16, progress=False)
    assert data.notes.pixel_range == PixelRange(0, 1)
    assert [(one.path, one.reason) for one in data.skipped] == [
        ("dog/05.tiff", "ValueError: the image holds values that are not finite")
    ]


def test_eight_bits_beside_more_stay_as_they_are(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "x", PICTURE, ".png")
    write_folder(root, PICTURE.astype(np.uint16) * 16, ".tiff")
    data = load(str(root), image_size=16, progress=False)
    for path, image in by_path(data).items():
        number = int(Path(path).stem)
        np.testing.assert_allclose(image, PICTURE[number], atol=0 if path.endswith(".png") else 1)
    assert data.notes.deep == 24
    assert any("24 of 48 images have more than 8 bits, and the others 8" in doubt.what for doubt in data.account.doubts)
    alone = load(str(write_folder(tmp_path / "y", PICTURE.astype(np.uint16) * 16)), image_size=16, progress=False)
    assert not any("more than 8 bits" in doubt.what for doubt in alone.account.doubts)


def test_nearly_black_and_nearly_white_images_are_told(tmp_path: Path) -> None:
    images = PICTURE.copy()
    images[:3] //= 12
    images[4] = 255 - images[4] // 12
    told = load(str(write_folder(tmp_path / "x", images, ".png")), image_size=16, progress=False).account.doubts
    assert any("3 of 24 images are nearly black (" in doubt.what for doubt in told)
    assert any("1 of 24 images are nearly white (cat/04.png)" in doubt.what for doubt in told)


def test_the_image_that_made_all_others_black_is_named(tmp_path: Path) -> None:
    values = PICTURE.astype(np.uint16) * 16
    values[7, 0, 0] = 65535  # burnt in
    data = load(str(write_folder(tmp_path / "x", values, ".png")), image_size=16, progress=False)
    (doubt,) = data.notes.doubts()
    assert doubt.what.startswith("24 of 24 images are nearly black")
    assert "dog/07.png has" in doubt.remedy


def test_a_given_range_is_used_and_is_part_of_the_key(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "x", PICTURE.astype(np.uint16) * 16, ".png")
    own = load(str(root), image_size=16, progress=False)
    other = load(str(root), image_size=16, progress=False, pixel_range=PixelRange(0, 65535))
    assert other.notes.pixel_range == PixelRange(0, 65535)
    assert other.fingerprint != own.fingerprint
    same = load(str(root), image_size=16, progress=False, pixel_range=PixelRange(0, 4095))
    assert same.fingerprint == own.fingerprint
    np.testing.assert_array_equal(by_path(other)["cat/02.png"], np.rint(PICTURE[2] * (16 / 257)))


@pytest.mark.parametrize(
    ("extremes", "expected"),
    [
        (Extremes(0, 40000, WHOLE), PixelRange(0, 65535)),
        (Extremes(0, 1, FRACTIONS), PixelRange(0, 1)),
        (Extremes(0, 200, FRACTIONS), PixelRange(0, 255)),
        (Extremes(0, 4080, WHOLE), None),
        (Extremes(-1, 1, FRACTIONS), None),
        (Extremes(0, 4080, FRACTIONS), None),
    ],
)
def test_one_image_for_a_model_of_eight_bits(extremes: Extremes, expected: PixelRange | None) -> None:
    if expected is not None:
        assert assumed_range(extremes) == expected
    else:
        with pytest.raises(ValueError, match="save it with 8 bits"):
            assumed_range(extremes)


def test_a_range_is_kept_as_it_is() -> None:
    pixel_range = PixelRange(-2.1179039301310043, 2.64)
    assert PixelRange.from_json(json.loads(json.dumps(pixel_range.as_json()))) == pixel_range


def test_splits_that_differ_a_little_are_of_one_scale() -> None:
    found = {"train": [Extremes(0, 4080, WHOLE)], "val": [], "test": [Extremes(0, 900, WHOLE)]}
    assert common_range("x", found) == PixelRange(0, 4095)


def test_the_fingerprint_of_eight_bits_is_that_of_before(tmp_path: Path) -> None:
    """Recorded when images had no range yet: run folders and caches made before are found again."""
    for k in range(20):
        file = tmp_path / "x" / ("cat", "dog")[k % 2] / f"{k:02}.ppm"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"P6 2 1 255\n" + bytes(range(k, k + 6)))
    data = load(str(tmp_path / "x"), image_size=16, progress=False)
    assert data.fingerprint == "0f672f9b8be140897e600cb87500a6fc2324ba2efe433a6fe012f4cbd4a73044"
