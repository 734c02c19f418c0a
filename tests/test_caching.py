"""What the planner is told of a search: read off its space and its rungs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from raysearch.activations.planner import CachePlan
from raysearch.caching import expected_reads, plan_cache
from raysearch.data.pixels import load
from raysearch.job import Job, Settings
from raysearch.machine import Machine
from raysearch.space import load_space

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
