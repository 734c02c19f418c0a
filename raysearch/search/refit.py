"""The winner trained again with fresh seeds: one Ray Train job, each worker its share of the seeds.

The search's own validation figure of its winner is the best of many and so too good; fresh seeds say what the recipe is
worth.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray.train
import torch
from ray.train.torch import TorchTrainer

from raysearch.data.pixels import Dataset, Split
from raysearch.recipe import Recipe
from raysearch.training.checkpoint import best_metadata, load_tensors, save_tensors
from raysearch.training.path import train_recipe
from raysearch.training.stage import Bench


def refit_seeds(seed: int, refits: int) -> list[int]:
    """Seeds that the search itself has not used: it uses `seed` alone."""
    return [1000 * (seed + 1) + number for number in range(refits)]


def refit_recipe(recipe: Recipe, seed: int, best_epoch: int, on: str) -> Recipe:
    """The recipe with a fresh seed; without a validation split to stop by, it ends at the winner's best epoch."""
    schedule = recipe.schedule
    if on == "train+val":
        last = schedule[-1].model_copy(update={"epochs": max(1, best_epoch), "early_stopping_epochs": None})
        schedule = (*schedule[:-1], last)
    return recipe.model_copy(update={"seed": seed, "schedule": schedule})


def refit(
    run_folder: Path,
    trial: str,
    bench: dict[str, Any],
    recipes: list[Recipe],
    *,
    on: str,
    workers: int,
    resources: dict[str, float],
    watch: Callable[[int], None] = lambda epochs: None,
) -> list[dict[str, Any]]:
    """Train the recipes, and leave each one's best suffix in checkpoints/refit-TRIAL-SEED/best.safetensors.

    Those that are there already are not trained again.

    Args:
        run_folder: of the run.
        trial: the winner's name.
        bench: keywords of `Bench.open`.
        recipes: the winner's, a seed each.
        on: "train" or "train+val".
        workers: of the job.
        resources: of one worker, {"CPU": …, "GPU": …}.
        watch: called now and then with the epochs that all of them have trained so far.

    Returns: {"seed", "best": the row of the best epoch, "seconds"} of each recipe.
    """
    checkpoints = run_folder.resolve() / "checkpoints"
    missing = [recipe for recipe in recipes if not _file(checkpoints, trial, recipe.seed).exists()]
    if missing:
        config = {
            "bench": bench,
            "trial": trial,
            "checkpoints": str(checkpoints),
            "recipes": [recipe.model_dump(mode="json") for recipe in missing],
            "on": on,
            "threads": max(1, int(resources["CPU"])),
        }
        for name in ("ray.train", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        histories = [_file(checkpoints, trial, recipe.seed).with_name("history.jsonl") for recipe in missing]
        for history in histories:
            history.unlink(missing_ok=True)  # of a job that was broken off: its refits begin again
        # Ctrl-C leaves workers behind that may still write there, until Ray is shut down.
        with TemporaryDirectory(prefix="raysearch-refit-", ignore_cleanup_errors=True) as scratch:
            trainer = TorchTrainer(
                _train_share,
                train_loop_config=config,
                scaling_config=ray.train.ScalingConfig(
                    num_workers=min(workers, len(missing)),
                    use_gpu=resources.get("GPU", 0) > 0,
                    resources_per_worker=resources,
                ),
                run_config=ray.train.RunConfig(name="refit", storage_path=scratch),
            )
            _fit(trainer, lambda: watch(sum(path.read_bytes().count(b"\n") for path in histories if path.exists())))
    return [_outcome(_file(checkpoints, trial, recipe.seed), recipe.seed) for recipe in recipes]


def refit_tensors(run_folder: Path, trial: str, seed: int) -> dict[str, torch.Tensor]:
    """The suffix that `refit` trained with this seed."""
    return load_tensors(_file(run_folder / "checkpoints", trial, seed))[0]


def _file(checkpoints: Path, trial: str, seed: int) -> Path:
    return checkpoints / f"refit-{trial}-{seed}" / "best.safetensors"


def _outcome(path: Path, seed: int) -> dict[str, Any]:
    about = load_tensors(path)[1]
    return {"seed": seed, "best": about["row"], "seconds": about["seconds"]}


class _Recorder:
    """Appends each epoch's row to a file, a JSON line each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, stage: int, row: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, **row}) + "\n")


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


def _train_share(config: dict[str, Any]) -> None:
    """One worker: every `world_size`-th recipe."""
    torch.set_num_threads(config["threads"])
    context = ray.train.get_context()
    bench = Bench.open(**config["bench"])
    if config["on"] == "train+val":
        bench.dataset = _joined(bench.dataset)
    mine = config["recipes"][context.get_world_rank() :: context.get_world_size()]
    for tree in mine:
        began = time.perf_counter()
        recipe = Recipe.model_validate(tree)
        path = _file(Path(config["checkpoints"]), config["trial"], recipe.seed)
        trainer = train_recipe(bench, recipe, _Recorder(path.with_name("history.jsonl")))
        about = best_metadata(trainer)
        tensors = trainer.best_state
        if config["on"] == "train+val":  # the validation images were trained on: they cannot say which epoch is best
            tensors = {name: tensor.detach().cpu() for name, tensor in trainer.suffix.state_dict().items()}
        seconds = round(time.perf_counter() - began, 3)
        save_tensors(path, tensors, {**about, "seconds": seconds})
    ray.train.report({"recipes": len(mine)})


def _joined(dataset: Dataset) -> Dataset:
    """The dataset with the validation images in its training split too."""
    import dataclasses

    import numpy as np

    train, val = dataset.train, dataset.val
    both = Split(
        np.concatenate([train.pixels, val.pixels]),
        np.concatenate([train.labels, val.labels]),
        (*train.paths, *val.paths),
    )
    return dataclasses.replace(dataset, train=both)
