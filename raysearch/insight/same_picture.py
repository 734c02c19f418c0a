"""Whether two small grey images show one picture, by their pixels."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64
"""Pixels of the side at which images are compared; smaller ones keep their own size."""
ALIKE = 0.955
"""Correlation of the edges from which two images are one picture: JPEG of quality 50 leaves 0.97, two of the smallest
X-rays reach 0.95, photographs 0.6."""
_CROP_ALIKE = 0.97
"""The same of a crop: it is found in its image with 0.99, in others, of the smallest X-rays, with up to 0.9."""
_SCALES = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
_MAY_FIT = 0.85
_SMALLEST = 12
"""Pixels of a side below which anything fits anywhere."""


class Small:
    """Images as they are compared: grey, uint8, shape (n, side, side).

    Args:
        n: how many.
        size: pixels of a side as they come.
    """

    def __init__(self, n: int, size: int) -> None:
        self.side = min(size, SIDE)
        self._images = np.zeros((n, self.side, self.side), np.uint8)

    def put(self, place: int, grey: Image.Image) -> None:
        """Take in one image."""
        side = (self.side, self.side)
        self._images[place] = np.asarray(grey if grey.size == side else grey.resize(side, Image.Resampling.BOX))

    def __getitem__(self, place: int) -> NDArray[np.uint8]:
        return self._images[place]


def how_alike(
    one: NDArray[np.uint8], other: NDArray[np.uint8], *, crops: bool = True
) -> tuple[Literal["near", "mirrored", "cropped"] | None, float]:
    """How two images of one size show one picture; None if they do not.

    It is the correlation of their edges, and not of their brightness, in which any two X-rays of a chest are alike. A
    crop is looked for in the other image at several scales, from nineteen twentieths of it to a half, as it is and
    mirrored.

    Args:
        one, other: grey, shape (side, side).
        crops: whether one may be a crop of the other, which takes ten times as long to see.

    Returns:
        the way, and the correlation.
    """
    mirrored = np.ascontiguousarray(other[:, ::-1])
    edges, theirs, flipped = (_edges(image) for image in (one, other, mirrored))
    as_it_is, mirror = _correlation(edges, theirs), _correlation(edges, flipped)
    if max(as_it_is, mirror) >= ALIKE:
        # A symmetric picture is its own mirror image: it is called near.
        return ("near", as_it_is) if as_it_is >= ALIKE else ("mirrored", mirror)
    if not crops:
        return None, max(as_it_is, mirror, 0.0)
    best = max(_crop_in(crop, whole) for whole, crop in ((one, other), (one, mirrored), (other, one), (mirrored, one)))
    return ("cropped", best) if best >= _CROP_ALIKE else (None, max(as_it_is, mirror, 0.0))


def _edges(image: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.float32]:
    """Gradients in both directions of a slightly smoothed image, shape (2, h, w); compression changes those least."""
    smooth = cv2.GaussianBlur(image.astype(np.float32), (3, 3), 0)
    found: NDArray[np.float32] = np.stack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)])
    return found


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float((one * other).sum()) / lengths if lengths > 0 else 0.0


def _crop_in(crop: NDArray[np.uint8], whole: NDArray[np.uint8]) -> float:
    """How well `crop`, made smaller, fits anywhere into `whole`: the best correlation, of edges.

    The brightness at a few scales says at which one it may fit, the edges at every size near that one whether it does:
    half a pixel more or less blurs them.
    """
    side = len(whole)
    sizes = [size for scale in _SCALES if (size := round(side * scale)) >= _SMALLEST]
    likely, fit = 0, _MAY_FIT
    for size in sizes:
        if (found := _place(crop, whole, size)[0]) >= fit:
            likely, fit = size, found
    if not likely:
        return 0.0
    reach = max(2, side // 16)
    best = 0.0
    for size in range(max(_SMALLEST, likely - reach), min(side - 1, likely + reach) + 1):
        _, x, y, piece = _place(crop, whole, size)
        best = max(best, _correlation(_edges(whole[y : y + size, x : x + size]), _edges(piece)))
    return best


def _place(crop: NDArray[np.uint8], whole: NDArray[np.uint8], size: int) -> tuple[float, int, int, NDArray[np.uint8]]:
    """Where `crop` at a size fits best into `whole` by its brightness: how well, left, top; and it at that size."""
    piece = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    _, fit, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(whole, piece, cv2.TM_CCOEFF_NORMED))
    # Of images of one shade the correlation is infinite or none.
    return (float(fit) if abs(fit) <= 1.001 else 0.0), x, y, np.asarray(piece, np.uint8)
