"""DICOM files as a radiologist's viewer first shows them; read by pydicom, which `raysearch[dicom]` installs.

The grey scale is that of DICOM PS3.3, sections C.11.1 and C.11.2.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_dicom(data: bytes) -> NDArray[np.generic]:
    """The picture of a DICOM file, shape (h, w) or (h, w, 3).

    Grey values are bytes where the file has a window or a table of its own: what lies in the (first) window becomes 0
    to 255. Else they are those of the modality, e.g. Hounsfield units, for a range that the whole data set has. In
    MONOCHROME1, where the largest value is black, they are turned round. Colours are bytes, RGB.

    Raises:
        ValueError: several frames, no pixels, or a compression that needs a library that is not installed.
    """
    import pydicom
    from pydicom.pixels import apply_modality_lut, pixel_array

    dataset: Any = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in dataset:
        raise ValueError("a DICOM file without pixels")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(f"a DICOM file of {frames} frames: save each frame that is meant as an image of its own")
    try:
        values: NDArray[np.generic] = pixel_array(dataset)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        raise ValueError(f"a DICOM file that pydicom cannot decode ({error})") from error
    if dataset.get("PhotometricInterpretation", "") == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        colours: NDArray[np.integer] = apply_color_lut(values, dataset)
        return (colours >> 8 if colours.dtype == np.uint16 else colours).astype(np.uint8)
    if values.ndim == 3:
        return values
    modality = apply_modality_lut(values, dataset)
    inverted = dataset.get("PhotometricInterpretation", "") == "MONOCHROME1"
    shown = _shown(modality, dataset)
    if shown is not None:
        grey = np.rint(255 * np.clip(1 - shown if inverted else shown, 0, 1))
        return grey.astype(np.uint8)
    if inverted:
        least, most = _stored_extremes(dataset)
        ends = apply_modality_lut(np.array([least, most]), dataset)
        modality = ends.sum() - modality
    return modality.astype(np.int32) if np.array_equal(modality, np.rint(modality)) else modality


def _shown(values: NDArray[np.generic], dataset: Any) -> NDArray[np.float64] | None:
    """Values of the modality from 0 (black) to 1 by the file's own table or window; None where it has neither."""
    if dataset.get("VOILUTSequence"):
        from pydicom.pixels import apply_voi

        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return apply_voi(values.astype(np.int64), dataset, 0) / (2.0**bits - 1)
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is None or width is None or width < 1:
        return None
    x = values.astype(np.float64)
    function = dataset.get("VOILUTFunction", "LINEAR") or "LINEAR"
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (x - centre) / width))
    if function == "LINEAR_EXACT":
        return np.clip((x - centre) / width + 0.5, 0, 1)
    return np.clip((x - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5, 0, 1)


def _first(value: Any) -> float | None:
    """The number, or the first one of several: a file may offer more than one window."""
    if value is None or value == "":
        return None
    return float(value) if isinstance(value, int | float | str) or not hasattr(value, "__len__") else float(value[0])


def _stored_extremes(dataset: Any) -> tuple[int, int]:
    bits = int(dataset.BitsStored)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if int(dataset.PixelRepresentation) else (0, 2**bits - 1)
