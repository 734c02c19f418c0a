"""Recipes trained whole, from the pretrained weights alone: one Ray Train job, whose workers take one after another.

What is wanted next may depend on what came of the others, so the job is not given a list, but asks.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import ray
import ray.train
import torch
from ray.exceptions import RayError
from ray.train import TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysearch.data.shared import bring_images
from raysearch.recipe import Recipe
from raysearch.record.folder import BEST
from raysearch.storage.files import insist, patient, replace_text
from raysearch.storage.remote import Storage
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import best_metadata, load_tensors, save_tensors
from raysearch.training.path import train_recipe
from raysearch.workers.board import Board
from raysearch.workers.cluster import look_at_cluster
from raysearch.workers.network import OwnNetwork

logger = logging.getLogger(__name__)

_ERROR = "error.txt"
_HISTORY = "history.jsonl"
_LOGITS = "held_out_logits"

On = Literal["train", "train+val"]


@dataclass(frozen=True)
class Training:
    """One recipe to train whole."""

    name: str
    """Of its folder under checkpoints/: what is there already is not trained again."""
    recipe: Recipe
    head_seed: int
    """Seeds the first stage of several: trainings that share it (and their images) share their head."""
    on: On
    fold: tuple[int, int] | None = None
    """Which of how many stratified parts of the images is held out; None: none is."""


@dataclass(frozen=True)
class Outcome:
    """What came of a training."""

    training: Training
    seconds: float = 0.0
    row: Mapping[str, Any] | None = None
    """The figures of the epoch that was kept; on held-out images where there are any."""
    error: str | None = None
    """Why there are no tensors."""
    file: Path | None = None

    def suffix(self) -> dict[str, torch.Tensor]:
        """The trained tensors."""
        assert self.file is not None
        return {name: tensor for name, tensor in load_tensors(self.file)[0].items() if name != _LOGITS}

    def held_out_logits(self) -> torch.Tensor:
        """Of the held-out images, in their order: float32 (m, classes)."""
        assert self.file is not None
        return load_tensors(self.file)[0][_LOGITS]


Wanted = Callable[[Mapping[str, Outcome]], Sequence[Training]]
"""From what is done, by name: all that is wanted by now, in order, done or not."""


def train_all(
    run_folder: Path,
    bench: Mapping[str, Any],
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
        bench: keywords of `Bench.open`.
        wanted: asked again after each training.
        workers: of the job, at most.
        gpus: of one worker.
        max_failures: how often the job may be lost before what it had not trained counts as failed.
        watch: called now and then with the epochs that are trained, and those of all trainings that are wanted so far.
        took: called with each outcome, once, as it is known.
        lost: called with the reason when the job was lost and is started again.
        storage: of the run, through which workers on other machines get the images and hand over their tensors.

    Returns: every outcome by name; a training that diverged, or was lost too often, is an error and costs no other.
    """
    for name in ("ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    work = _Work(run_folder.resolve() / "checkpoints", wanted, watch, took, storage)
    while missing := work.missing():
        room, cpus = look_at_cluster().share(workers, gpus)
        try:
            _job(work, dict(bench), min(room, len(missing)), {"CPU": float(cpus), "GPU": gpus}, storage)
        except TrainingFailedError as error:
            reason = str(error).strip().splitlines()[-1]
            work.look()
            if not max_failures:
                work.give_up(reason)
                continue
            max_failures -= 1
            lost(reason)
    return work.done


class _Work:
    """What is wanted, and what is done of it."""

    def __init__(
        self,
        checkpoints: Path,
        wanted: Wanted,
        watch: Callable[[int, int], None],
        took: Callable[[Outcome], None],
        storage: Storage | None,
    ) -> None:
        self.checkpoints, self._wanted, self._watch, self._took = checkpoints, wanted, watch, took
        self._storage = storage
        self.done: dict[str, Outcome] = {}
        self._all: dict[str, Training] = {}

    def missing(self) -> list[Training]:
        """What is wanted by now and not done; what an earlier job has left is taken on the way."""
        while True:
            for training in self._wanted(self.done):
                self._all.setdefault(training.name, training)
            if not self._take_found():
                return [training for name, training in self._all.items() if name not in self.done]

    def look(self) -> None:
        """Take what was brought since, and tell how far all of it is."""
        self._take_found()
        histories = (self.checkpoints / name / _HISTORY for name in self._all)
        epochs = sum(path.read_bytes().count(b"\n") for path in histories if path.exists())
        of = sum(stage.epochs for training in self._all.values() for stage in training.recipe.schedule)
        self._watch(epochs, of)

    def give_up(self, reason: str) -> None:
        """The rest of what is wanted counts as failed."""
        for training in self.missing():
            self._note(Outcome(training, error=reason))

    def _take_found(self) -> bool:
        found = False
        for name, training in self._all.items():
            if name in self.done:
                continue
            folder = self.checkpoints / name
            if self._storage is not None:
                for file in (BEST, _ERROR):
                    with suppress(FileNotFoundError):
                        self._storage.get(f"checkpoints/{name}/{file}", folder / file)
            if (folder / BEST).exists():
                about = load_tensors(folder / BEST)[1]
                self._note(Outcome(training, about["seconds"], about["row"], file=folder / BEST))
                found = True
            elif (folder / _ERROR).exists():
                self._note(Outcome(training, error=(folder / _ERROR).read_text(encoding="utf-8")))
                found = True
        return found

    def _note(self, outcome: Outcome) -> None:
        self.done[outcome.training.name] = outcome
        self._took(outcome)


def _job(
    work: _Work, bench: dict[str, Any], workers: int, resources: dict[str, float], storage: Storage | None
) -> None:
    """One Ray Train job, until nothing is missing."""
    # Where the driver is: a spot node would take the board along.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board: Any = ray.remote(Board).options(num_cpus=0, max_concurrency=1000, scheduling_strategy=here).remote()
    told: set[str] = set()

    def put_up() -> None:
        missing = [training for training in work.missing() if training.name not in told]
        for training in missing:
            (work.checkpoints / training.name / _HISTORY).unlink(missing_ok=True)  # of a job that was broken off
        told.update(training.name for training in missing)
        if missing:
            ray.get(board.put.remote([_order(training) for training in missing]))

    def watch() -> None:
        work.look()
        put_up()
        if not work.missing():
            ray.get(board.close.remote())

    config = {
        "bench": bench,
        "checkpoints": str(work.checkpoints),
        "threads": int(resources["CPU"]),
        "storage": storage.uri if storage is not None else None,
        "board": board,
    }
    put_up()
    # Ctrl-C leaves workers behind that may still write there, until Ray is shut down.
    with TemporaryDirectory(prefix="raysearch-trainings-", ignore_cleanup_errors=True) as scratch:
        trainer = TorchTrainer(
            _serve,
            train_loop_config=config,
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
    work.look()


def _order(training: Training) -> dict[str, Any]:
    return {
        "name": training.name,
        "recipe": training.recipe.model_dump(mode="json"),
        "head_seed": training.head_seed,
        "on": training.on,
        "fold": training.fold,
    }


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


def _serve(config: dict[str, Any]) -> None:
    """A worker: trains what is put up, until there is no more."""
    torch.set_num_threads(config["threads"])
    keywords = config["bench"]
    storage = Storage(config["storage"]) if config["storage"] is not None else None
    with patient(logger.warning):
        if storage is not None:
            keywords = keywords | {"dataset": str(bring_images(storage.parent, Path(keywords["dataset"])))}
        bench, board, trained = Bench.open(**keywords), config["board"], 0
        seed = keywords["seed"]
        while (order := ray.get(board.take.remote())) is not None:
            training = Training(**{**order, "recipe": Recipe.model_validate(order["recipe"])})
            path = train_one(bench, training, Path(config["checkpoints"]) / training.name, seed)
            if storage is not None:
                storage.put(path, f"checkpoints/{training.name}/{path.name}")
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
    recorder = _Recorder(folder / _HISTORY)
    try:
        seen = bench.seeing(training.on, training.fold, seed)
        trainer = train_recipe(seen, training.recipe, recorder, head_seed=training.head_seed, evaluate=False)
    except RuntimeError as error:  # a loss that is not finite, a hand-over, memory
        replace_text(folder / _ERROR, f"{type(error).__name__}: {error}")
        return folder / _ERROR
    tensors = dict(trainer.best_state)
    if training.fold is not None:
        tensors[_LOGITS] = trainer.val_logits
    seconds = round(time.perf_counter() - began, 3)
    save_tensors(folder / BEST, tensors, {**best_metadata(trainer), "seconds": seconds})
    return folder / BEST


class _Recorder:
    """Appends each epoch's row to a file, a JSON line each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, stage: int, row: dict[str, Any]) -> None:
        line = json.dumps({"stage": stage, **row}) + "\n"
        insist(lambda: self._append(line))

    def _append(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
