"""The end of a search: three models named beforehand, one look at the test images, and what is left of the winner.

The models are the winner (as many as there are refits), the default recipe as the search trained it, and the best head
alone. Which file the winner's model is, is decided on validation.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from raysearch.card import model_card
from raysearch.data.augment import Augmenter
from raysearch.data.pixels import Split
from raysearch.evaluate import Evaluation, Metrics, evaluate_model, evaluation_document
from raysearch.files import replace_with
from raysearch.job import Job
from raysearch.predict import write_best
from raysearch.recipe import Recipe
from raysearch.run import Run
from raysearch.search.controller import Controller
from raysearch.search.refit import refit_tensors
from raysearch.search.trial import Trial
from raysearch.training.checkpoint import load_tensors
from raysearch.training.path import assemble
from raysearch.training.stage import Bench

logger = logging.getLogger(__name__)


def evaluate_run(job: Job, run: Run, controller: Controller, bench: Bench, refits: list[dict[str, Any]]) -> None:
    """Write best/, predictions.parquet and evaluation.json.

    Args:
        job: the settings and what they name.
        run: the run folder.
        controller: the search at its end; it has a winner.
        bench: images and base weights.
        refits: of `refit`; empty if the winner is not trained again.
    """
    winner = controller.winner
    assert winner is not None and winner.best is not None
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

    def measure(model: nn.Module, split: Split, augment: Augmenter | None = None) -> Evaluation:
        return evaluate_model(model, split, classes, bench.device, augment=augment)

    val = [measure(model, data.val) for model in models]
    test = [measure(model, data.test) for model in models]
    seen_val = job.settings.refit_on == "train+val" and refits
    splits: dict[str, list[Metrics]] = {
        "train": [measure(models[shipped], data.train).metrics],
        "train_augmented": [measure(models[shipped], data.train, augmenter).metrics],
        **({} if seen_val else {"val": [one.metrics for one in val]}),
        "test": [one.metrics for one in test],
    }
    measured = {
        name: (trial, measure(model, data.val), measure(model, data.test)) for name, (trial, model) in others.items()
    }
    chosen_by = [] if seen_val else [one.metrics for one in val]
    if job.space.tested and not seen_val:
        half = data.halved(job.settings.seed)[0].val
        chosen_by = [measure(model, half).metrics for model in models]
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
    run: Run, bench: Bench, winner: Trial, refits: list[dict[str, Any]]
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


def best_tensors(run: Run, trial: Trial) -> Path:
    """The file of a trial's best suffix."""
    return run.file(f"checkpoints/{trial.name}/best.safetensors")


def _model(run: Run, bench: Bench, trial: Trial) -> nn.Sequential:
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
