"""Ranges that a space has for one network alone, and how values of its own range come into them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Own = Mapping[str, Mapping[str, BaseDistribution]]
"""By backbone and dotted path, the distribution that a value of the space is moved to."""


def moved(value: Any, common: BaseDistribution | None, own: BaseDistribution) -> Any:
    """A value, encoded, moved from its place in the space's range to the same place in a network's own.

    So a sampler learns from all networks at once: what it draws has one range, whatever a network makes of it. The i-th
    choice stands for the i-th; between bounds the distance from them counts, in logarithms where both are logarithmic.

    >>> moved(2, CategoricalDistribution([1, 2]), CategoricalDistribution([1, 3]))
    3
    >>> moved(0.01, FloatDistribution(0.001, 0.1, log=True), FloatDistribution(0.01, 1.0, log=True))
    0.1
    """
    if isinstance(own, CategoricalDistribution):
        if len(own.choices) == 1:
            return own.choices[0]
        assert isinstance(common, CategoricalDistribution)
        return own.choices[common.choices.index(value)]
    numbers = FloatDistribution | IntDistribution
    assert isinstance(own, numbers) and isinstance(common, numbers)
    share = _scaled(value, common.log) - _scaled(common.low, common.log)
    share /= (_scaled(common.high, common.log) - _scaled(common.low, common.log)) or 1.0
    low, high = _scaled(own.low, own.log), _scaled(own.high, own.log)
    there = low + share * (high - low)
    there = math.exp(there) if own.log else there
    if own.step is not None:
        there = own.low + round((there - own.low) / own.step) * own.step
    there = min(max(round(there, 15), own.low), own.high)
    return int(there) if isinstance(own, IntDistribution) else there


def why_not_moved(common: BaseDistribution | None, own: BaseDistribution) -> str | None:
    """Why values of the one have no place in the other, if they have none."""
    if isinstance(own, CategoricalDistribution):
        if len(own.choices) == 1:
            return None
        if isinstance(common, CategoricalDistribution) and len(common.choices) == len(own.choices):
            return None
        given = len(common.choices) if isinstance(common, CategoricalDistribution) else "no"
        return f"there are {len(own.choices)} choices where the space has {given}; the first stands for the first, …"
    if common is None or isinstance(common, CategoricalDistribution):
        return "it is a range where the space has none; give one value, or as many choices"
    return None


def _scaled(value: float, log: bool) -> float:
    return math.log(value) if log else value
