"""A process, a machine or the disk fails under a search: it goes on from its checkpoints, and says what happened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

from tests.e2e.commands import Desk, DeskHere, assert_same, events, has_trained
from tests.e2e.conftest import Search
from tests.in_process import once

pytestmark = pytest.mark.slow


def workers(parent: psutil.Process) -> list[psutil.Process]:
    """The trial actors below a process."""
    found = []
    for process in parent.children(recursive=True):
        with suppress(psutil.Error):
            if any("TrialActor" in word for word in process.cmdline()):
                found.append(process)
    return found


def trained_twice(log: list[dict[str, Any]]) -> dict[tuple[str, int], int]:
    """How often epochs were trained again, where they were; one that is told again from a checkpoint took as long."""
    seconds: dict[tuple[str, int], set[float]] = {}
    for event in log:
        if event["event"] == "epoch":
            seconds.setdefault((event["trial"], event["epoch"]), set()).add(event["seconds"])
    return {epoch: len(found) - 1 for epoch, found in seconds.items() if len(found) > 1}


def ended_twice(log: list[dict[str, Any]]) -> list[str]:
    ends = Counter(event["segment"] for event in log if event["event"] == "segment_end")
    return [segment for segment, number in ends.items() if number > 1]


SCRIPT = """
import sys

import numpy as np
import torch

from raysearch.run import Run

if __name__ == "__main__":
    space, data = sys.argv[1:]
    run = Run.start(
        space=space, data=data, backbone="simple_cnn", weights="random", trials=5, max_epochs=9, concurrent=1, refits=0,
        run_name="python", cache="off",
    )
    again = Run.open("python")
    assert again.trials.equals(run.trials)
    assert len(run.trials) == 5 and len(run.heads) == 3 and len(run.history) > 15
    assert run.evaluation["test"]["accuracy"]["mean"] >= 0
    model = again.best.model()
    assert isinstance(model, torch.nn.Module) and not model.training
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    from_array = run.predict(np.zeros((40, 30, 3), dtype=np.uint8))
    assert from_array["label"][0] in again.best.labels
    table = again.predict([f"{data}/red/00.png", f"{data}/blue"])
    assert len(table) == 21 and table["error"].isna().all()
    print("fine")
"""


def test_python_does_what_the_command_does_and_a_killed_worker_costs_no_more_than_its_epoch(
    desk: Desk, photos: Path, space: Path, undisturbed: Search
) -> None:
    """The same search, started a second time by other means, and disturbed: all tables are the same, times aside."""
    (desk.work / "script.py").write_text(SCRIPT)
    command, run = desk.start("script.py", space, photos), desk.work / "results" / "python"
    for trial, epoch in (("t0000", 3), ("t0001", 1)):
        command.until(has_trained(run, trial, epoch))
        (worker,) = workers(psutil.Process(command.process.pid))
        worker.send_signal(signal.SIGKILL)
    ended = command.wait()
    assert ended.code == 0, ended
    assert ended.out.endswith("fine\n")
    assert "2 workers were lost; what ran there went on from their last checkpoints" in ended.out
    assert command.left_behind() == []
    assert_same(run, undisturbed.run)
    log = events(run)
    assert [event["cause"] for event in log if event["event"] == "segment_lost"] == ["process", "process"]
    assert ended_twice(log) == []
    assert sum(trained_twice(log).values()) <= 2


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster of fake nodes on this machine, whose head runs no trials."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.mark.cluster
def test_a_trial_that_loses_its_machine_waits_for_the_next_and_goes_on(
    desk: Desk, flags: list[str], cluster: Cluster
) -> None:
    node = cluster.add_node(num_cpus=1)
    # Losing a machine is no failure of the trial: it may not fail even once.
    command = desk.start("-m", "raysearch.tune", *flags, "--address", cluster.address, "--max-failures", "0")
    run = desk.work / "results" / "tiny"
    command.until(has_trained(run, "t0001", 1))
    cluster.remove_node(node, allow_graceful=False)
    command.until(lambda: any(event["event"] == "waiting" for event in events(run)))
    cluster.add_node(num_cpus=1)
    ended = command.wait()
    assert ended.code == 0, ended
    assert "1 worker was lost (1 with the machine); what ran there went on from its last checkpoint" in ended.out
    log = events(run)
    (waiting,) = (event for event in log if event["event"] == "waiting")
    (placed,) = (event for event in log if event["event"] == "placed")
    (lost,) = (event for event in log if event["event"] == "segment_lost")
    assert lost["trial"] == waiting["trial"] == placed["trial"]
    assert (waiting["needs"], lost["cause"]) == ("1 CPU", "machine")
    assert not any(event["event"] == "failed" for event in log)
    assert ended_twice(log) == []
    assert sum(trained_twice(log).values()) <= 1


@pytest.fixture
def small_disk(desk: Desk) -> Iterator[Path]:
    """A disk of 16 MB, on which the results lie."""
    results = desk.work / "results"
    results.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(results)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk takes the right to mount one")
    yield results
    subprocess.run(["umount", "-l", str(results)], check=True)


def fill(disk: Path) -> Path:
    """To the last byte."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(os.statvfs(disk).f_frsize))
    return path


def test_a_full_disk_is_waited_for(here: DeskHere, flags: list[str], small_disk: Path, undisturbed: Search) -> None:
    run = small_disk / "tiny"

    def fill_for_a_while() -> None:
        filler = fill(small_disk)
        threading.Timer(2.5, filler.unlink).start()  # somebody makes room

    ended = here.tune(*flags, before_step=once(has_trained(run, "t0000", 3), fill_for_a_while))
    assert ended.code == 0, ended
    assert "the storage refuses" in ended.out.lower()
    assert "No space left on device" in ended.out
    assert_same(run, undisturbed.run)
    log = events(run)
    assert ended_twice(log) == []
    assert trained_twice(log) == {}
