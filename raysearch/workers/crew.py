"""Crews: groups of Ray Train workers that train one trial after another together, with one process group.

Each is a `TorchTrainer` job that lasts as long as the search. Its workers take orders from the desk, run them with what
runs a trial of one worker too, and end when the desk is closed. So `fit()` returns and gives everything back, whatever
becomes of the trials, and a trial costs no start of a job.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from contextlib import suppress
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, TypedDict, cast

import ray
import ray.train
from ray.exceptions import RayActorError, RayError
from ray.train.torch import TorchTrainer

from raysearch.training.ranks import Ranks
from raysearch.workers.cluster import MACHINE_LOST, beside_driver, lost_with_machine
from raysearch.workers.config import TuneDict, WorkplaceConfig
from raysearch.workers.desk import Desk
from raysearch.workers.network import OwnNetwork
from raysearch.workers.workplace import Workplace

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 2.0  # for a worker to come to the end of its step when the search is over
_END_SECONDS = 60.0  # for all crews to end, one that only just starts too
_CALLS = 10_000  # at once, waiting at the desk: each worker two, each trial one


class CrewConfig(TypedDict):
    """What a worker of a crew is told."""

    workplace: WorkplaceConfig
    desk: Any
    """The handle of the desk's actor."""
    place: int
    number: int
    """The crew's."""


class Crews:
    """Starts a crew when there is the first order for it, and another one when it dies; ends them all.

    As a context manager: the desk is open within.

    Args:
        workers: of each crew.
        resources: of one worker, {"CPU": …, "GPU": …}.
        config: what each worker is told.
    """

    def __init__(self, workers: int, resources: dict[str, float], config: WorkplaceConfig) -> None:
        self._workers, self._resources, self._config = workers, resources, config
        self.desk = f"raysearch-desk-{uuid.uuid4().hex}"
        """The name of the desk's actor."""
        self._jobs: list[threading.Thread] = []

    def __enter__(self) -> Crews:
        logging.getLogger("ray.train").setLevel(logging.CRITICAL)  # of a crew that ends in the middle of a step
        self._scratch = TemporaryDirectory(prefix="raysearch-crews-", ignore_cleanup_errors=True)
        options = {"name": self.desk, "num_cpus": 0, "max_concurrency": _CALLS, "scheduling_strategy": beside_driver()}
        desk: Any = ray.remote(Desk).options(**options).remote(self._workers)
        ray.get(desk.__ray_ready__.remote())
        self._desk = desk
        self._hiring = threading.Thread(target=self._hire, name="crews", daemon=True)
        self._hiring.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ray.get(self._desk.close.remote())
        end = time.monotonic() + _END_SECONDS
        self._hiring.join(_END_SECONDS)  # it starts no more crews then
        for job in self._jobs:
            job.join(max(0.0, end - time.monotonic()))
        if any(job.is_alive() for job in self._jobs):
            logger.warning("some crews still wait for a node: they end as soon as they have started")
        self._scratch.cleanup()

    def _hire(self) -> None:
        while (hired := ray.get(self._desk.hire.remote())) is not None:
            job = threading.Thread(target=self._employ, args=hired, name=f"crew-{hired[0]}", daemon=True)
            self._jobs = [*(job for job in self._jobs if job.is_alive()), job]
            job.start()

    def _employ(self, place: int, number: int) -> None:
        """A crew, from its start to its end."""
        config: CrewConfig = {"workplace": self._config, "desk": self._desk, "place": place, "number": number}
        reason = "its crew ended"
        try:
            TorchTrainer(
                _serve,  # type: ignore[arg-type]  # Ray does not know of typed dictionaries
                train_loop_config=cast(TuneDict, config),
                torch_config=OwnNetwork(),
                scaling_config=ray.train.ScalingConfig(
                    num_workers=self._workers,
                    use_gpu=self._resources.get("GPU", 0) > 0,
                    resources_per_worker=self._resources,
                ),
                run_config=ray.train.RunConfig(
                    name=f"crew-{number}",
                    storage_path=self._scratch.name,
                    # Whoever dies takes the segment along: we start another crew, and the log says so.
                    failure_config=ray.train.FailureConfig(
                        max_failures=0,
                        max_preemption_failures=0,  # type: ignore[call-arg]  # Ray types the older FailureConfig
                    ),
                ),
            ).fit()
        except Exception as error:  # noqa: BLE001 - of the system or of a worker: the trial hears of it
            reason = _why(error)
        with suppress(RayError):  # the search is over, and the desk gone
            ray.get(self._desk.gone.remote(place, number, reason))


def _why(error: Exception) -> str:
    """Say in a line which worker failed first, and how; the others only lost it."""
    rank, failure = next(iter(getattr(error, "worker_failures", {}).items()), (None, error))
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()] or [type(failure).__name__]
    said = lines[0] if isinstance(failure, RayActorError) else lines[-1]  # of a traceback, the last
    if isinstance(failure, RayActorError) and lost_with_machine(failure):
        said = MACHINE_LOST
    return said if rank is None else f"worker {rank} died: {said}"


def _serve(config: CrewConfig) -> None:
    """What a worker does: whatever is ordered, until there is no more."""
    desk, me = config["desk"], (config["place"], config["number"], ray.train.get_context().get_world_rank())
    ended = threading.Event()
    threading.Thread(target=_leave, args=(desk, ended), name="leave", daemon=True).start()
    workplace, work = Workplace.open(config["workplace"], Ranks.joined()), None
    while (order := ray.get(desk.order.remote(*me))) is not None:
        if order["work"] != work:
            work = order["work"]
            workplace.take(order["task"])
        try:
            results, failure = workplace.step(), None
        except (ValueError, RuntimeError) as error:
            results, failure = workplace.failed(error), error
        goes_on = ray.get(desk.told.remote(*me, order["number"], results, failed=failure is not None))
        if failure is not None and not goes_on:
            raise failure
    workplace.close()
    ended.set()


def _leave(desk: Any, ended: threading.Event) -> None:
    """Ends the process in the middle of a step that nobody waits for any more."""
    with suppress(RayError):  # the desk is gone, and so is the driver
        ray.get(desk.closing.remote())
    if not ended.wait(_GRACE_SECONDS):
        os._exit(1)
