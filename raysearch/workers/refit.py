"""The winner trained again with fresh seeds: one Ray Train job, each worker its share of the seeds.

The search's own validation figure of its winner is the best of many and so too good; fresh seeds say what the recipe is
worth.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray.train
import torch
from ray.train import TrainingFailedError
from ray.train.torch import TorchTrainer

from raysearch.data.pixels import Split
from raysearch.data.shared import bring_images
from raysearch.recipe import Recipe
from raysearch.record.folder import BEST
from raysearch.storage.files import insist, patient, replace_text
from raysearch.storage.remote import Storage
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import best_metadata, load_tensors, save_tensors
from raysearch.training.path import train_recipe
from raysearch.workers.cluster import look_at_cluster
from raysearch.workers.network import OwnNetwork

logger = logging.getLogger(__name__)

_ERROR = "error.txt"


def refit_seeds(seed: int, refits: int) -> list[int]:
    """Seeds that the search itself has not used: it uses `seed` alone."""
    return [1000 * (seed + 1) + number for number in range(refits)]


def refit_recipe(recipe: Recipe, seed: int, kept_epochs: Sequence[int], on: str) -> Recipe:
    """The recipe with a fresh seed.

    On train+val there are no images left to stop by: each stage then ends with the epoch that the search kept of it
    (`kept_epochs`), and its course is stretched over those.
    """
    schedule = recipe.schedule
    if on == "train+val":
        schedule = tuple(
            stage.model_copy(update={"epochs": max(1, epochs), "early_stopping_epochs": None, "keep": "last"})
            for stage, epochs in zip(schedule, kept_epochs, strict=True)
        )
    return recipe.model_copy(update={"seed": seed, "schedule": schedule})


def refit(
    run_folder: Path,
    trial: str,
    bench: dict[str, Any],
    recipes: list[Recipe],
    *,
    on: str,
    workers: int,
    gpus: float,
    max_failures: int = 0,
    watch: Callable[[int], None] = lambda epochs: None,
    lost: Callable[[str], None] = lambda reason: None,
    storage: Storage | None = None,
) -> list[dict[str, Any]]:
    """Train the recipes, and leave each one's best suffix in checkpoints/refit-TRIAL-SEED/best.safetensors.

    Those that are there already are not trained again, so that a job that loses a worker or a machine goes on with the
    others, sized by what the cluster has then.

    Args:
        run_folder: of the run.
        trial: the winner's name.
        bench: keywords of `Bench.open`.
        recipes: the winner's, a seed each.
        on: "train" or "train+val".
        workers: of the job, at most.
        gpus: of one worker.
        max_failures: how often the job may be lost before those that it had not trained count as failed.
        watch: called now and then with the epochs that all of them have trained so far, as far as they train on a
            machine that has the run folder.
        lost: called with the reason when the job was lost and is started again.
        storage: of the run, through which workers on other machines get the images and hand over their tensors.

    Returns: {"seed", "recipe", "best": the row of the epoch it kept, "seconds"} of each recipe, or {"seed", "error"}
        of one that diverged or was lost too often: another seed's luck is no reason to lose the others.
    """
    checkpoints = run_folder.resolve() / "checkpoints"
    for name in ("ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    reason = ""
    while missing := [recipe for recipe in recipes if not _file(checkpoints, trial, recipe.seed).exists()]:
        room, cpus = look_at_cluster().share(workers, gpus)
        config = {
            "bench": bench,
            "trial": trial,
            "checkpoints": str(checkpoints),
            "recipes": [recipe.model_dump(mode="json") for recipe in missing],
            "on": on,
            "threads": cpus,
            "storage": storage.uri if storage is not None else None,
        }
        try:
            _job(config, min(room, len(missing)), {"CPU": float(cpus), "GPU": gpus}, watch)
            break
        except TrainingFailedError as error:
            reason = str(error).strip().splitlines()[-1]
            if not max_failures:
                break
            max_failures -= 1
            lost(reason)
        finally:
            if storage is not None:
                for recipe in missing:
                    _bring(storage, _file(checkpoints, trial, recipe.seed))
    return [_outcome(_file(checkpoints, trial, recipe.seed), recipe, reason) for recipe in recipes]


def _job(config: dict[str, Any], workers: int, resources: dict[str, float], watch: Callable[[int], None]) -> None:
    """One Ray Train job over the recipes of `config`."""
    checkpoints = Path(config["checkpoints"])
    histories = [
        _file(checkpoints, config["trial"], tree["seed"]).with_name("history.jsonl") for tree in config["recipes"]
    ]
    for history in histories:
        history.unlink(missing_ok=True)  # of a job that was broken off: its refits begin again
    # Ctrl-C leaves workers behind that may still write there, until Ray is shut down.
    with TemporaryDirectory(prefix="raysearch-refit-", ignore_cleanup_errors=True) as scratch:
        trainer = TorchTrainer(
            _work,
            train_loop_config=config,
            torch_config=OwnNetwork(),
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers, use_gpu=resources["GPU"] > 0, resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(name="refit", storage_path=scratch),
        )
        _fit(trainer, lambda: watch(sum(path.read_bytes().count(b"\n") for path in histories if path.exists())))


def refit_tensors(run_folder: Path, trial: str, seed: int) -> dict[str, torch.Tensor]:
    """The suffix that `refit` trained with this seed."""
    return load_tensors(_file(run_folder / "checkpoints", trial, seed))[0]


def _file(checkpoints: Path, trial: str, seed: int) -> Path:
    return checkpoints / f"refit-{trial}-{seed}" / BEST


def _bring(storage: Storage, path: Path) -> None:
    """What a worker on another machine has made."""
    for name in (path.name, _ERROR):
        with suppress(FileNotFoundError):
            storage.get(f"checkpoints/{path.parent.name}/{name}", path.with_name(name))


def _outcome(path: Path, recipe: Recipe, lost: str) -> dict[str, Any]:
    if not path.exists():
        told = path.with_name(_ERROR)
        return {"seed": recipe.seed, "error": told.read_text(encoding="utf-8") if told.exists() else lost}
    about = load_tensors(path)[1]
    dumped = recipe.model_dump(mode="json")
    return {"seed": recipe.seed, "recipe": dumped, "best": about["row"], "seconds": about["seconds"]}


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

    threading.Thread(target=run, name="refit", daemon=True).start()
    while not over.wait(0.5):
        watch()
    if failed:
        raise failed[0]


def _work(config: dict[str, Any]) -> None:
    """What a worker of the Ray Train job does."""
    context = ray.train.get_context()
    with patient(logger.warning):
        trained = train_share(config, context.get_world_rank(), context.get_world_size())
    ray.train.report({"recipes": trained})


def train_share(config: dict[str, Any], rank: int, size: int) -> int:
    """Trains every `size`-th of the recipes, from the `rank`-th on, and says how many these were; it knows no Ray."""
    torch.set_num_threads(config["threads"])
    keywords = config["bench"]
    storage = Storage(config["storage"]) if config["storage"] is not None else None
    if storage is not None:
        keywords = keywords | {"dataset": str(bring_images(storage.parent, Path(keywords["dataset"])))}
    bench = Bench.open(**keywords)
    if config["on"] == "train+val":
        images = bench.dataset
        bench.dataset = dataclasses.replace(images, train=Split.join(images.train, images.val))
    mine = config["recipes"][rank::size]
    for tree in mine:
        began = time.perf_counter()
        recipe = Recipe.model_validate(tree)
        path = _file(Path(config["checkpoints"]), config["trial"], recipe.seed)
        try:
            trainer = train_recipe(bench, recipe, _Recorder(path.with_name("history.jsonl")))
        except RuntimeError as error:  # a loss that is not finite, a hand-over, memory
            path = path.with_name(_ERROR)
            replace_text(path, f"{type(error).__name__}: {error}")
        else:
            seconds = round(time.perf_counter() - began, 3)
            save_tensors(path, trainer.best_state, {**best_metadata(trainer), "seconds": seconds})
        if storage is not None:
            storage.put(path, f"checkpoints/{path.parent.name}/{path.name}")
    return len(mine)
