"""Ray Tune runs the segments: a thin Searcher and a thin TrialScheduler hand the driver's decisions over.

A Tune trial is a worker: it runs one segment of our trials after the other, as long as there is one for it. Tune itself
decides nothing, checkpoints nothing and restores nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypedDict

from ray import cloudpickle, tune
from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Callback, TuneError
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from raysearch.errors import StorageError
from raysearch.record.events import Cause
from raysearch.search.driver import Driver
from raysearch.search.messages import Task
from raysearch.workers.cluster import MACHINE_LOST, Room, lost_with_machine
from raysearch.workers.config import TuneDict


class _Stateless:
    """Tune pickles what it is given, for a restore that is never asked for: the state is in the log."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class _Work(TypedDict):
    """What a worker's config gets with every task."""

    task: Task
    place: int


def _work_for(driver: Driver, worker: str) -> _Work | None:
    """The next work of a free worker, if there is something for it."""
    task = driver.start(worker)
    return _Work(task=task, place=driver.place(worker)) if task is not None else None


class _SegmentSearcher(_Stateless, Searcher):
    def __init__(self, driver: Driver, room: Room | None) -> None:
        super().__init__()
        self._driver, self._room = driver, room

    def suggest(self, trial_id: str) -> Any:
        if self._driver.done:
            return Searcher.FINISHED
        if self._room is not None:
            self._driver.concurrency = self._room.wanted()
        return _work_for(self._driver, trial_id)

    def on_trial_complete(self, trial_id: str, result: TuneDict | None = None, error: bool = False) -> None:
        """Nothing to note: results say when a segment has ended, and the scheduler hears of errors."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the log is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a resume replays the log."""


class _SegmentScheduler(_Stateless, FIFOScheduler):
    """Gives a worker that is free its next segments directly.

    By way of a Tune trial each they would cost the driver ten times the time, and 30 KiB that Tune never gives back.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: TuneDict) -> str:
        if self._driver.results(trial.trial_id, result["results"]):
            return TrialScheduler.CONTINUE
        # Who waits for resources came first: Tune then lets it have this worker's actor.
        others_wait = tune_controller._actor_manager.num_pending_actors > 0
        work = None if others_wait else _work_for(self._driver, trial.trial_id)
        if work is None:
            return TrialScheduler.STOP
        self._driver.placed(trial.trial_id)
        actor: Any = trial.temporary_state.ray_actor
        # An actor's calls run in the order in which they were made, and the next is Tune's for another step.
        actor.reset_config.remote(trial.config | work)
        return TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: TuneTrial) -> None:
        self._driver.lost(trial.trial_id, *_why(_error_of(trial)))


class _Placement(_Stateless, Callback):
    """Tells the driver which of its workers have begun, and which wait for a machine."""

    def __init__(self, driver: Driver, room: Room | None) -> None:
        self._driver, self._room = driver, room
        self._crews = room is not None and room.workers > 1

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        if not self._crews:  # else it is a relay that has begun
            self._driver.placed(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        if self._room is not None:
            self._driver.waits(self._room.now(), self._room.needs, crews=self._crews)


def _error_of(trial: TuneTrial) -> Exception | None:
    """What Tune saw; its own reader looks where the file comes to lie only later."""
    path = trial.pickled_error_file
    return None if path is None else cloudpickle.loads(Path(path).read_bytes())


def _why(error: Exception | None) -> tuple[str, Cause]:
    """What a trial was lost to, for people, and whether to its process or its machine."""
    if isinstance(error, RayTaskError):
        cause: Cause = "machine" if MACHINE_LOST in str(error.cause) else "process"  # a crew's
        return f"{type(error.cause).__name__}: {error.cause}", cause
    if isinstance(error, RayActorError):
        if lost_with_machine(error):
            return MACHINE_LOST, "machine"
        return f"its process died: {str(error).strip().splitlines()[-1].strip()}", "process"
    return "its process died", "process"


class _Stop(_Stateless, tune.Stopper):
    """Ends the experiment when the driver is stopping: by Ctrl-C, or because the time is up."""

    def __init__(self, driver: Driver, time_left: Callable[[], float]) -> None:
        self._driver, self._time_left = driver, time_left

    def __call__(self, trial_id: str, result: TuneDict) -> bool:
        return False

    def stop_all(self) -> bool:
        if self._time_left() <= 0:
            self._driver.stop("the time budget is used up")
        return self._driver.stopping is not None


@contextmanager
def ctrl_c(stop: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C calls `stop`; the second is an ordinary KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        stop("Ctrl-C")

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_segments(
    driver: Driver,
    trainable: type[tune.Trainable],
    config: Mapping[str, Any],
    resources: dict[str, float],
    time_left: Callable[[], float] = lambda: float("inf"),
    room: Room | None = None,
) -> None:
    """Run the search until the driver is done or stops.

    Args:
        driver: decides and records.
        trainable: `TrialActor`, or another class whose step returns {"results": what it came to}, and whose
            `reset_config` takes another "task" and "place" after a step that ended its own.
        config: what the trainable's setup gets beside "task" and "place" (see `Driver`).
        resources: of one trial: {"cpu": …, "gpu": …}.
        time_left: seconds until no more is started.
        room: how many a cluster holds; None: as many as the driver was made for.

    Raises:
        StorageError: the disk has been refusing for too long.
    """
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    # There are as many as the driver says. Else Tune starts one worker after the other, each of which first imports
    # torch and opens the data, and an autoscaler brings one machine after the other.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "100000"
    with tempfile.TemporaryDirectory(prefix="raysearch-tune-") as scratch, ctrl_c(driver.stop):
        try:
            while not driver.done:
                tune.run(
                    trainable,
                    name="segments",
                    config=dict(config),
                    resources_per_trial=resources,
                    num_samples=-1,
                    search_alg=_SegmentSearcher(driver, room),
                    scheduler=_SegmentScheduler(driver),
                    stop=_Stop(driver, time_left),
                    callbacks=[_Placement(driver, room)],
                    reuse_actors=True,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    storage_path=scratch,
                    trial_name_creator=lambda trial: trial.trial_id,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                    raise_on_failed_trial=False,
                    verbose=0,
                )
                if driver.stopping is not None:
                    break
        except TuneError as error:  # it wraps what our scheduler raises
            if isinstance(error.__context__, StorageError):
                raise error.__context__ from None
            raise
        finally:
            driver.close()
