"""The trials, under Ray Tune: in Tune's own actors or in crews beside them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from rich.console import Console

from raysearch.job.job import Job
from raysearch.search.driver import Driver
from raysearch.workers.actor import TrialActor
from raysearch.workers.cluster import Call, Room, call_here, on_worker
from raysearch.workers.config import BenchConfig, WorkplaceConfig
from raysearch.workers.crew import Crews
from raysearch.workers.machine import Machine
from raysearch.workers.relay import RESOURCES, Relay
from raysearch.workers.runner import run_segments
from raysearch.workers.session import ray_session


def ray_of(machine: Machine) -> AbstractContextManager[None]:
    return ray_session(machine.address, machine.cpus * machine.workers * machine.concurrent)


def call_of(machine: Machine, console: Console) -> Call:
    """Calls what needs a trial's device: as a Ray task with a trial's resources, unless this process may use it."""
    if not machine.elsewhere:
        return call_here

    def tell(message: str) -> None:
        console.print(message, highlight=False, soft_wrap=True)

    return partial(on_worker, trial=machine.trial, tell=tell)


def run_trials(job: Job, driver: Driver, bench: BenchConfig, time_left: Callable[[], float]) -> None:
    """The trials, in Tune's own actors or in crews beside them."""
    machine, search = job.machine, job.space.search
    config: WorkplaceConfig = {
        "bench": bench,
        "checkpoints": str(driver.checkpoints.resolve()),
        "threads": machine.cpus,
        "storage": driver.run.storage.uri if driver.run.storage is not None else None,
        "heads": {
            # A few batches may hold fewer images of a class than there are folds.
            "folds": search.folds if job.settings.max_batches is None else 0,
            "reduction": job.settings.reduction,
            "first_rung_epochs": search.first_rung_epochs,
            "answers": bool(job.settings.networks),
        },
    }
    room = Room(machine.trial, machine.at_most, machine.workers) if machine.address is not None else None
    if machine.workers == 1:
        run_segments(driver, TrialActor, config, {"cpu": machine.cpus, "gpu": machine.gpus}, time_left, room)
        return
    with Crews(machine.workers, {"CPU": machine.cpus, "GPU": machine.gpus}, config) as crews:
        run_segments(driver, Relay, {"desk": crews.desk}, RESOURCES, time_left, room)


def bench_config(job: Job) -> BenchConfig:
    """What a process needs to open its own bench."""
    settings = job.settings
    return {
        "dataset": job.dataset.place,
        "backbone": settings.backbone,
        "weights": settings.weights,
        "seed": settings.seed,
        "device": settings.device,
        "precision": settings.precision,
        "metric": settings.metric,
        "require": list(settings.require),
        "max_batches": settings.max_batches,
        "halves": job.space.tested,
        "several": bool(settings.networks),
    }
