"""One Ray Train job, whose workers train whole recipes, one after another, until nothing more is wanted."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict, cast

import ray
import ray.train
import torch
from ray.exceptions import RayActorError, RayError
from ray.train import PreemptionError, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer
from torch import nn

from raysearch.data.shared import bring_all
from raysearch.record.files import BEST, CHECKPOINTS
from raysearch.record.line import Row
from raysearch.storage.files import insist, patient, replace_text
from raysearch.storage.remote import Storage
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import best_metadata, load_tensors, save_tensors
from raysearch.training.path import assemble, train_recipe
from raysearch.training.student import before_student
from raysearch.workers.board import Board
from raysearch.workers.cluster import MACHINE_LOST, beside_driver, look_at_cluster, lost_with_machine
from raysearch.workers.config import BenchConfig, TuneDict
from raysearch.workers.gpu import end_if_cuda_is_lost, keep_to_share_of_gpu
from raysearch.workers.network import OwnNetwork
from raysearch.workers.order import Training
from raysearch.workers.trainings import DIGEST, ERROR, HISTORY, LOGITS, Backlog, Outcome, Wanted

logger = logging.getLogger(__name__)


class _JobConfig(TypedDict):
    """What a worker of the job is told."""

    bench: BenchConfig
    checkpoints: str
    threads: int
    storage: str | None
    """The URI of the run in its storage, if it has one."""
    board: Any
    """The handle of the board's actor."""


def train_all(
    run_folder: Path,
    bench: BenchConfig,
    wanted: Wanted,
    *,
    workers: int,
    gpus: float,
    max_failures: int = 0,
    watch: Callable[[int, int], None] = lambda done, of: None,
    took: Callable[[Outcome], None] = lambda outcome: None,
    lost: Callable[[str], None] = lambda reason: None,
    storage: Storage | None = None,
) -> dict[str, Outcome]:
    """Train what is wanted, until nothing more is.

    Args:
        run_folder: of the run; each training's tensors are left in checkpoints/NAME/best.safetensors.
        bench: how each worker opens its bench.
        wanted: asked again after each training.
        workers: of the job, at most.
        gpus: of one worker.
        max_failures: how often the job may be lost, but for its machines, before what it had not trained counts as
            failed.
        watch: called now and then with the epochs that are trained, and those of all trainings that are wanted so far.
        took: called with each outcome, once, as it is known.
        lost: called with the reason when the job was lost and is started again.
        storage: of the run, through which workers on other machines get the images and hand over their tensors.

    Returns: every outcome by name; a training that diverged, or was lost too often, is an error and costs no other.
    """
    for name in ("ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    backlog = Backlog(run_folder.resolve() / CHECKPOINTS, wanted, watch, took, storage)
    while missing := backlog.missing():
        room, cpus = look_at_cluster().share(workers, gpus)
        try:
            _job(backlog, bench, min(room, len(missing)), {"CPU": float(cpus), "GPU": gpus}, storage)
        except TrainingFailedError as error:
            reason = str(error).strip().splitlines()[-1]
            backlog.take_back()
            backlog.look()
            if _lost_with_machine(error):
                reason = MACHINE_LOST
            elif max_failures:
                max_failures -= 1
            else:
                backlog.give_up(reason)
                continue
            lost(reason)
    return backlog.done


def _lost_with_machine(error: TrainingFailedError) -> bool:
    """Whether the job was lost because one of its workers' machines was, as `lost_with_machine` finds out."""
    if isinstance(error, PreemptionError):
        return True
    failures = error.worker_failures.values() if isinstance(error, WorkerGroupError) else ()
    causes = [getattr(failure, "health_check_failure", failure) for failure in failures]  # of a worker that is gone
    return any(isinstance(cause, RayActorError) and lost_with_machine(cause) for cause in causes)


def _job(
    backlog: Backlog, bench: BenchConfig, workers: int, resources: dict[str, float], storage: Storage | None
) -> None:
    """One Ray Train job, until nothing is missing."""
    here = beside_driver()
    board: Any = ray.remote(Board).options(num_cpus=0, max_concurrency=1000, scheduling_strategy=here).remote()

    def put_up() -> None:
        new = backlog.to_give()
        for training in new:
            (backlog.checkpoints / training.name / HISTORY).unlink(missing_ok=True)  # of a job that was broken off
        if new:
            ray.get(board.put.remote(new))

    def watch() -> None:
        backlog.look()
        put_up()
        if not backlog.missing():
            ray.get(board.close.remote())

    config: _JobConfig = {
        "bench": bench,
        "checkpoints": str(backlog.checkpoints),
        "threads": int(resources["CPU"]),
        "storage": storage.uri if storage is not None else None,
        "board": board,
    }
    put_up()
    # Ctrl-C leaves workers behind that may still write there, until Ray is shut down.
    with TemporaryDirectory(prefix="raysearch-trainings-", ignore_cleanup_errors=True) as scratch:
        trainer = TorchTrainer(
            _serve,  # type: ignore[arg-type]  # Ray does not know of typed dictionaries
            train_loop_config=cast(TuneDict, config),
            torch_config=OwnNetwork(),
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers, use_gpu=resources["GPU"] > 0, resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(name="trainings", storage_path=scratch),
        )
        try:
            _fit(trainer, watch)
        finally:
            with suppress(RayError):
                ray.kill(board)
    backlog.look()


def _fit(trainer: TorchTrainer, watch: Callable[[], None]) -> None:
    """Runs the job, calling `watch` twice a second; Ctrl-C is an ordinary KeyboardInterrupt.

    The job blocks a thread of its own: in the main one Ray Train would take Ctrl-C for itself, for good, and end the
    process with it.
    """
    over, failed = threading.Event(), []

    def run() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller hears of it
            failed.append(error)
        finally:
            over.set()

    threading.Thread(target=run, name="trainings", daemon=True).start()
    while not over.wait(0.5):
        watch()
    if failed:
        raise failed[0]


def _serve(config: _JobConfig) -> None:
    """A worker: trains what is put up, until there is no more."""
    torch.set_num_threads(config["threads"])
    keep_to_share_of_gpu()
    told = config["bench"].copy()
    storage = Storage(config["storage"]) if config["storage"] is not None else None
    with patient(logger.warning):
        if storage is not None:
            told["dataset"] = bring_all(storage.parent, told["dataset"])
            if (place := told.get("unlabelled")) is not None:
                told["unlabelled"] = bring_all(storage.parent, place)
        bench, board, trained = Bench.open(**told), config["board"], 0
        while (training := ray.get(board.take.remote())) is not None:
            if storage is not None:
                _bring_teachers(storage, training, Path(config["checkpoints"]))
            path = train_one(bench, training, Path(config["checkpoints"]) / training.name, told["seed"])
            if storage is not None:
                storage.put(path, f"{CHECKPOINTS}/{training.name}/{path.name}")
            trained += 1
    ray.train.report({"trained": trained})


def train_one(bench: Bench, training: Training, folder: Path, seed: int) -> Path:
    """Train one, and write its tensors, or why there are none; the file that was written.

    Args:
        bench: of the process.
        training: what to train.
        folder: where the file goes.
        seed: of the search, by which folds are drawn.
    """
    began = time.perf_counter()
    recorder = _Recorder(folder / HISTORY)
    try:
        seen, unlabelled = bench.seeing(training.on, training.fold, seed), None
        if training.teachers:
            teachers = _teachers(bench, training, folder.parent)
            seen, unlabelled = before_student(bench, teachers, training.recipe.image_size, seed, training.fold)
        trainer = train_recipe(seen, training.recipe, recorder, head_seed=training.head_seed, evaluate=False)
    except (ValueError, RuntimeError) as error:  # a loss that is not finite, a hand-over, memory, too few images
        end_if_cuda_is_lost(error)
        replace_text(folder / ERROR, f"{type(error).__name__}: {error}")
        return folder / ERROR
    tensors = dict(trainer.best_state)
    if training.fold is not None:
        tensors[LOGITS] = trainer.val_logits
    about = {**best_metadata(trainer), "seconds": round(time.perf_counter() - began, 3), DIGEST: training.digest}
    save_tensors(folder / BEST, tensors, about if unlabelled is None else {**about, "unlabelled": unlabelled})
    return folder / BEST


def _teachers(bench: Bench, training: Training, checkpoints: Path) -> list[nn.Sequential]:
    """The networks that a student learns from."""
    found = (load_tensors(checkpoints / name / BEST)[0] for name in training.teachers)
    suffixes = ({name: tensor for name, tensor in one.items() if name != LOGITS} for one in found)
    return [assemble(bench, training.recipe, suffix) for suffix in suffixes]


def _bring_teachers(storage: Storage, training: Training, checkpoints: Path) -> None:
    """Bring their tensors, which another machine may have trained; those here may be of an earlier training."""
    for name in training.teachers:
        storage.get(f"{CHECKPOINTS}/{name}/{BEST}", checkpoints / name / BEST)


class _Recorder:
    """Appends each epoch's row to a file, a JSON line each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, stage: int, row: Row) -> None:
        line = json.dumps({"stage": stage, **row}) + "\n"
        insist(lambda: self._append(line))

    def _append(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
