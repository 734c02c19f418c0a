"""Early stopping and the plateau course count as said; the plateau as torch's own does."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from raysearch.recipe import Stage
from raysearch.training.counters import Counters


@given(st.lists(st.sampled_from([2.0, 1.0, 0.99995, 0.9999, 0.99, 0.5, 0.1]), max_size=25), st.integers(0, 3))
def test_the_plateau_is_torchs(losses, patience):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, eps=0.0)
    counters = Counters()
    stage = Stage(depth=1, epochs=50, plateau_patience_epochs=patience)
    for loss in losses:
        counters.note(stage, loss, score=-loss)
        torchs.step(loss)
        assert 0.5**counters.drops == torchs.get_last_lr()[0]


def test_early_stopping_counts_epochs_without_a_better_score():
    stage, counters = Stage(depth=1, epochs=50, early_stopping_epochs=2), Counters()
    seen = []
    for score in (0.5, 0.4, 0.6, 0.6, 0.5):
        counters.note(stage, 1.0, score=score)
        seen.append(counters.finished(stage))
    assert seen == [False, False, False, False, True]
    assert not Counters(stale_epochs=99).finished(Stage(depth=1, epochs=50))


def test_a_stage_ends_after_its_epochs():
    stage = Stage(depth=1, epochs=3)
    assert [Counters(epoch=n).finished(stage) for n in (2, 3)] == [False, True]
