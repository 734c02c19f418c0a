"""Which values are black and white in images of more than eight bits: one range for a whole data set, never an image's.

Images of eight bits are never scaled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.errors import InputError

_DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras, scanners and detectors give; values are stored in the next larger type."""
_UNFILLED = 4.0
"""Fractions whose largest value is below a whole depth's by more than this factor are not of that depth."""
_OVERSHOOT = 0.01
"""By what share of a nominal range values may lie outside of it, as those of a resized image do."""
_SYMMETRIC = (0.5, 1.0)
_TOO_FAR = 30.0
"""Splits whose largest values differ by more than this factor are not of one scale: 1 and 255, or 255 and 65535."""


class RangeNeededError(ValueError):
    """An image has values that only a range makes pixels of, and none was given; it has the image's extremes."""

    def __init__(self, extremes: Extremes) -> None:
        self.extremes = extremes
        super().__init__(f"an image with {extremes} needs the range of its data set")


@dataclass(frozen=True)
class Extremes:
    """The smallest and the largest value of an image, or of many."""

    low: float
    high: float
    whole: bool
    """The values are integers."""

    @staticmethod
    def of(values: NDArray[np.generic]) -> Extremes:
        """The extremes of an image's values.

        Raises:
            ValueError: some are not finite.
        """
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise ValueError("the image holds values that are not finite")
        return Extremes(low, high, values.dtype.kind in "iub")

    @staticmethod
    def over(several: Iterable[Extremes]) -> Extremes:
        """The extremes of several, which are not none."""
        found = list(several)
        return Extremes(min(one.low for one in found), max(one.high for one in found), all(one.whole for one in found))

    def __str__(self) -> str:
        return f"{'whole numbers' if self.whole else 'fractions'} from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class PixelRange:
    """Values from `low` (black, 0) to `high` (white, 255); what lies outside is black or white."""

    low: float
    high: float

    def to_bytes(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """The values as bytes of the same shape, rounded to the nearest.

        Raises:
            ValueError: some are not finite.
        """
        Extremes.of(values)
        scaled = (values.astype(np.float64) - self.low) * (255.0 / (self.high - self.low))
        return np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)

    def as_json(self) -> dict[str, float]:
        """The range as best/labels.json and dataset.json keep it."""
        return {"low": float(self.low), "high": float(self.high)}

    @staticmethod
    def from_json(kept: Mapping[str, Any] | None) -> PixelRange | None:
        """The range that `as_json` wrote; None where there was none, or where an older version wrote nothing."""
        return None if kept is None else PixelRange(float(kept["low"]), float(kept["high"]))

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


def range_of(found: Extremes) -> PixelRange:
    """The range that the extremes of a whole data set tell of.

    Whole numbers from 0 have the smallest usual depth that holds them: 8, 10, 12, 14 or 16 bits, or 0 and 1 alone.
    Fractions lie in [0, 1], [-1, 1] or [-0.5, 0.5], or have such a depth. Whatever else there is (Hounsfield units,
    standardised values) reaches from the data set's smallest value to its largest.
    """
    low, high = found.low, found.high
    if found.whole:
        if low >= 0:
            if high <= 1:
                return PixelRange(0.0, 1.0)
            for depth in _DEPTHS:
                if high < 2**depth:
                    return PixelRange(0.0, 2.0**depth - 1)
        return _observed(found)
    if low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT:
        return PixelRange(0.0, 1.0)
    for half in _SYMMETRIC:
        if low >= -half * (1 + _OVERSHOOT) and high <= half * (1 + _OVERSHOOT):
            return PixelRange(-half, half)
    for depth in _DEPTHS:
        top = 2.0**depth - 1
        if low >= -_OVERSHOOT * top and top / _UNFILLED < high <= top * (1 + _OVERSHOOT):
            return PixelRange(0.0, top)
    return _observed(found)


def _observed(found: Extremes) -> PixelRange:
    return PixelRange(found.low, found.high if found.high > found.low else found.low + 1.0)


def assumed_range(found: Extremes) -> PixelRange:
    """The range of one image for a model that was trained on images of eight bits, or before ranges were recorded.

    Raises:
        ValueError: its values leave open what is white.
    """
    if found.low >= 0:
        if not found.whole and found.high <= 255:
            return PixelRange(0.0, 1.0 if found.high <= 1 else 255.0)
        if found.whole and found.high <= 1:
            return PixelRange(0.0, 1.0)
        if 2**14 <= found.high < 2**16:
            return PixelRange(0.0, 65535.0)
    raise ValueError(
        f"it has {found}, and the model, which was trained on images of 8 bits, does not say which of them is white: "
        "save it with 8 bits, as the training images were"
    )


def common_range(source: str, found: Mapping[str, Sequence[Extremes]]) -> PixelRange:
    """The one range of a data set's images of more than eight bits.

    Args:
        source: for messages.
        found: the extremes of each of those images, by split.

    Raises:
        InputError: some images hold whole numbers and some fractions of another range, or a split's values are far from
            those of another.
    """
    kinds = {}
    for whole, name in ((True, "whole numbers"), (False, "fractions")):
        images = [one for split in found.values() for one in split if one.whole == whole]
        if images:
            kinds[name] = (len(images), Extremes.over(images))
    ranges = {range_of(extremes) for _, extremes in kinds.values()}
    if len(ranges) > 1:
        told = "; ".join(f"{count} images hold {extremes}" for count, extremes in kinds.values())
        raise InputError(f"{source}: {told}. They have no range of values in common: save all of them with 8 bits.")
    largest = {split: Extremes.over(images) for split, images in found.items() if images}
    spans = {split: extremes.high - min(0.0, extremes.low) for split, extremes in largest.items()}
    least, most = min(spans, key=lambda name: spans[name]), max(spans, key=lambda name: spans[name])
    if spans[most] > _TOO_FAR * spans[least] > 0:
        raise InputError(
            f"{source}: the images of {least} hold {largest[least]}, those of {most} hold {largest[most]}: one of them "
            "was scaled and the other was not. Scale both in the same way, or save all of them with 8 bits."
        )
    return ranges.pop()
