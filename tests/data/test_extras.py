"""HEIC and DICOM are read where their library is installed, as viewers show them; elsewhere they are told by name."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.decode import decode
from raysearch.data.pixels import load
from raysearch.data.source import list_source
from raysearch.data.value_range import PixelRange, RangeNeededError

MakeFolder = Callable[[dict[str, int]], Path]


def dicom(values: NDArray[np.generic], **tags: Any) -> bytes:
    """A DICOM file, uncompressed: unsigned grey values of 12 bits unless the tags say otherwise."""
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = pydicom.dataset.Dataset()
    dataset.file_meta = meta
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = 3 if values.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if values.ndim == 3 else "MONOCHROME2"
    dataset.BitsAllocated = 8 * values.itemsize
    dataset.BitsStored = 12 if values.itemsize == 2 else 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes()
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


STORED = np.array([[0, 1000], [2000, 4095]], np.uint16)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, e.g. (1000 - 999.5) / 2000 + 0.5 = 0.50025.
        ({"WindowCenter": 1000, "WindowWidth": 2001}, [[0, 128], [255, 255]]),
        ({"WindowCenter": [1000, 40], "WindowWidth": [2001, 400]}, [[0, 128], [255, 255]]),
        ({"WindowCenter": 1000, "WindowWidth": 4000, "VOILUTFunction": "LINEAR_EXACT"}, [[64, 128], [191, 255]]),
        # 255 / (1 + exp(-4 * (x - c) / w)): exp(2) = 7.389, so 255 / 8.389 = 30.4 and its mirror image 224.6.
        ({"WindowCenter": 1000, "WindowWidth": 2000, "VOILUTFunction": "SIGMOID"}, [[30, 128], [225, 254]]),
        # Hounsfield units: 1000 stored is 2 * 1000 - 1000 = 1000, the centre; 0 is -1000, 2000 is 3000.
        (
            {"WindowCenter": 1000, "WindowWidth": 4001, "RescaleSlope": 2, "RescaleIntercept": -1000},
            [[0, 128], [255, 255]],
        ),
        ({"WindowCenter": 1000, "WindowWidth": 2001, "PhotometricInterpretation": "MONOCHROME1"}, [[255, 127], [0, 0]]),
    ],
    ids=["linear", "first-of-two", "exact", "sigmoid", "rescaled", "monochrome1"],
)
def test_a_window_says_what_is_black_and_white(tags: dict[str, Any], expected: list[list[int]]) -> None:
    pixels = decode(dicom(STORED, **tags), 2, "squash")
    np.testing.assert_allclose(pixels, np.dstack([np.array(expected)] * 3), atol=1)


def test_a_table_of_its_own_says_what_is_black_and_white() -> None:
    """Three entries from the value 10 on: below the first, above the last are the ends."""
    pydicom = pytest.importorskip("pydicom")
    table = pydicom.dataset.Dataset()
    table.LUTDescriptor = [3, 10, 8]
    table.add_new("LUTData", "US", [5, 100, 255])
    values = np.array([[0, 10], [11, 4000]], np.uint16)
    pixels = decode(dicom(values, VOILUTSequence=[table]), 2, "squash")
    assert pixels[..., 0].tolist() == [[5, 5], [100, 255]]


def test_without_a_window_the_data_sets_range_says_it() -> None:
    with pytest.raises(RangeNeededError) as needed:
        decode(dicom(STORED, RescaleSlope=2, RescaleIntercept=-1000), 2, "squash")
    extremes = needed.value.extremes
    assert (extremes.low, extremes.high, extremes.whole) == (-1000, 7190, True)
    pixels = decode(dicom(STORED), 2, "squash", PixelRange(0, 4095))
    assert pixels[..., 0].tolist() == [[0, 62], [125, 255]]
    turned = decode(dicom(STORED, PhotometricInterpretation="MONOCHROME1"), 2, "squash", PixelRange(0, 4095))
    assert turned[..., 0].tolist() == [[255, 193], [130, 0]]


def test_signed_values() -> None:
    values = np.array([[-1000, 0], [500, 2000]], np.int16)
    pixels = decode(dicom(values, WindowCenter=500, WindowWidth=3001), 2, "squash")
    assert pixels[..., 0].tolist() == [[0, 85], [128, 255]]


def test_colours_of_dicom() -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode(dicom(values), 4, "squash"), values)


def test_what_is_no_single_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="DICOM file of 2 frames"):
        decode(dicom(np.stack([STORED] * 2)[0], NumberOfFrames=2, PixelData=STORED.tobytes() * 2), 2, "squash")


def test_a_folder_of_dicom_files(tmp_path: Path) -> None:
    """Twelve bits, no window, and half of the files without an ending."""
    for k in range(24):
        file = tmp_path / "x" / ("cat", "dog")[k % 2] / f"{k:02}{'.dcm' * (k % 3 > 0)}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(dicom(np.clip(STORED + 10 * k, 0, 4095).astype(np.uint16)))
    data = load(str(tmp_path / "x"), image_size=8, progress=False)
    assert len(data.train) + len(data.val) + len(data.test) == 24
    assert data.notes.pixel_range == PixelRange(0, 4095)
    assert data.skipped == ()


def heic(image: Image.Image) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=-1)
    return stream.getvalue()


def test_heic_photos(folder: MakeFolder) -> None:
    red = Image.new("RGB", (64, 64), (200, 30, 30))
    assert np.abs(decode(heic(red), 8, "squash").astype(int) - (200, 30, 30)).max() <= 3
    root = folder({"cat": 5, "dog": 5})
    (root / "cat" / "IMG_1.HEIC").write_bytes(heic(red))
    (root / "dog" / "photo").write_bytes(heic(red))
    assert {"cat/IMG_1.HEIC", "dog/photo"} <= set(list_source(str(root)).paths)


def test_avif_needs_nothing_more() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(stream, "AVIF")
    assert np.abs(decode(stream.getvalue(), 8, "squash").astype(int) - (200, 30, 30)).max() <= 3


HEIC_HEAD = b"\0\0\0\x18ftypheic" + bytes(120)
DICOM_HEAD = bytes(128) + b"DICM"


@pytest.mark.usefixtures("no_extras")
@pytest.mark.parametrize(
    ("head", "ending", "what"), [(HEIC_HEAD, ".HEIC", "heif"), (DICOM_HEAD, ".dcm", "dicom")], ids=["heic", "dicom"]
)
def test_without_the_library_the_way_out_is_told(folder: MakeFolder, head: bytes, ending: str, what: str) -> None:
    root = folder({"cat": 5, "dog": 5})
    for name in (f"a{ending}", "no-ending"):
        (root / "cat" / name).write_bytes(head)
    listing = list_source(str(root))
    assert len(listing) == 10
    (tally,) = listing.account.passed_over
    assert tally.count == 2
    assert f"pip install 'raysearch[{what}]'" in tally.remedy
    with pytest.raises(ValueError, match="pip install 'raysearch"):
        decode(head, 8, "squash")
