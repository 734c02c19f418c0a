"""The end of a search: three models named beforehand, one look at the test images, and what is left of the winner.

The models are the winner (as many as there are refits), the default recipe as the search trained it, and the best head
alone. Which file the winner's model is, is decided on validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from raysearch.data.augment import Augmenter
from raysearch.data.pixels import Dataset, Split
from raysearch.data.shared import bring_images
from raysearch.job.job import Job
from raysearch.recipe import Recipe
from raysearch.record.folder import BEST, RunFolder
from raysearch.record.trial import Trial
from raysearch.search.controller import Controller
from raysearch.storage.files import replace_with
from raysearch.storage.remote import Storage
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import load_tensors
from raysearch.training.path import assemble
from raysearch.winner.best import write_best
from raysearch.winner.card import model_card
from raysearch.winner.evaluate import Evaluation, Metrics, evaluate_model, evaluation_document
from raysearch.workers.cluster import Call, call_here
from raysearch.workers.refit import refit_tensors


@dataclass(frozen=True)
class Look:
    """One model on one split."""

    model: nn.Module
    split: str
    """train, val, test, or half: the validation images that chose."""
    augment: Augmenter | None = None


def look(dataset: str, storage: str | None, seed: int, device: str, looks: dict[Any, Look]) -> dict[Any, Evaluation]:
    """Measure models, with nothing but the images' folder at hand: this runs where trials run.

    Args:
        dataset: the cache folder of the decoded images.
        storage: where they are for machines that do not have it; None: all have it.
        seed: of the search.
        device: its type.
        looks: by any key.
    """
    folder = Path(dataset)
    data = Dataset.open(folder if storage is None else bring_images(Storage(storage), folder))
    splits = {"train": data.train, "val": data.val, "test": data.test}
    if any(one.split == "half" for one in looks.values()):
        splits["half"] = data.halved(seed)[0].val
    return {
        key: evaluate_model(one.model, splits[one.split], data.classes, device, augment=one.augment)
        for key, one in looks.items()
    }


def evaluate_run(
    job: Job, run: RunFolder, controller: Controller, refits: list[dict[str, Any]], call: Call = call_here
) -> None:
    """Write best/, predictions.parquet and evaluation.json.

    Args:
        job: the settings and what they name.
        run: the run folder.
        controller: the search at its end; it has a winner.
        refits: of `refit`; empty if the winner is not trained again.
        call: calls a function where trials run.
    """
    winner = controller.winner
    assert winner is not None and winner.best is not None
    bench = Bench(job.dataset, job.weights, torch.device("cpu"), job.settings.precision)
    recipes, models = _winners(run, bench, winner, refits)
    shipped = _shipped(job, refits)
    others = {
        name: (trial.name, _model(run, bench, trial))
        for name, trial in (("default", controller.default), ("head", controller.best_head()))
        if trial is not None and trial.best is not None and not trial.failed and best_tensors(run, trial).exists()
    }
    # Everything is chosen by now. What follows only measures.
    earlier = sum(1 for event in run.events() if event["event"] == "test_read")
    run.append({"event": "test_read", "winner": winner.name, **{name: trial for name, (trial, _) in others.items()}})
    classes, data = job.dataset.classes, job.dataset
    strength = recipes[shipped].schedule[-1].strength
    augmenter = Augmenter(recipes[shipped].augmentation, strength, job.settings.seed)

    seen_val = job.settings.refit_on == "train+val" and refits
    halves = job.space.tested and not seen_val
    looks: dict[Any, Look] = {
        **{(split, number): Look(model, split) for number, model in enumerate(models) for split in ("val", "test")},
        **{("half", number): Look(model, "half") for number, model in enumerate(models) if halves},
        **{(split, name): Look(model, split) for name, (_, model) in others.items() for split in ("val", "test")},
        "train": Look(models[shipped], "train"),
        "train_augmented": Look(models[shipped], "train", augmenter),
    }
    seen = call(look, str(data.folder), job.settings.storage, job.settings.seed, job.settings.device, looks)
    val, test = ([seen[split, number] for number in range(len(models))] for split in ("val", "test"))
    splits: dict[str, list[Metrics]] = {
        **{split: [seen[split].metrics] for split in ("train", "train_augmented")},
        **({} if seen_val else {"val": [one.metrics for one in val]}),
        "test": [one.metrics for one in test],
    }
    measured = {name: (trial, seen["val", name], seen["test", name]) for name, (trial, _) in others.items()}
    chosen_by = [] if seen_val else [seen["half" if halves else "val", number].metrics for number in range(len(models))]
    document = evaluation_document(
        splits,
        trial=winner.name,
        metric=job.settings.metric,
        best_validation=float(winner.best[job.rules.metric]),
        chosen_by=chosen_by,
        others={name: (trial, [on_test.metrics]) for name, (trial, _, on_test) in measured.items()},
    )
    document["refits"] = len(refits)
    if not refits:  # the winner as the search trained it says nothing of fresh seeds
        document["optimism"] = None
    document["test_reads"] = earlier + 1
    predictions = {"winner": (val[shipped], test[shipped])} | {name: (v, t) for name, (_, v, t) in measured.items()}
    frame = _predictions(data.val, data.test, predictions)
    replace_with(run.folder / "predictions.parquet", lambda path: frame.to_parquet(path, index=False))
    on_test = {name: evaluations[1].probabilities for name, evaluations in predictions.items()}
    card = model_card(run, recipes[shipped], data, document, on_test, shipped)
    write_best(run.folder / "best", models[shipped], recipes[shipped], classes, job.weights.digest, card)
    run.write_json("evaluation.json", document)


def _winners(
    run: RunFolder, bench: Bench, winner: Trial, refits: list[dict[str, Any]]
) -> tuple[list[Recipe], list[nn.Sequential]]:
    if not refits:
        return [Recipe.model_validate(winner.recipe)], [_model(run, bench, winner)]
    recipes = [Recipe.model_validate(one["recipe"]) for one in refits]
    models = [assemble(bench, one, refit_tensors(run.folder, winner.name, one.seed)) for one in recipes]
    return recipes, models


def _shipped(job: Job, refits: list[dict[str, Any]]) -> int:
    """Which of the winner's models goes into best/: the best on validation; the first if they trained on that too."""
    if not refits or job.settings.refit_on == "train+val":
        return 0
    key = [(job.rules.score(one["best"]), -one["best"]["val_loss"]) for one in refits]
    return key.index(max(key))


def best_tensors(run: RunFolder, trial: Trial) -> Path:
    """The file of a trial's best suffix."""
    return run.file(f"checkpoints/{trial.name}/{BEST}")


def _model(run: RunFolder, bench: Bench, trial: Trial) -> nn.Sequential:
    return assemble(bench, Recipe.model_validate(trial.recipe), load_tensors(best_tensors(run, trial))[0])


def _predictions(val: Split, test: Split, models: dict[str, tuple[Evaluation, Evaluation]]) -> pd.DataFrame:
    """Split, path, label, and for each model the probabilities of all classes as a list."""
    columns: dict[str, Any] = {
        "split": ["val"] * len(val.labels) + ["test"] * len(test.labels),
        "path": [*val.paths, *test.paths],
        "label": np.concatenate([val.labels, test.labels]),
    }
    for name, (on_val, on_test) in models.items():
        columns[name] = [*on_val.probabilities.astype(np.float32), *on_test.probabilities.astype(np.float32)]
    return pd.DataFrame(columns)
