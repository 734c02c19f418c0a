"""Trials of two workers each, as a person runs them: the curves of one worker, and an end whatever happens."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.e2e.commands import Desk, DeskHere, events, has_trained, table

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

# Nothing that several workers would draw or measure otherwise than one: no dropout, BatchNorm as it was trained.
SPACE = """
from ray import tune

from raysearch.space import Search

space = {
    "schedule": [
        {"depth": 0, "epochs": 2, "learning_rate": 3e-3, "batch_size": 16},
        {
            "depth": tune.choice([1, 2]),
            "learning_rate": tune.loguniform(1e-4, 1e-3),
            "strength": 0.5,
            "class_weights": {"red": 3.0},
            "batch_size": 15,
        },
    ],
}
default = {"schedule": [{}, {"depth": 2, "learning_rate": 1e-3}]}
search = Search(sampler="random", heads=1, reduction=3, first_rung_epochs=1)
"""
SECONDS = 240.0


@pytest.fixture
def search_flags(photos: Path, tmp_path: Path) -> list[str]:
    """Trials one after the other, of which nearly all are stopped after an epoch."""
    path = tmp_path / "plain.py"
    path.write_text(SPACE)
    return [
        *("--space", str(path), "--data", str(photos), "--backbone", "simple_cnn", "--weights", "random"),
        *("--max-epochs", "3", "--concurrent", "1", "--run-name", "plain", "--cache", "off"),
    ]


def workers_of(driver: int) -> list[psutil.Process]:
    """Those of its crews, by the titles that Ray gives its processes."""
    below = psutil.Process(driver).children(recursive=True)
    return [process for process in below if process.is_running() and "RayTrainWorker" in " ".join(process.cmdline())]


def test_trials_end_though_a_worker_is_killed_and_ctrl_c_is_typed_and_have_the_curves_of_one_worker(
    desk: Desk, search_flags: list[str], tmp_path: Path
) -> None:
    """Ctrl-C ends the crew, as does the search's end: the refit of the resumed search has what it gave back.

    The worker is killed in the resumed search, because Tune tells of it on stderr.
    """
    run, flags = desk.work / "results" / "plain", [*search_flags, "--trials", "6"]
    command = desk.start("-m", "raysearch.tune", *flags, "--refits", "1", "--workers-per-trial", "2")
    command.until(has_trained(run, "t0001", 1), SECONDS)
    command.interrupt()
    ended = command.wait(60)
    assert (ended.code, ended.err) == (130, ""), ended
    assert command.left_behind() == []

    before = len(events(run))  # which may hold more than was waited for: Ctrl-C comes when it comes
    command = desk.start("-m", "raysearch.tune", "--resume", run, "--quiet")
    command.until(lambda: any(one["event"] == "epoch" for one in events(run)[before:]), SECONDS)
    crew = workers_of(command.process.pid)
    assert len(crew) == 2
    os.kill(crew[1].pid, signal.SIGKILL)
    ended = command.wait(SECONDS)
    assert ended.code == 0, ended
    assert command.left_behind() == []
    told = [event["event"] for event in events(run)]
    assert (told.count("segment_lost"), told.count("refit")) == (1, 1)
    trials = table(run, "trials")
    assert len(trials) == 6
    assert set(trials["state"]) == {"done", "stopped"}
    assert (trials["state"] == "stopped").sum() >= 3

    alone = DeskHere(tmp_path / "alone")
    ended = alone.tune(*flags, "--refits", "0", "--quiet")
    assert ended.code == 0, ended
    both = table(run, "history").merge(
        table(alone.work / "results" / "plain", "history"), on=["trial", "epoch"], suffixes=("", "_alone")
    )
    both = both[both["trial"].str.startswith("t")]
    assert len(both) >= 6
    for figure in ("train_loss", "val_loss", "lr"):
        # The suffix may train in bf16: the loop's own tests hold fp32 to 1e-3.
        assert both[figure].to_numpy() == pytest.approx(both[f"{figure}_alone"].to_numpy(), rel=1e-2), figure
