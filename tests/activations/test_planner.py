"""The plan is the shortest that fits, keeps views apart where that is cheap, and says what it chose."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.activations.forecast import Costs, DepthCosts, Forecast, Reads, Workload, distinct, expected_trials
from raysearch.activations.planner import FEWEST_VIEWS, PRICE_OF_VARIETY, CachePlan, choose_plan

GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
PLENTY = 1 << 40


def depth_costs(prefix=4e-3, suffix=1e-3, numbers=1000):
    return DepthCosts(prefix=prefix, exact=2 * prefix, suffix=suffix, evaluate=suffix / 3, read=1e-6, numbers=numbers)


COSTS = Costs(
    augment=1e-3,
    depths={
        0: depth_costs(5e-3, 1e-5),
        1: depth_costs(4e-3, 2e-3),
        2: depth_costs(2e-3, 5e-3),
        3: depth_costs(0.0, 8e-3),
    },
)


def work(*, trials=32.0, rungs=(2, 6), strengths=GRID, depths=(1, 2, 3), heads=0.0, concurrent=2):
    reads = {depth: Reads(expected_trials(trials / len(depths), rungs, 3), strengths) for depth in depths}
    if heads:
        reads[0] = Reads((heads,) * 20)
    return Workload(1000, 200, concurrent, reads, seed=7)


def choose(workload=None, *, costs=COSTS, disk=PLENTY, memory=0, **settings):
    return choose_plan(costs, workload or work(), disk_bytes=disk, memory_bytes=memory, **settings)


WORKLOADS = st.builds(
    work,
    trials=st.floats(1, 200),
    rungs=st.sampled_from([(1,), (2, 6), (1, 3, 9), (4, 12, 40)]),
    strengths=st.sampled_from([GRID, (0.0,), (0.5,), None]),
    depths=st.sampled_from([(1,), (1, 2), (1, 2, 3), (2, 3)]),
    heads=st.sampled_from([0.0, 6.0, 200.0]),
    concurrent=st.integers(1, 16),
)


@given(workload=WORKLOADS, disk=st.integers(0, 10**9), memory=st.sampled_from([0, PLENTY]))
def test_a_plan_is_no_slower_than_live_but_for_its_views_and_fits_the_disk(workload, disk, memory):
    chosen = choose(workload, disk=disk, memory=memory)
    assert chosen.seconds <= chosen.live_seconds * PRICE_OF_VARIETY * (1 + 1e-9)
    assert sum(one.bytes for one in chosen.depths if one.way != "live") <= disk
    assert sum(one.fill_seconds + one.train_seconds for one in chosen.depths) == pytest.approx(chosen.seconds)
    assert {one.depth for one in chosen.depths} == set(workload.depths)
    assert 3 not in chosen.cached, "nothing is frozen there"
    assert len(chosen.lines()) == len(workload.depths)


@pytest.mark.parametrize("cached", [False, True])
def test_workers_share_out_training_and_evaluation_but_neither_heads_nor_filling(cached):
    """What is kept in memory each of them computes whole: that takes three as long as one."""
    one, three = (
        Forecast(COSTS, dataclasses.replace(work(heads=6.0), workers=workers), 0, "fp16") for workers in (1, 3)
    )
    assert three.training(1, cached=cached) == pytest.approx(one.training(1, cached=cached) / 3)
    assert three.training(0, cached=cached) == one.training(0, cached=cached)
    assert three.filling([0, 1], 2) == one.filling([0, 1], 2)
    still = work(strengths=(0.0,))
    alone, kept = (
        Forecast(COSTS, dataclasses.replace(still, workers=workers), PLENTY, "fp16").training(1, cached=False)
        for workers in (1, 3)
    )
    a_pass = 1000 * COSTS.depths[1].prefix + 200 * COSTS.depths[1].exact
    assert kept - a_pass == pytest.approx((alone - a_pass) / 3), "each worker makes the whole pass"


@given(workload=WORKLOADS)
def test_it_travels_through_json(workload):
    chosen = choose(workload)
    assert CachePlan.from_json(json.loads(json.dumps(dataclasses.asdict(chosen)))) == chosen


def test_what_saves_time_is_cached_and_what_does_not_is_not():
    chosen = choose()
    assert chosen.cached == (1, 2)
    assert [one.way for one in chosen.depths] == ["boundary", "boundary", "live"]
    assert choose(work(heads=6.0)).depths[0].way == "pooled"
    own_strength = work(trials=1.0, rungs=(6,), strengths=None, depths=(1,))
    slow_disk = Costs(1e-3, {1: dataclasses.replace(COSTS.depths[1], read=1.0)})
    assert choose(own_strength, costs=slow_disk).cached == ()


def test_no_view_comes_twice_unless_that_is_dear():
    assert choose(work(rungs=(2, 6))).views == 6
    dear = Costs(1e-3, {1: depth_costs(1.0, 1e-3)})
    chosen = choose(work(rungs=(64,), strengths=None, depths=(1,)), costs=dear)
    assert chosen.views == FEWEST_VIEWS
    assert choose(work(strengths=(0.0,))).views == 1


def test_fewer_views_where_the_disk_is_small():
    needed = {view: sum(Forecast(COSTS, work(), 0, "fp16").bytes((1, 2), view).values()) for view in (4, 6)}
    assert choose(disk=needed[6]).views == 6
    small = choose(disk=needed[6] - 1)
    assert (small.cached, small.views) in (((1, 2), 4), ((1,), 6))
    none = choose(disk=0)
    assert none.cached == ()
    assert "of disk where 0 are allowed" in none.lines()[0]


def test_off_caches_nothing_and_on_all_that_it_can():
    off, on = choose(mode="off"), choose(work(heads=2.0), mode="on", memory=PLENTY)
    assert off.cached == ()
    assert off.settings() is None
    assert off.seconds == off.live_seconds
    assert "the cache is off" in off.lines()[0]
    assert on.cached == (0, 1, 2)


def test_the_bench_gets_plain_settings():
    assert choose().settings() == {"depths": [1, 2], "views": 6, "dtype": "fp16", "seed": 7, "limit_bytes": PLENTY}


def test_one_line_a_depth_for_people():
    plan_of = CachePlan.from_json(dataclasses.asdict(choose()))
    for line, depth in zip(plan_of.lines(), (1, 2, 3), strict=True):
        assert line.startswith(f"depth {depth}: ")
    assert "boundary cached, 6 views, fp16, up to" in plan_of.lines()[0]
    assert " filling + " in plan_of.lines()[0]
    assert "live would take" in plan_of.lines()[0]
    assert plan_of.lines()[2].endswith("it cannot be cached")


def test_a_shared_pass_is_counted_once():
    forecast = Forecast(COSTS, work(trials=1e6), 0, "fp16")
    alone, both = sum(forecast.filling((1,), 6).values()), sum(forecast.filling((1, 2), 6).values())
    assert both == pytest.approx(alone, rel=0.01)


@given(trials=st.floats(0, 1000), strengths=st.integers(1, 9))
def test_distinct_strengths_are_no_more_than_trials_or_strengths(trials, strengths):
    assert 0 <= distinct(trials, strengths) <= min(trials, strengths) + 1e-9


def test_halving():
    assert sum(expected_trials(27, (1, 3, 9), 3)) == pytest.approx(27 + 2 * 9 + 6 * 3)
