"""The range test: where a stage learns, found on a network so small that one can tell."""

from __future__ import annotations

import numpy as np
import pytest

from raysearch.recipe import Stage
from raysearch.training.range_test import FASTEST, SLOWEST, range_test, smoothed, sweep_rates
from tests.training.tiny import trainer


def test_bounds_lie_where_the_loss_falls():
    found = range_test(trainer(Stage(depth=1, epochs=1, batch_size=16)))
    assert SLOWEST <= found.low < found.high < FASTEST
    assert len(found.rates) == len(found.losses)
    at = int(np.argmin(found.losses))
    assert found.high == pytest.approx(found.rates[at] / 3)
    assert found.losses[at] < found.losses[0]


def test_a_loss_that_is_not_finite_ends_it():
    trained = trainer(Stage(depth=1, epochs=1, batch_size=16))
    losses = sweep_rates(trained, [1e-3, 1e38, 1e38, 1e-3, 1e-3])
    assert 1 <= len(losses) < 5
    assert np.isfinite(losses).all()


def test_the_average_is_not_drawn_to_its_start():
    assert smoothed([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    assert smoothed([1.0, 2.0]) == pytest.approx([1.0, (0.16 * 1 + 0.2 * 2) / 0.36])
