"""Rungs: who may go on, and who never will."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.search.asha import Rung, rungs_for

SCORES = st.lists(st.integers(0, 5).map(float), max_size=30)  # few values, many ties


@given(st.integers(1, 300), st.integers(2, 5), st.none() | st.integers(1, 300))
def test_rungs_ascend_to_the_longest_by_about_the_reduction(max_epochs, reduction, first):
    rungs = rungs_for(max_epochs, reduction, first)
    assert rungs[-1] == max_epochs
    assert list(rungs) == sorted(set(rungs))
    for shorter, longer in pairwise(rungs):
        assert shorter == round(longer / reduction)
        assert shorter >= (first or 2)


@pytest.mark.parametrize(("max_epochs", "reduction"), [(0, 3), (-1, 3), (6, 1)])
def test_impossible_rungs_are_refused_with_the_values(max_epochs, reduction):
    with pytest.raises(ValueError, match=f"max_epochs={max_epochs}"):
        rungs_for(max_epochs, reduction)


@given(SCORES, st.integers(2, 4))
def test_the_promoted_are_those_of_the_top_share_best_first(scores, reduction):
    rung = Rung(reduction)
    promoted: set[str] = set()
    for i, score in enumerate(scores):
        rung.arrive(f"t{i:04d}", (score,))
        while (name := rung.promotable()) is not None:
            ranked = sorted(range(i + 1), key=lambda j: (-scores[j], j))
            place = ranked.index(int(name[1:]))
            assert place < (i + 1) // reduction
            assert all(f"t{j:04d}" in promoted for j in ranked[:place])
            rung.leave(name, (scores[int(name[1:])],))
            promoted.add(name)
    best = sorted(range(len(scores)), key=lambda j: (-scores[j], j))[: len(scores) // reduction]
    assert {f"t{j:04d}" for j in best} <= promoted


@given(SCORES, SCORES, st.integers(2, 4), st.data())
def test_the_hopeless_are_never_promotable_whoever_still_comes(scores, later, reduction, data):
    rung = Rung(reduction)
    for i, score in enumerate(scores):
        rung.arrive(f"t{i:04d}", (score,))
        while (name := rung.promotable()) is not None:
            rung.leave(name, (scores[int(name[1:])],))
    hopeless = set(rung.hopeless(len(later)))
    for i, score in enumerate(later):
        rung.arrive(f"u{i:04d}", (data.draw(st.sampled_from([score, -1.0])),))
        while (name := rung.promotable()) is not None:
            assert name not in hopeless
            rung.leave(name, (-next(key for key, other in rung.waiting if other == name),))


def test_those_of_whom_there_is_hope_are_kept():
    rung = Rung(3)
    for i in range(6):
        rung.arrive(f"t{i}", (-float(i),))
    assert set(rung.hopeless(0)) == {"t2", "t3", "t4", "t5"}
    assert set(rung.hopeless(6)) == {"t4", "t5"}
    assert set(rung.hopeless(60)) == set()


def test_leaving_twice_or_without_having_come_changes_nothing():
    rung = Rung(2)
    rung.arrive("t0", (1.0,))
    rung.leave("t1", (1.0,))
    rung.leave("t0", (1.0,))
    rung.leave("t0", (1.0,))
    assert rung.arrived == [(-1.0, "t0")]
    assert rung.waiting == []
