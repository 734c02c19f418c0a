"""What is brought up to date event by event is what a look at every trial would say, whatever happens to trials."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings

from raysearch.recipe import Head
from raysearch.search.controller import Controller
from raysearch.search.packs import Shape
from tests.search.simulated import Play
from tests.search.test_controller import search, searches
from tests.search.test_tree import tree, trees


def check(controller: Controller) -> None:
    """Everything that is kept, against all trials."""
    rules, everyone = controller.rules, list(controller.trials.values())
    heads, trials = [one for one in everyone if one.is_head], [one for one in everyone if not one.is_head]
    for kind, of_kind in (("h", heads), ("t", trials)):
        counted = {state: count for state, count in controller.tally.states[kind].items() if count}
        assert counted == Counter(one.state for one in of_kind)
    assert controller.tally.epochs == sum(one.epochs for one in trials)
    assert controller.tally.parents == {one.parent for one in everyone if one.parent and one.state != "done"}
    assert controller.tally.best_done is rules.best(one for one in trials if one.finished)
    assert controller.running == [one for one in everyone if one.running]
    over = [head for head in heads if controller.packs.over(head.pack)]
    assert all(head.finished or head.failed for head in over)
    assert controller.best_head() is rules.best(over)
    for pooling in {head.recipe.pooling for head in heads}:
        assert controller.best_head(Shape(heads[0].network, pooling, Head())) is rules.best(
            h for h in over if h.recipe.pooling == pooling
        )
    for level in rules.levels:
        ended = [one for one in trials if one.stage == level and one.finished]
        best_first = sorted(ended, key=lambda one: rules.order(one.best), reverse=True)
        assert controller.tree.beam(level) == best_first[: rules.beam]
    assert controller.tree.with_a_role() == [one for one in trials if one.role is not None]


def check_throughout(controller: Controller, log: list[dict]) -> None:
    for event in log:
        controller.apply(event)
        check(controller)


@given(searches())
@settings(max_examples=25, deadline=None)
def test_of_a_search(case):
    shape, world, how = case
    check_throughout(search(**shape), Play(search(**shape), world).to_the_end(**how).log)


@given(trees())
@settings(max_examples=25, deadline=None)
def test_of_a_tree(case):
    shape, world, how = case
    check_throughout(tree(**shape), Play(tree(**shape), world).to_the_end(**how).log)
