"""A search that is after several metrics: who goes on, by fronts; and that it follows from its log."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.record.fronts import fronts
from raysearch.search.asha import Rung, rungs_for
from raysearch.search.controller import Controller
from raysearch.search.fronts import FrontRung, spread_out
from raysearch.search.rules import Rules
from raysearch.search.sampler import OptunaProposer
from raysearch.space.load import load_space
from tests.search.simulated import Play, World

POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=20)  # few values, many ties
METRIC = "val_recall:ill,loss"


def beats(one, other) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other


def scores(point) -> tuple[float, ...]:
    return (float(np.prod(point)), *map(float, point))


@given(POINTS)
def test_who_is_in_a_front_is_beaten_from_each_front_before_and_from_none_after(points):
    found = fronts(np.array(points).reshape(-1, 2))
    for one, front in zip(points, found, strict=True):
        above = {number for other, number in zip(points, found, strict=True) if beats(other, one)}
        assert above == set(range(1, front)), "the longest chain of points that beat each other ends at it"


def test_what_is_no_number_is_beaten_by_all():
    assert fronts([[np.nan, np.nan], [0.1, 0.2], [-np.inf, 0.3]]).tolist() == [2, 1, 1]


def test_the_first_of_a_front_cover_it():
    line = [(0.5, 0.5), (0.4, 0.6), (0.6, 0.4), (0.0, 1.0), (1.0, 0.0), (0.25, 0.75)]
    assert set(spread_out(line)[:3]) == {0, 3, 4}
    assert sorted(spread_out(line)) == list(range(6))
    assert spread_out([(1.0, 1.0), (1.0, 1.0)]) == [0, 1]


@given(POINTS, st.integers(2, 4))
def test_the_promoted_were_of_the_first_fronts_when_they_went(points, reduction):
    rung = FrontRung(reduction)
    for i, point in enumerate(points):
        rung.arrive(f"t{i:04d}", scores(point))
        while (name := rung.promotable()) is not None:
            at, here = int(name[1:]), points[: i + 1]
            number = fronts(here)
            better = sum(number < number[at])
            assert better < (i + 1) // reduction, "whole fronts come before the next"
            rung.leave(name, ())


def test_both_ends_of_a_trade_off_go_on_and_the_best_balance():
    rung = FrontRung(3)
    for i in range(9):
        rung.arrive(f"t{i}", scores((i + 1, 9 - i)))
    gone = []
    while (name := rung.promotable()) is not None:
        gone.append(name)
        rung.leave(name, ())
    assert gone == ["t4", "t0", "t8"]


@given(POINTS, POINTS, st.integers(2, 4))
def test_the_hopeless_are_never_promotable_whoever_still_comes(points, later, reduction):
    rung, hopeless = FrontRung(reduction), set()
    for i, point in enumerate([*points, *later]):
        if i == len(points):
            hopeless = set(rung.hopeless(len(later)))
        rung.arrive(f"t{i:04d}", scores(point))
        while (name := rung.promotable()) is not None:
            assert name not in hopeless
            rung.leave(name, ())


def test_one_that_many_beat_is_given_up():
    rung = FrontRung(3)
    for i in range(6):
        rung.arrive(f"t{i}", scores((6 - i, 6 - i)))
    assert set(rung.hopeless(0)) == {"t2", "t3", "t4", "t5"}
    assert set(rung.hopeless(60)) == set()


@given(st.lists(st.integers(0, 4), max_size=20), st.integers(2, 4))
def test_by_one_figure_it_is_a_rung_like_any_other(figures, reduction):
    front, plain = FrontRung(reduction), Rung(reduction)
    for i, figure in enumerate(figures):
        for rung in (front, plain):
            rung.arrive(f"t{i:04d}", (float(figure), float(figure)))
        while (name := plain.promotable()) is not None:
            assert front.promotable() == name
            for rung in (front, plain):
                rung.leave(name, (float(figures[int(name[1:])]),))
        assert front.promotable() is None


def controller() -> Controller:
    space = load_space("fine_tune", fixed={"backbone": "densenet121", "weights": "random", "image_size": 32, "seed": 0})
    rules = Rules(rungs_for(6, 3), 3, METRIC, levels=tuple(space.levels))
    return Controller(rules, OptunaProposer(space, rules, 0, 6))


@pytest.fixture(scope="module")
def whole() -> Play:
    return Play(controller(), World(metric=METRIC)).to_the_end(4, 14)


@settings(max_examples=5, deadline=None)
@given(share=st.floats(0, 1))
def test_a_search_for_a_front_that_is_killed_anywhere_ends_as_if_nothing_had_been(whole, share):
    cut = whole.writes[int(share * (len(whole.writes) - 2))]
    again = Play(controller(), World(metric=METRIC), log=whole.log[:cut]).to_the_end(4, 14)

    def trials(play):
        return [(one.name, one.params, one.state, one.best) for one in play.controller.trials.values()]

    assert trials(again) == trials(whole)


def test_the_best_by_one_of_the_metrics_can_be_asked_for(whole):
    state, ended = whole.controller, [one for one in whole.controller.trials.values() if one.finished]
    ended = [one for one in ended if not one.is_head]
    assert state.point("recall:ill").best["val_recall:ill"] == max(one.best["val_recall:ill"] for one in ended)
    assert state.point("loss").best["val_loss"] == min(one.best["val_loss"] for one in ended)
    assert state.point(ended[0].name) is ended[0]
    stopped = next(one for one in state.trials.values() if not one.is_head and not one.finished)
    assert state.point(stopped.name) is None
    assert state.point("h0000") is None, "a head is no recipe of this search"
