"""What the planner is told of a search: read off its space and its rungs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from raysearch.activations.forecast import Costs, DepthCosts
from raysearch.activations.planner import CachePlan, DepthPlan
from raysearch.data.pixels import load
from raysearch.job.frozen_work import expected_reads, outcome, plan_cache, record
from raysearch.job.job import Job
from raysearch.job.settings import Settings
from raysearch.space.load import load_space
from raysearch.workers.machine import Machine
from tests.training.bench import bench

SPACE = """
from ray import tune

from raysearch.space import Search

space = {
    "schedule": [
        {"depth": 0, "epochs": 5, "strength": HEAD},
        {"depth": DEPTH, "learning_rate": tune.loguniform(1e-4, 1e-2), "strength": STRENGTH},
    ]
}
default = {"schedule": [HEAD_DEFAULT, {"learning_rate": 1e-3, **DEFAULT}]}
search = Search(heads=2, reduction=3)
"""


def job_of(folder: Path, depth: str, strength: str, default: str, head: str = "0.0", head_default: str = "{}") -> Job:
    """A job as the planner reads it; data, weights and machine play no part."""
    text = SPACE.replace("HEAD_DEFAULT", head_default).replace("HEAD", head).replace("DEFAULT", default)
    path = folder / "tiny.py"
    path.write_text(text.replace("DEPTH", depth).replace("STRENGTH", strength))
    fixed = {"backbone": "simple_cnn", "weights": "random", "image_size": 32, "fit": "squash", "seed": 0}
    settings = Settings.model_construct(trials=6, rungs=(2, 6), reduction=3, heads=2, head=None, max_epochs=6, seed=0)
    return Job(settings, load_space(str(path), fixed=fixed), None, None, None)  # type: ignore[arg-type]


def test_every_depth_is_expected_to_train_its_share_of_the_trials(tmp_path):
    job = job_of(tmp_path, "tune.choice([1, 2, 3])", "tune.quniform(0.0, 1.0, 0.5)", '{"depth": 2, "strength": 0.5}')
    reads = expected_reads(job)
    assert sorted(reads) == [0, 1, 2, 3]
    assert reads[1].trials == (2.0, 2.0, *[pytest.approx(2 / 3)] * 4)
    assert reads[1].strengths == (0.0, 0.5, 1.0)
    assert reads[0].trials == (1.0,) * 5, "the heads of a pack read together"
    assert reads[0].strengths == (0.0,)


def test_depths_may_be_whole_numbers_and_strengths_anything_between(tmp_path):
    job = job_of(
        tmp_path,
        "tune.randint(1, 4)",
        "tune.uniform(0.1, 1.0)",
        '{"depth": 2, "strength": 0.5}',
        head="tune.uniform(0.1, 1.0)",
        head_default='{"strength": 0.5}',
    )
    reads = expected_reads(job)
    assert sorted(reads) == [0, 1, 2, 3]
    assert {one.strengths for one in reads.values()} == {None}


def test_a_search_plans_its_frozen_work_and_the_plan_survives_json(tmp_path):
    job = job_of(tmp_path, "tune.choice([1, 4])", "0.5", '{"depth": 4}')
    settings = job.settings.model_copy(
        update={"device": "cpu", "precision": "fp32", "cache": "on", "cache_bytes": 1 << 30}
    )
    job = Job(settings, job.space, load("cifar10-mini", progress=False), None, Machine(1, 1, 0.0, None))  # type: ignore[arg-type]
    chosen, _ = plan_cache(job)
    assert chosen.cached == (0, 1), "nothing is frozen at depth 4, so there is nothing to keep"
    assert len(chosen.lines()) == 3
    assert CachePlan.from_json(json.loads(json.dumps(dataclasses.asdict(chosen)))) == chosen


def test_trials_of_depth_0_without_a_head_search_are_planned(tmp_path):
    job = job_of(tmp_path, "1", "0.5", "{}")
    path = tmp_path / "no_heads.py"
    path.write_text(
        "from ray import tune\nfrom raysearch.space.space import Search\n"
        'space = {"schedule": [{"depth": tune.choice([0, 1, 2])}]}\ndefault = {"schedule": [{"depth": 1}]}\n'
        "search = Search(heads=0)\n"
    )
    settings = job.settings.model_copy(
        update={"device": "cpu", "precision": "fp32", "cache": "auto", "cache_bytes": 1 << 30, "heads": 0}
    )
    space = load_space(str(path), fixed=job.space.fixed)
    chosen, costs = plan_cache(Job(settings, space, bench().dataset, None, Machine(1, 1, 0.0, None)))  # type: ignore[arg-type]
    assert sorted(costs.depths) == [0, 1, 2]
    assert [one.depth for one in chosen.depths] == [0, 1, 2]


# ---- what became of it -------------------------------------------------------------------------------------------

HEAD_IMAGE, TRIAL_IMAGE, FROZEN_IMAGE = 0.001, 0.01, 0.05
"""Seconds of an image in a step of a pack, of a trial, and (where it is cached) in the frozen blocks; nothing else
costs anything."""


def log(packs: dict[str, int], epochs: dict[str, list[int]]) -> list[dict]:
    """Events of a search: every epoch of a head takes 1 s, one of a trial 10 s, and its first fills for half of it."""
    events: list[dict] = [{"event": "budget", "heads": 4, "trials": 2}]
    for name, trained in epochs.items():
        depth, seconds = (0, 1.0) if name.startswith("h") else (1, 10.0)
        pack = {"pack": packs[name]} if name in packs else {}
        events.append({"event": "trial", "trial": name, "depth": depth, **pack})
        events.append({"event": "segment", "trial": name, "segment": f"{name}.1"})
        for epoch in trained:
            filled = {"fill_seconds": seconds / 2} if epoch == 1 else {}
            events.append({"event": "epoch", "trial": name, "epoch": epoch, "seconds": seconds, **filled})
        events.append({"event": "segment_end", "trial": name, "segment": f"{name}.1", "seconds": 99.0})
    return [*events, {"event": "test_read"}, {"event": "finished"}]


@pytest.fixture
def searched(tmp_path):
    """A search of two at a time, and what its run.json says of it, with pooled features cached or nothing."""

    def searched(cached: bool = False) -> tuple[Job, dict]:
        job = job_of(tmp_path, "1", "0.0", "{}")
        job = dataclasses.replace(job, dataset=bench().dataset, machine=Machine(2, 1, 0.0, None))
        free = {"evaluate": 0.0, "read": 0.0, "numbers": 4}
        prefix = FROZEN_IMAGE if cached else 0.0
        pooled = DepthCosts(suffix=HEAD_IMAGE, prefix=prefix, exact=prefix, **free)
        deeper = DepthCosts(suffix=TRIAL_IMAGE, prefix=0.0, exact=0.0, **free)
        ways = {0: "pooled" if cached else "live", 1: "live"}
        depths = tuple(DepthPlan(depth, way, 0.0, 1.0, 2.0, 0) for depth, way in ways.items())
        chosen = CachePlan("auto", 1, "fp16", 0, 1 << 30, 2.0, 2.0, depths)
        return job, json.loads(json.dumps(record(chosen, Costs(0.0, {0: pooled, 1: deeper}))))

    return searched


def test_the_outcome_adds_up_what_was_trained_at_each_depth(searched):
    job, recorded = searched()
    packs = {"h0000": 0, "h0001": 0, "h0002": 1}
    epochs = {"h0000": [1, 2, 3], "h0001": [1], "h0002": [1, 2], "t0000": [1, 2, 3, 4], "t0001": [1, 2]}
    heads, trials = (outcome(job, recorded, log(packs, epochs))[depth] for depth in ("0", "1"))
    assert (heads["way"], trials["way"]) == ("live", "live")
    assert heads["epochs"] == 2 + 2 + 1, "the heads of a pack count as one"
    assert trials["epochs"] == 2 + 2 + 1 + 1
    assert heads["train_seconds"] == pytest.approx((6 * 1.0 - 3 * 0.5) / 2), "by the clock, two at a time"
    assert trials["train_seconds"] == pytest.approx((6 * 10.0 - 2 * 5.0) / 2)
    assert heads["fill_seconds"] == pytest.approx(3 * 0.5 / 2)
    assert trials["fill_seconds"] == pytest.approx(2 * 5.0 / 2)
    images = len(job.dataset.train.labels)
    assert heads["predicted_train_seconds"] == pytest.approx(5 * images * HEAD_IMAGE / 2)
    assert trials["predicted_train_seconds"] == pytest.approx(6 * images * TRIAL_IMAGE / 2)
    assert heads["predicted_fill_seconds"] == trials["predicted_fill_seconds"] == 0.0


def test_what_is_cached_is_predicted_to_be_filled_once(searched):
    job, recorded = searched(cached=True)
    packs, epochs = {"h0000": 0, "h0001": 1}, {"h0000": [1, 2, 3], "h0001": [1, 2, 3]}
    heads = outcome(job, recorded, log(packs, epochs))["0"]
    images = len(job.dataset.train.labels) + len(job.dataset.val.labels)
    assert heads["way"] == "pooled"
    assert heads["predicted_fill_seconds"] == pytest.approx(images * FROZEN_IMAGE / 2, rel=1e-3)


def test_what_was_not_trained_has_no_outcome(searched):
    job, recorded = searched()
    assert outcome(job, recorded, []) == {}
    assert list(outcome(job, recorded, log({}, {"t0000": [1]}))) == ["1"], "a run that starts from another's head"


def test_an_epoch_that_was_trained_twice_is_one_of_the_predictions(searched):
    """After a crash: it took its seconds twice, but the prediction is of the search, not of the crash."""
    job, recorded = searched()
    once, twice = (outcome(job, recorded, log({"h0000": 0}, {"h0000": [1, *more]}))["0"] for more in ([2], [1, 2]))
    assert once["epochs"] == twice["epochs"]
    assert once["predicted_train_seconds"] == twice["predicted_train_seconds"]
    assert twice["train_seconds"] > once["train_seconds"]
