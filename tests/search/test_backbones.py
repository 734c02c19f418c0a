"""Several networks: which of them go on after the head search, and what trials take of those that do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.record.level_events import Behind, NetworkStanding
from raysearch.record.trial import Trial
from raysearch.search.backbones import HeadsCompared, comparison, ranked, staying
from raysearch.search.controller import Controller
from raysearch.search.rules import Rules
from raysearch.search.sampler import OptunaProposer
from raysearch.space.load import load_space
from raysearch.space.space import Space
from tests.search.simulated import Play, World

NETWORKS = ("simple_cnn=random@32", "resnet18=random@32", "vgg16=random@32")
FIXED = {"backbone": "simple_cnn", "weights": "random", "image_size": 32, "fit": "squash", "seed": 0}
SPACE = """
from ray import tune
from raysearch.space import Search

space = {
    "pooling": tune.choice(["avg", "max"]),
    "schedule": [
        {"depth": 0, "epochs": 3, "learning_rate": tune.loguniform(1e-3, 1e-2)},
        {"depth": tune.choice([1, 2]), "learning_rate": tune.loguniform(1e-4, 1e-2)},
    ],
}
default = {"pooling": "avg", "schedule": [{"learning_rate": 2e-3}, {"depth": 2, "learning_rate": 1e-3}]}
search = Search(heads=4, per_backbone={"vgg16": {"schedule.1.depth": ["block5", "block3"]}})
"""
RULES = Rules((2,), networks=NETWORKS)


def head(name: str, accuracy: float, loss: float = 1.0) -> Trial:
    best = {"epoch": 1, "val_accuracy": accuracy, "val_loss": loss}
    return Trial(name, None, 0, {}, {"backbone": "simple_cnn"}, 0, pack=0, best=best, finished=True)


def behind(low: float) -> Behind:
    return {"mean": low + 0.1, "low": low, "high": low + 0.2}


def stood(rules: Rules, heads: dict[str, Trial | None], lows: dict[str, float]) -> list[NetworkStanding]:
    compared = HeadsCompared({name: behind(low) for name, low in lows.items()}, 100, 0.95)
    return comparison(rules, heads, compared, made=12)["networks"]


def test_a_network_leaves_where_its_whole_interval_is_behind_the_best_and_no_sooner() -> None:
    heads = {"a": head("h0000", 0.6), "b": head("h0004", 0.9), "c": head("h0008", 0.8)}
    found = stood(RULES, heads, {"a": 0.01, "c": -0.01})
    assert [one["network"] for one in found] == ["b", "c", "a"], "the best first"
    assert staying(found) == ("b", "c")
    assert [one["head"] for one in found] == ["h0004", "h0008", "h0000"]
    assert [one["behind"] for one in found[:2]] == [None, behind(-0.01)]
    assert staying(stood(RULES, heads, {"a": 0.0, "c": 0.0})) == ("b", "c", "a"), "0 may be chance"


def test_no_more_go_on_than_the_space_says_and_one_without_a_head_never_does() -> None:
    heads = {"a": head("h0000", 0.7), "b": None, "c": head("h0008", 0.8)}
    found = stood(RULES, heads, {"a": -1.0})
    assert staying(found) == ("c", "a")
    assert found[-1] == {"network": "b", "head": None, "figure": None, "behind": None, "stays": False}
    assert staying(stood(Rules((2,), networks_kept=1), heads, {"a": -1.0})) == ("c",)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.4, 0.7])), min_size=1, max_size=6))
def test_the_best_always_goes_on_and_equals_keep_their_order(scores: list[tuple[float, float]]) -> None:
    heads: dict[str, Trial | None] = {f"n{i}": head(f"h{i:04d}", *score) for i, score in enumerate(scores)}
    order = ranked(RULES, heads)
    assert order[0] == max(heads, key=lambda name: (*_key(heads[name]), -int(name[1:])))
    assert sorted(order) == sorted(heads)
    assert order[0] in staying(stood(RULES, heads, dict.fromkeys(order[1:], 0.5)))


def _key(one: Trial | None) -> tuple[float, float]:
    assert one is not None
    assert one.best is not None
    return one.best["val_accuracy"], -one.best["val_loss"]


# ---- a whole search, without training ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    path = tmp_path_factory.mktemp("networks") / "several.py"
    path.write_text(SPACE)
    return load_space(str(path), fixed=FIXED, networks=NETWORKS)


class Networks(Play):
    """A play in which networks that are named leave."""

    def __init__(self, controller: Controller, world: World, leaving: tuple[str, ...], **how: object) -> None:
        self.leaving = leaving
        super().__init__(controller, world, **how)  # type: ignore[arg-type]

    def start(self, prefer: str | None = None) -> str | None:
        if (heads := self.controller.to_compare) is not None:
            assert super().start(prefer) is None, "no trial begins before networks are compared"
            rules, made = self.controller.rules, self.controller.tally.made("h")
            lows = {name: 0.1 if name in self.leaving else -0.1 for name in ranked(rules, heads)[1:]}
            compared = HeadsCompared({name: behind(low) for name, low in lows.items()}, 100, 0.95)
            self.emit(comparison(rules, heads, compared, made=made))
        return super().start(prefer)


@pytest.fixture
def play(space: Space) -> Callable[..., Networks]:
    def begun(leaving: tuple[str, ...] = (), kept: int | None = None, **how: object) -> Networks:
        rules = Rules((6,), levels=tuple(space.levels), networks=NETWORKS, networks_kept=kept)
        controller = Controller(rules, OptunaProposer(space, rules, 0, 6))
        return Networks(controller, World(), leaving, **how)

    return begun


def trials_of(play: Play) -> list[Trial]:
    return [trial for trial in play.controller.trials.values() if not trial.is_head]


def test_every_network_has_as_many_heads_and_one_comes_after_the_other(play: Callable[..., Networks]) -> None:
    made = play().to_the_end(12, 6).controller.trials.values()
    networks = [one.network for one in made if one.is_head]
    assert Counter(networks) == dict.fromkeys(NETWORKS, 4)
    assert networks == sorted(networks, key=NETWORKS.index), "its features are made once"
    of_packs = Counter((one.pack, one.network) for one in made if one.is_head)
    assert len(of_packs) == len({pack for pack, _ in of_packs}), "a pack has the features of one network"


def test_trials_take_networks_and_depths_in_turn_and_start_from_a_head_of_their_own(
    play: Callable[..., Networks],
) -> None:
    played = play().to_the_end(12, 12, concurrent=3)
    trials = trials_of(played)
    for trial in trials:
        assert trial.parent is not None
        parent = played.controller.trials[trial.parent]
        assert (parent.network, parent.recipe.pooling) == (trial.network, trial.recipe.pooling)
    assert len({(one.network, one.depth) for one in trials[:7]}) == 6, "each network at each of its depths"
    depths = {name: {one.depth for one in trials if one.network == name} for name in NETWORKS}
    assert depths["resnet18=random@32"] == {1, 2}
    assert depths["vgg16=random@32"] == {1, 3}, "it has depths of its own"


def test_what_left_is_not_trained_and_the_default_takes_the_best_if_its_own_network_left(
    play: Callable[..., Networks],
) -> None:
    stayed = next(one for one in play().to_the_end(12, 1).log if one["event"] == "networks")["networks"][0]["network"]
    leaving = tuple(name for name in NETWORKS if name != stayed)
    trials = trials_of(play(leaving).to_the_end(12, 8))
    assert {one.network for one in trials} == {stayed}
    assert trials[0].role == "default"
    assert trials[0].recipe.schedule[1].learning_rate == 1e-3
    alone = {one.network for one in trials_of(play(kept=1).to_the_end(12, 8))}
    assert alone == {stayed}


def test_a_search_that_is_broken_off_anywhere_goes_on_to_the_same_trials(play: Callable[..., Networks]) -> None:
    whole = play(NETWORKS[1:2]).to_the_end(12, 8)
    wanted = [(one.name, one.parent, one.params) for one in whole.controller.trials.values()]
    at = next(number for number, event in enumerate(whole.log) if event["event"] == "networks")
    for cut in (at - 1, at, at + 1, at + 4):
        again = play(NETWORKS[1:2], log=whole.log[:cut]).to_the_end(12, 8)
        assert [(one.name, one.parent, one.params) for one in again.controller.trials.values()] == wanted
        assert sum(event["event"] == "networks" for event in again.log) == 1


def test_a_network_whose_heads_all_fail_leaves(space: Space) -> None:
    rules = Rules((6,), levels=tuple(space.levels), networks=NETWORKS)
    controller = Controller(rules, OptunaProposer(space, rules, 0, 6))
    played = Networks(controller, World(), ())
    played.emit({"event": "budget", "heads": 12, "trials": 6})
    while controller.tally.made("h") < 12 or controller.running:
        played.start()
        for name in list(played.running):
            if controller.trials[name].network == NETWORKS[1]:
                del played.running[name]
                played.emit({"event": "failed", "trial": name, "error": "loss is nan"})
            else:
                played._finish(played.running.pop(name), 3, False)
    played.to_the_end(12, 6)
    assert set(controller.networks) == {NETWORKS[0], NETWORKS[2]}
    assert NETWORKS[1] not in {one.network for one in trials_of(played)}


def test_a_search_of_one_network_waits_for_no_comparison(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(SPACE)
    space = load_space(str(tmp_path / "one.py"), fixed=FIXED)
    rules = Rules((6,), levels=tuple(space.levels))
    played = Play(Controller(rules, OptunaProposer(space, rules, 0, 6)), World()).to_the_end(4, 6)
    assert {event["event"] for event in played.log}.isdisjoint({"networks"})
    assert "backbone" not in played.controller.trials["t0001"].params
