"""Trials of earlier runs: they move proposals, they fade, and a replay asks and answers the same."""

from __future__ import annotations

import json
import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.record.prior import PriorTrial
from raysearch.search.controller import Controller
from raysearch.search.prior import WORTH, beside, spread, still_there
from raysearch.search.rules import Rules
from raysearch.search.sampler import OptunaProposer
from raysearch.space.load import load_space
from tests.search.simulated import Play, World

FIXED = {"backbone": "densenet121", "weights": "random", "image_size": 32, "fit": "squash", "seed": 3}
RATE = "schedule.0.learning_rate"


@pytest.fixture(scope="module")
def space():
    return load_space("baseline", fixed=FIXED)


def earlier(space, good: bool) -> list[PriorTrial]:
    """A run of 24 trials, better the lower their rates, or the higher; in the order in which they stay."""
    rate = space.distributions[RATE]
    rates = [rate.low * (rate.high / rate.low) ** (place / 24) for place in range(24)]
    ranked = rates if good else rates[::-1]  # best first
    trials = [
        PriorTrial(
            run=0,
            trial=f"t{number:04d}",
            head=False,
            stage=0,
            place=1 - (number + 0.5) / 24,
            params=dict(space.default) | {RATE: value},
        )
        for number, value in enumerate(ranked)
    ]
    return [trials[place] for place in spread(24)]


def played(space, prior: list[PriorTrial], trials: int) -> Play:
    rules = Rules(rungs=(2,), levels=(0,))
    controller = Controller(rules, OptunaProposer(space, rules, 3, 2, prior))
    return Play(controller, World(early=0.0)).to_the_end(0, trials)


def made(play: Play) -> list[dict]:
    return [event for event in play.log if event["event"] == "trial"]


def test_proposals_go_where_earlier_runs_were_good(space):
    low, high = (
        fmean(math.log(event["params"][RATE]) for event in made(played(space, earlier(space, good), 8))[1:])
        for good in (True, False)
    )
    rate = space.distributions[RATE]
    assert high - low > 0.25 * math.log(rate.high / rate.low)


def test_what_earlier_runs_say_fades_with_every_trial_to_nothing(space):
    events = made(played(space, earlier(space, good=True), WORTH + 4))
    assert [event.get("prior", 0) for event in events] == [0, *range(WORTH - 1, 0, -1), 0, 0, 0, 0]


def test_once_it_has_faded_proposals_are_those_of_a_search_that_was_told_nothing(space):
    play = played(space, earlier(space, good=True), WORTH + 2)
    rules, last = play.controller.rules, made(play)[-1]
    before = play.log[: play.log.index(last)]
    alone = Controller(rules, OptunaProposer(space, rules, 3, 2))
    alone.replay(before)
    assert alone.proposer.trial(WORTH + 1, alone, level=0, role=None).params == last["params"]


def test_a_replay_asks_and_answers_the_same(space):
    prior = earlier(space, good=True)
    whole = played(space, prior, 6)
    for event in made(whole)[1:]:
        rules = whole.controller.rules
        again = Controller(rules, OptunaProposer(space, rules, 3, 2, json.loads(json.dumps(prior))))
        again.replay(json.loads(json.dumps(whole.log[: whole.log.index(event)])))
        proposed = again.proposer.trial(int(event["trial"][1:]), again, level=0, role=None)
        assert (proposed.params, proposed.prior) == (event["params"], event["prior"])


def test_earlier_trials_are_told_to_the_sampler_alone(space):
    play = played(space, earlier(space, good=True), 4)
    assert set(play.controller.trials) == {f"t{number:04d}" for number in range(4)}


def test_what_this_search_could_not_draw_says_nothing(space):
    prior = earlier(space, good=True)
    prior[0]["params"][RATE] = 1e9
    left = still_there(prior, {path: space.distributions[path] for path in space.trial_paths(0)}, own=0)
    assert left == prior[1 : WORTH + 1]


@given(st.integers(1, 60))
def test_the_beginning_of_a_spread_is_the_best_the_worst_and_what_lies_between(count):
    order = spread(count)
    assert sorted(order) == list(range(count))
    assert order[:2] == [0, count - 1][:count]


@given(st.lists(st.floats(-10, 10), min_size=0, max_size=5), st.integers(1, 3))
def test_earlier_trials_keep_their_ranking_and_stand_within_this_searchs_scores(own, metrics):
    places = [0.9, 0.1, 0.5]
    told = [PriorTrial(run=0, trial="t", head=False, stage=0, place=place, params={}) for place in places]
    found = beside(told, {}, [(score,) * metrics for score in own], metrics, required=False)
    for each in zip(*(trial.values for trial in found), strict=True):
        assert each[0] > each[2] > each[1]
        assert not own or all(min(own) - 1e-8 <= score <= max(own) + 1e-8 for score in each)
