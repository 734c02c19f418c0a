"""The learning rate never leaves (0, peak], rises while it warms up, and matches the published courses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysearch.recipe import Stage
from raysearch.training.course import learning_rate

COURSES = ("constant", "plateau", "cosine", "one_cycle")
stages = st.builds(
    Stage,
    depth=st.just(1),
    epochs=st.integers(1, 50),
    course=st.sampled_from(COURSES),
    learning_rate=st.floats(1e-6, 1.0),
    warmup_epochs=st.one_of(st.just(0.0), st.floats(0.01, 60.0)),
    min_learning_rate=st.one_of(st.just(0.0), st.floats(0.0, 2.0)),
    plateau_factor=st.floats(0.01, 0.99),
)


@given(stages, st.integers(1, 2000), st.data(), st.integers(0, 20))
def test_positive_and_at_most_the_peak_at_every_step(stage, steps, data, drops):
    step = data.draw(st.integers(0, steps * stage.epochs - 1))
    assert 0 < learning_rate(stage, (step + 0.5) / steps, drops) <= stage.learning_rate


@given(stages, st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_rises_while_it_warms_up(stage, one, other):
    rise = stage.warmup_epochs or (0.3 * stage.epochs if stage.course == "one_cycle" else 0.0)
    low, high = sorted((one * rise, other * rise))
    assert learning_rate(stage, low) <= learning_rate(stage, high) if rise else True


@given(stages, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_falls_or_stays_after_the_warm_up(stage, one, other):
    rise = stage.warmup_epochs or (0.3 * stage.epochs if stage.course == "one_cycle" else 0.0)
    if rise < stage.epochs:
        low, high = (rise + part * (stage.epochs - rise) for part in sorted((one, other)))
        assert learning_rate(stage, low) >= learning_rate(stage, high) * (1 - 1e-12)


@given(stages, st.floats(0.001, 1.0), st.integers(0, 10))
def test_only_the_plateau_course_reads_the_drops(stage, part, drops):
    rates = [learning_rate(stage, part * stage.epochs, d) for d in (drops, drops + 1)]
    assert rates[1] <= rates[0] if stage.course == "plateau" else rates[1] == rates[0]


def test_one_cycle_is_torchs():
    epochs, steps = 5, 400
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    torchs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs * steps)
    stage = Stage(depth=1, epochs=epochs, learning_rate=0.1, course="one_cycle")
    for step in range(epochs * steps - 1):
        assert learning_rate(stage, (step + 0.5) / steps) == pytest.approx(torchs.get_last_lr()[0], abs=2e-4)
        optimizer.step()
        torchs.step()


def test_cosine_plateau_and_constant_by_hand():
    def stage(course: str) -> Stage:
        return Stage(
            depth=1,
            epochs=5,
            course=course,
            learning_rate=0.1,
            warmup_epochs=1,
            min_learning_rate=0.01,
            plateau_factor=0.2,
        )

    assert learning_rate(stage("cosine"), 0.25) == pytest.approx(0.025)
    assert learning_rate(stage("cosine"), 2) == pytest.approx(0.01 + 0.09 * (1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate(stage("cosine"), 5) == pytest.approx(0.01)
    assert learning_rate(stage("plateau"), 3, 1) == pytest.approx(0.02)
    assert learning_rate(stage("plateau"), 3, 2) == pytest.approx(0.01)
    assert learning_rate(stage("constant"), 3) == 0.1
