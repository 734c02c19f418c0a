"""What is known of a Ray cluster, and why a trial was lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ray.exceptions import RayActorError, RayTaskError

from raysearch.workers.cluster import launched
from raysearch.workers.runner import _why

ROOT = Path(__file__).resolve().parents[2]
GPU = {"CPU": 1, "GPU": 1}


def test_the_launcher_says_what_may_still_come():
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    head: dict[str, float] = {}
    cluster = launched((head,), config)
    assert (cluster.now(GPU), cluster.most(GPU), cluster.unknown) == (0, 8, False)
    worker = {"CPU": 4.0, "GPU": 1.0}
    assert launched((head, *[worker] * 3), config).most(GPU) == 8, "three of the eight are there"
    assert launched((head, *[worker] * 9), config).most(GPU) == 9


def test_machines_that_one_has_are_not_known_before_they_join():
    config = {
        "head_node_type": "head",
        "max_workers": 2,
        "available_node_types": {"head": {"resources": {}}, "local": {"resources": {}, "max_workers": 2}},
    }
    cluster = launched(({"CPU": 1.0},), config)
    assert cluster.unknown
    assert cluster.types == ()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("It died.\nThe actor died because its node has died. Node Id: 1", ("its machine was lost", "machine")),
        ("It died.\nWorker exit type: OOM.", ("its process died: Worker exit type: OOM.", "process")),
    ],
)
def test_a_lost_machine_is_told_from_a_process_that_died(said, expected):
    assert _why(RayActorError(error_msg=said)) == expected


def test_an_error_of_a_step_is_told_by_its_name():
    assert _why(RayTaskError("step", "Traceback", MemoryError("no room"))) == ("MemoryError: no room", "process")
    assert _why(None) == ("its process died", "process")
