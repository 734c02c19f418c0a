"""Temperature scaling finds the temperature that was planted, and changes no answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.training.calibration import calibrated_losses, fitted_temperature


def calibrated(n: int = 4000, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose softmax is the truth: labels are drawn from it."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (n, classes))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = [random.choice(classes, p=row) for row in shares]
    return torch.from_numpy(logits), torch.tensor(labels)


@pytest.mark.parametrize("planted", [0.3, 1.0, 4.0])
def test_a_planted_temperature_is_found(planted):
    logits, labels = calibrated()
    assert fitted_temperature(logits * planted, labels) == pytest.approx(planted, rel=0.08)


@given(st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_calibrated_losses_do_not_depend_on_how_sure_the_network_was(factor):
    logits, labels = calibrated(300)
    plain = calibrated_losses(logits, labels, fitted_temperature(logits, labels))
    scaled = calibrated_losses(logits * factor, labels, fitted_temperature(logits * factor, labels))
    torch.testing.assert_close(scaled, plain, atol=1e-3, rtol=1e-3)


def test_a_network_that_is_never_wrong_is_made_as_sure_as_allowed():
    logits = torch.eye(3)[[0, 1, 2, 0]]
    assert fitted_temperature(logits, torch.tensor([0, 1, 2, 0])) == pytest.approx(1 / 20, rel=1e-3)
