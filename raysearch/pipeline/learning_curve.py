"""What the chosen recipe makes of fewer images, and what more of them would bring.

The recipe is trained on nested parts of the training images with fresh seeds, and judged by the validation images,
which are the same for all parts. The test images are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from scipy.special import stdtrit  # Student's quantile

from raysearch.data.pixels import load
from raysearch.data.reading import Reading
from raysearch.data.subset import Thinning
from raysearch.errors import InputError
from raysearch.job.settings import Settings
from raysearch.models.weights import load_weights
from raysearch.recipe import Recipe
from raysearch.record.goal import Goal
from raysearch.record.metric import measured
from raysearch.training.bench import Bench
from raysearch.training.numerics import choose_device, choose_precision
from raysearch.training.path import train_recipe

_LEAST_ERROR = 1e-4
"""An error of 0 has no logarithm."""


@dataclass(frozen=True)
class Point:
    """A training on a part of the training images."""

    fraction: float
    images: int
    seed: int
    figure: float
    """Of the search's metric, on the validation images."""
    accuracy: float


def learning_curve(
    settings: Settings, recipe: Recipe, fractions: Sequence[float], seeds: int, device: str = "auto"
) -> Iterator[Point]:
    """Train the recipe on each part with each seed, the smallest first.

    Args:
        settings: of the run.
        recipe: to train, stage by stage, with as many epochs as it says: on fewer images these are fewer steps.
        fractions: of the training images, each in (0, 1].
        seeds: trainings of each.
        device: where they run.

    Raises:
        InputError: the run's images or weights are not there.
    """
    if settings.continues is not None:
        raise InputError(
            "the images of a run that continues another are not drawn from one source, so that none can say which are "
            "fewer: search on all of them in one folder, and ask for the curve of that run"
        )
    goal, where = Goal.of(settings.metric, settings.require), choose_device(device)
    weights = load_weights(recipe.backbone, recipe.weights, settings.seed)
    reading = Reading.of_run(settings.model_dump())
    for fraction in sorted(fractions):
        thin = Thinning(reading.thin.fraction * fraction, reading.thin.subsets, reading.thin.subset)
        dataset = load(
            settings.data,
            image_size=recipe.image_size,
            fit=settings.fit,
            seed=settings.seed,
            keep_copies=settings.keep_copies,
            reading=replace(reading, thin=thin),
        )
        bench = Bench(dataset, weights, where, choose_precision(where), goal, max_batches=settings.max_batches)
        for number in range(seeds):
            seeded = recipe.model_copy(update={"seed": 2000 * (settings.seed + 1) + number})
            row = train_recipe(bench, seeded, evaluate=False).best
            figure = measured(row, goal.metric)
            yield Point(fraction, len(dataset.train), seeded.seed, figure, measured(row, "accuracy"))


@dataclass(frozen=True)
class Forecast:
    """What more images would bring, by a power law of the error: error = a * images ** -b (Hestness et al. 2017)."""

    images: int
    accuracy: float
    low: float
    high: float
    """Ends of the 90 % interval of the mean accuracy there, as far as the law holds."""
    exponent: float


def forecast(points: Sequence[Point], images: int) -> Forecast | None:
    """The accuracy at so many training images, by a straight line through the logarithms of error and images.

    The interval is Student's for the line's height, from what the trainings scatter around it. None where trainings on
    fewer than three different numbers of images say nothing of that.
    """
    sizes = np.log([point.images for point in points])
    errors = np.log([max(_LEAST_ERROR, 1 - point.accuracy) for point in points])
    if len(np.unique(sizes)) < 3:
        return None
    slope, height = np.polyfit(sizes, errors, 1)
    freedom = len(points) - 2
    scatter = math.sqrt(float(((errors - slope * sizes - height) ** 2).sum()) / freedom)
    away = math.log(images) - sizes.mean()
    reach = scatter * math.sqrt(1 / len(points) + away**2 / float(((sizes - sizes.mean()) ** 2).sum()))
    reach *= float(stdtrit(freedom, 0.95))
    middle = slope * math.log(images) + height
    accuracy, low, high = (1 - min(1.0, math.exp(error)) for error in (middle, middle + reach, middle - reach))
    return Forecast(images, accuracy, low, high, -float(slope))


def summed_up(
    points: Sequence[Point], figure: Callable[[Point], float]
) -> list[tuple[float, int, float, float | None]]:
    """Of each fraction: itself, its images, the mean of a figure over seeds, and their standard deviation (n - 1)."""
    found = []
    for fraction in dict.fromkeys(point.fraction for point in points):
        here = [point for point in points if point.fraction == fraction]
        values = [figure(point) for point in here]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        found.append((fraction, here[0].images, fmean(values), spread))
    return found


def checked_fractions(text: str) -> list[float]:
    """The fractions of `--fractions`, e.g. "0.1,0.2,0.5,1".

    Raises:
        InputError: one is no number above 0 and at most 1.
    """
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not all(0 < one <= 1 for one in found):
        raise InputError(f"--fractions {text}: give shares above 0 and at most 1, e.g. 0.1,0.2,0.5,1")
    return found
