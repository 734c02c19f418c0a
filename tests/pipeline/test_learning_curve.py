"""What more images would bring: the power law is found again, and what is not known is said."""

from __future__ import annotations

import numpy as np
import pytest

from raysearch.errors import InputError
from raysearch.pipeline.learning_curve import Point, checked_fractions, forecast, summed_up


def points(noise: float = 0.0, seeds: int = 3, sizes: tuple[int, ...] = (100, 200, 500, 1000)) -> list[Point]:
    """An error of 2 / sqrt(n), times a factor around 1."""
    random = np.random.default_rng(0)
    return [
        Point(n / 1000, n, seed, accuracy := 1 - 2 * n**-0.5 * np.exp(noise * random.normal()), accuracy)
        for n in sizes
        for seed in range(seeds)
    ]


def test_a_power_law_is_found_again():
    found = forecast(points(), 4000)
    assert found.exponent == pytest.approx(0.5)
    assert found.accuracy == pytest.approx(1 - 2 / 4000**0.5)
    assert found.low == pytest.approx(found.high)


def test_the_interval_grows_with_noise_and_distance():
    near, far = (forecast(points(0.1), images) for images in (1000, 10_000))
    assert near.low < near.accuracy < near.high
    assert far.high - far.low > 0
    assert forecast(points(0.3), 1000).low < near.low
    assert near.low < 1 - 2 / 1000**0.5 < near.high


def test_two_sizes_say_nothing_of_a_law():
    assert forecast(points(sizes=(100, 1000)), 2000) is None


def test_a_perfect_score_has_an_error_all_the_same():
    perfect = [Point(n / 1000, n, 0, 1.0, 1.0) for n in (100, 500, 1000)]
    assert forecast(perfect, 2000).accuracy == pytest.approx(1.0, abs=2e-4)


def test_seeds_are_summed_up():
    rows = summed_up(points(0.1), lambda point: point.accuracy)
    assert [(share, images) for share, images, _, _ in rows] == [(0.1, 100), (0.2, 200), (0.5, 500), (1.0, 1000)]
    assert all(spread > 0 for *_, spread in rows)
    assert summed_up(points(seeds=1), lambda point: point.accuracy)[0][3] is None


@pytest.mark.parametrize("text", ["", "a", "0,1", "10,20", "0.1,,1"])
def test_what_are_no_shares_is_refused(text):
    with pytest.raises(InputError, match="give shares above 0 and at most 1"):
        checked_fractions(text)
    assert checked_fractions("1,0.1,0.1") == [0.1, 1.0]
