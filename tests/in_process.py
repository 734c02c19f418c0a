"""Searches whose trials train in this process: real but for Ray, which takes seconds to start and tests nothing here.

`drive` is the loop that Ray Tune is otherwise: a driver, and one worker at a real workplace. `without_ray` puts it into
the pipeline, so that a whole command runs in a second or two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import repeat
from typing import Any

import cv2
import pytest
import torch

from raysearch.pipeline import segments
from raysearch.search.driver import Driver
from raysearch.search.messages import Result
from raysearch.training.bench import Bench
from raysearch.workers import training_job
from raysearch.workers.actor import TrialActor
from raysearch.workers.capacity import Cluster
from raysearch.workers.runner import ctrl_c
from raysearch.workers.workplace import Workplace

WORKER = "in-process"
_HEADS = {"folds": 0, "reduction": 3, "first_rung_epochs": None}


class KilledError(Exception):
    """Raised in a search that is broken off between two steps."""


def workplace(driver: Driver, bench: Bench, **heads: Any) -> Workplace:
    """One around a bench that is open already.

    Args:
        driver: of the search; its checkpoints lie where it says.
        bench: on which everything trains.
        heads: keywords of `PackWork` that are not as of a search without folds, of reduction 3.
    """
    return Workplace(bench, driver.checkpoints, _HEADS | heads)


def drive(
    driver: Driver,
    worker: Workplace,
    *,
    time_left: Callable[[], float] = lambda: float("inf"),
    before_step: Callable[[], None] = lambda: None,
) -> None:
    """Runs a search until its driver is done or stops; to close the driver is left to the caller.

    Args:
        driver: decides and records.
        worker: trains.
        time_left: seconds until no more is started.
        before_step: called before each step, when the driver has taken what came of the one before.
    """
    while (task := driver.start(WORKER)) is not None:
        worker.take(task)
        driver.placed(WORKER)
        going = True
        while going:
            before_step()
            if time_left() <= 0:
                driver.stop("the time budget is used up")
            going = driver.stopping is None and driver.results(WORKER, _step(worker))


def killed_after(steps: int | None) -> Callable[[], None]:
    """What breaks off `drive` after so many steps, or never; for its `before_step`."""
    left = repeat(None) if steps is None else repeat(None, steps)

    def before_step() -> None:
        if next(left, KilledError) is KilledError:
            raise KilledError

    return before_step


def once(condition: Callable[[], bool], act: Callable[[], object]) -> Callable[[], None]:
    """What acts before the first step at which something is so; for the `before_step` of `drive`."""
    acted = False

    def before_step() -> None:
        nonlocal acted
        if not acted and condition():
            acted = True
            act()

    return before_step


def _step(worker: Workplace) -> list[Result]:
    """As `TrialActor` takes one."""
    try:
        return worker.step()
    except (ValueError, RuntimeError) as error:
        return worker.failed(error)


@contextmanager
def without_ray(before_step: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Within this, a search of this machine trains its trials and its refits in this process, one after the other.

    Args:
        before_step: as of `drive`.
    """

    def run_segments(
        driver: Driver,
        trainable: type[TrialActor],
        config: dict[str, Any],
        resources: dict[str, float],
        time_left: Callable[[], float],
        room: None,
    ) -> None:
        assert trainable is TrialActor, "trials of several workers need Ray"
        with _own_threads():
            worker = Workplace.open(config)
            try:
                with ctrl_c(driver.stop):
                    drive(driver, worker, time_left=time_left, before_step=before_step)
            finally:
                worker.close()
                driver.close()

    def job(work: Any, keywords: dict[str, Any], workers: int, resources: dict[str, float], storage: None) -> None:
        with _own_threads():
            torch.set_num_threads(1)
            bench = Bench.open(**keywords)
            while missing := work.missing():
                training_job.train_one(bench, missing[0], work.checkpoints / missing[0].name, keywords["seed"])
                work.look()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "ray_session", lambda address, cpus: nullcontext())
        patch.setattr(segments, "run_segments", run_segments)
        patch.setattr(training_job, "look_at_cluster", lambda: Cluster(({"CPU": 1.0},)))
        patch.setattr(training_job, "_job", job)
        yield


@contextmanager
def _own_threads() -> Iterator[None]:
    """What is worked with here has as many threads as a worker, and what comes after as many as before."""
    of_torch, of_cv2 = torch.get_num_threads(), cv2.getNumThreads()
    try:
        yield
    finally:
        torch.set_num_threads(of_torch)
        cv2.setNumThreads(of_cv2)
