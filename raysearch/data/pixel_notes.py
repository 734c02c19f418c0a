"""What is told of decoded pixels: the range that was used, and images that are nearly black or nearly white."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.data.account import Doubt
from raysearch.data.listing import some
from raysearch.data.selection import evenly_spaced
from raysearch.data.value_range import PixelRange

_LOOKED_AT = 2048
"""Images of a split, evenly spaced."""
_SIDE = 64
"""Pixels a side that are looked at in an image, at most about twice as many."""
_DARK, _BRIGHT, _NEARLY = 24, 231, 0.99
"""An image is nearly black if 99 in 100 values lie below the first, nearly white if as many lie above the second."""


@dataclass(frozen=True)
class PixelNotes:
    """How the values of a data set became pixels, and what looks odd about these."""

    pixel_range: PixelRange | None = None
    """The range of the images that have more than eight bits; None: none has."""
    deep: int = 0
    """Images of more than eight bits."""
    shallow: int = 0
    """The others; runs from before these were counted have none."""
    largest: str = ""
    """The image that has the largest value of them, from which the range follows; "" where the range was given."""
    looked: int = 0
    """Images that were looked at for their brightness."""
    dark: tuple[str, ...] = ()
    """Those that are nearly black."""
    bright: tuple[str, ...] = ()
    """Those that are nearly white."""

    def told(self) -> list[str]:
        """What is to be known, and is nothing to worry about; a sentence each."""
        if self.pixel_range is None:
            return []
        low, high = self.pixel_range.low, self.pixel_range.high
        return [
            f"{self.deep:,} images have more than 8 bits: values from {low:g} (black) to {high:g} (white) are used."
        ]

    def doubts(self) -> list[Doubt]:
        """What is probably wrong."""
        way_out = "Look at them: they may be damaged, masks, or values of another scale."
        if self.pixel_range is not None and self.largest:
            way_out = (
                f"The range of their values, {self.pixel_range}, follows from the largest value, which {self.largest} "
                "has: take that image away if it is unlike the others."
            )
        elif self.pixel_range is not None:
            way_out = f"They were scaled by the range of the training images, {self.pixel_range}: scale them as those."
        mixed = [
            Doubt(
                f"{self.deep:,} of {self.deep + self.shallow:,} images have more than 8 bits, and the others 8: what "
                "is as bright in both may not look so.",
                "Save all of them with as many bits; DICOM files with a window of their own count as 8.",
            )
        ]
        return mixed * bool(self.deep and self.shallow) + [
            Doubt(f"{len(images):,} of {self.looked:,} images are nearly {colour} ({some(images)}).", way_out)
            for colour, images in (("black", self.dark), ("white", self.bright))
            if images
        ]

    def as_json(self) -> dict[str, Any]:
        """The notes as dataset.json keeps them."""
        return {
            "range": None if self.pixel_range is None else self.pixel_range.as_json(),
            "deep": self.deep,
            "shallow": self.shallow,
            "largest": self.largest,
            "looked": self.looked,
            "dark": self.dark,
            "bright": self.bright,
        }

    @staticmethod
    def from_json(kept: Mapping[str, Any] | None) -> PixelNotes:
        """The notes that `as_json` wrote; empty ones for a data set that an older version decoded."""
        if kept is None:
            return PixelNotes()
        return PixelNotes(
            PixelRange.from_json(kept["range"]),
            kept["deep"],
            kept.get("shallow", 0),
            kept["largest"],
            kept["looked"],
            tuple(kept["dark"]),
            tuple(kept["bright"]),
        )


def dark_and_bright(pixels: NDArray[np.uint8]) -> tuple[list[int], list[int], int]:
    """The places of the nearly black and of the nearly white images, and how many were looked at.

    Args:
        pixels: uint8, shape (n, size, size, 3).
    """
    n, size = pixels.shape[:2]
    step = max(1, size // _SIDE)
    looked = evenly_spaced(n, _LOOKED_AT).tolist()
    dark, bright = [], []
    for place in looked:
        values = pixels[place, ::step, ::step]
        # Counted, not np.quantile, which took a twentieth of a whole intake.
        if np.count_nonzero(values < _DARK) >= _NEARLY * values.size:
            dark.append(place)
        elif np.count_nonzero(values > _BRIGHT) >= _NEARLY * values.size:
            bright.append(place)
    return dark, bright, len(looked)
