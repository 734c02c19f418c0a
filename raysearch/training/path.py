"""A whole recipe, from the pretrained weights alone: its stages one after the other, each from the best of the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from raysearch.models.boundary import build_classifier
from raysearch.recipe import Recipe
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import TensorsInfo, best_metadata
from raysearch.training.loop import Trainer
from raysearch.training.stage import open_stage


def train_recipe(
    bench: Bench,
    recipe: Recipe,
    report: Callable[[int, dict[str, Any]], None] = lambda stage, row: None,
    *,
    head_seed: int | None = None,
    evaluate: bool = True,
) -> Trainer:
    """Train every stage of the recipe, with the hand-over gate between them.

    Args:
        bench: images, weights, device.
        recipe: what to train.
        report: called after each epoch with the stage's index and the epoch's row.
        head_seed: seeds the first of several stages in the recipe's stead, so that trainings with other seeds begin
            with the same head.
        evaluate: False evaluates the last epoch of a stage only, where nothing depends on the others.

    Returns: the last stage's trainer, at its end; `best_state` holds its best suffix.

    Raises:
        HandoverError, NonFiniteLossError: as the stages do.
    """
    start: dict[str, Tensor] | None = None
    rate: float | None = None
    about: TensorsInfo | None = None
    several = len(recipe.schedule) > 1
    first = recipe.model_copy(update={"seed": head_seed}) if several and head_seed is not None else recipe
    for index in range(len(recipe.schedule)):
        trainer = open_stage(
            bench,
            recipe if index else first,
            index,
            start,
            ended_rate=rate,
            expected_loss=None if about is None else about["val_loss"],
            expected_signature=None if about is None else about["signature"],
        )
        while not trainer.finished:
            row = trainer.run_epoch(evaluate=evaluate)
            rate = row["lr"]
            report(index, row)
        start, about = trainer.best_state, best_metadata(trainer)
    return trainer


def assemble(bench: Bench, recipe: Recipe, suffix: dict[str, Tensor]) -> nn.Sequential:
    """The whole classifier, fp32 and in eval mode: the base weights completed by a trained suffix.

    Raises:
        ValueError: the suffix has tensors that the classifier has not.
    """
    classifier = build_classifier(recipe, len(bench.dataset.classes))
    with torch.no_grad():
        classifier.load_state_dict(dict(bench.weights_of(recipe).state), strict=False)
        unexpected = classifier.load_state_dict(suffix, strict=False).unexpected_keys
    if unexpected:
        raise ValueError(f"the suffix has tensors that {recipe.backbone} has not: {', '.join(unexpected[:3])}")
    return classifier.eval().requires_grad_(False)
