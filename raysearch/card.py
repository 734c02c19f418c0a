"""The model card: what a person should know of `best/` before using it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysearch.data.dataset import Dataset
from raysearch.recipe import Recipe
from raysearch.reporting.terminal import plus_minus


def model_card(run: str, recipe: Recipe, data: Dataset, weights: str, evaluation: Mapping[str, Any]) -> str:
    """The card in Markdown, from the winner's recipe, the data that it was trained on and evaluation.json."""
    test = evaluation["test"]
    stages = "\n".join(
        f"| {number} | {stage.depth} | {stage.epochs} | {stage.learning_rate:.2g} | {stage.weight_decay:.2g} "
        f"| {stage.course} | {stage.strength:g} | {stage.dropout:g} | {stage.batch_norm} |"
        for number, stage in enumerate(recipe.schedule)
    )
    classes = "\n".join(
        f"| {name} | {' | '.join(plus_minus(row[key]) for key in ('precision', 'recall', 'f1'))} | {row['support']} |"
        for name, row in test["per_class"].items()
    )
    models = len(test["accuracy"]["values"])
    spread = f"mean and standard deviation of {models} trainings with fresh seeds" if models > 1 else "one training"
    return f"""# {run}: {recipe.backbone} for {len(data.classes)} classes

Tells {", ".join(data.classes[:20])}{" …" if len(data.classes) > 20 else ""} apart in images of
{recipe.image_size} x {recipe.image_size} px (other sizes are fitted: {recipe.fit}).

    raysearch predict {run} IMAGE...

## Data

{data.source}: {len(data.train.labels)} images to train on, {len(data.val.labels)} to choose by,
{len(data.test.labels)} to measure with; fingerprint {data.fingerprint[:16]}.

## Recipe

{recipe.backbone} from {weights}, {recipe.pooling} pooling, {recipe.head.kind} head; the whole of it is in recipe.json.

| stage | depth | epochs | learning rate | weight decay | course | augmentation | dropout | batch norm |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
{stages}

## Results on the test images ({spread})

Accuracy {plus_minus(test["accuracy"])}, macro-F1 {plus_minus(test["macro_f1"])}.

| class | precision | recall | F1 | images |
| --- | --- | --- | --- | --- |
{classes}

## Limits

The figures hold for images like those above. The probabilities are those of the network, not calibrated. Anything that
is none of the classes is called one of them all the same.
"""
