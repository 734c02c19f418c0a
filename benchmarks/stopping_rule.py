"""How often the test that ends a search by levels errs: its verdicts for true gains in accuracy, by held-out images.

    python benchmarks/stopping_rule.py [--points 0 0.5 1 3] [--images 250 1000 5000] [--repetitions 2000]

The claim is of `raysearch.search.verdict.judge`: without a gain it seldom says "gain", with one it seldom says "none",
and its interval covers the true gain as often as it promises. Beside Student's interval, which is `judge`'s, stands a
percentile bootstrap of the same mean on the same images, its verdicts by the same rule: would it be better?

The images are simulated. Of each of --classes classes, an image tells a model skill * clarity plus standard normal
noise if it is its own, and the noise alone if not. Clarity is the image's own, log-normal; a part of the noise's
variance (--shared) is the image's too, the rest the model's. Both models answer with the posterior, so they are
calibrated, and the log-loss that one saves follows from the two skills. The one that may be beaten has an --accuracy,
the other so many points more: exactly so on the population that held-out images are drawn from, with replacement, and
so the true gain is known. --temperatures below 1 make a model overconfident, which costs log-loss and no accuracy: the
first is of the model that may be beaten, the second of the other. "disagreement" is the share of images for which the
two predict different classes. With --accuracy 0.61 it is 0.26; of seven real pairs of a head with that accuracy and a
model fine-tuned from it (CIFAR-10) it was 0.25 to 0.39.

In every row: the true gain in log-loss, and for each interval the shares of gain, none and undecided, and its coverage.
The rows of one number of images are of the same draws: their chance errors are much the same. With 0 points a "gain" is
false. With more, a "none" misses a gain in accuracy, though it may be right by the rule: true gains in log-loss that
are below --min-gain are not worth having. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from machine import machine
from scipy.special import logsumexp

from raysearch.search.verdict import judge
from raysearch.space import Search

Figures = dict[str, Any]

CLARITY_SPREAD = 0.5
"""Standard deviation of the logarithm of an image's clarity: some images are easy, some nearly hopeless."""
BATCH = 100
"""Repetitions that share their resamples, which turns the bootstrap into a matrix product."""


@dataclass(frozen=True)
class Images:
    """What a population of images tells two models; the right class is the first."""

    clarity: np.ndarray
    """(images,)"""
    noise: tuple[np.ndarray, np.ndarray]
    """For the model that may be beaten and for the other, (images, classes)."""

    @classmethod
    def draw(cls, number: int, classes: int, shared: float, rng: np.random.Generator) -> Images:
        """Every image twice, the second time with the two models' noises exchanged.

        So models of equal skill are equally good on the population exactly, not only on average over populations.
        """
        half = number // 2
        clarity = np.exp(CLARITY_SPREAD * rng.standard_normal(half))
        common, one, other = (rng.standard_normal((half, classes)) for _ in range(3))
        first, second = (shared**0.5 * common + (1 - shared) ** 0.5 * own for own in (one, other))
        noise = np.concatenate([first, second]), np.concatenate([second, first])
        return cls(np.concatenate([clarity, clarity]), noise)

    def skill(self, accuracy: float) -> float:
        """The skill that has this accuracy, the same for both models.

        An image is classified rightly from some skill on; the accuracy of a skill is the share of those at or below it.
        """
        noise = self.noise[0]
        needed = (noise[:, 1:].max(axis=1) - noise[:, 0]) / self.clarity
        return float(np.quantile(needed, accuracy))

    def answers(self, model: int, skill: float, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Log-loss (nats) and predicted class of each image under a model, both (images,)."""
        signal = skill * self.clarity
        logits = signal[:, None] * self.noise[model]
        logits[:, 0] += signal**2
        predicted = logits.argmax(axis=1)
        logits /= temperature
        return logsumexp(logits, axis=1) - logits[:, 0], predicted


def bootstrap(saved: np.ndarray, resamples: int, confidence: float, rng: np.random.Generator) -> np.ndarray:
    """Percentile intervals of the means of a batch of samples.

    Args:
        saved: (samples, images)
        resamples: of each sample; how often they count each image is the same for all samples of the batch.
        confidence: of the two-sided interval.
        rng: of the resamples.

    Returns: (samples, 2)
    """
    images = saved.shape[1]
    counts = rng.multinomial(images, np.full(images, 1 / images), size=resamples).astype(float)
    means = saved @ counts.T / images
    return np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1).T


def shares(verdicts: np.ndarray, intervals: np.ndarray, truth: float) -> Figures:
    """How often each verdict was given, and the truth covered."""
    said = {verdict: float((verdicts == verdict).mean()) for verdict in ("gain", "none", "undecided")}
    covered = (intervals[:, 0] <= truth) & (truth <= intervals[:, 1])
    return {**said, "coverage": float(covered.mean())}


def verdicts_of(intervals: np.ndarray, min_gain: float) -> np.ndarray:
    """What `judge` would say of intervals that are not Student's."""
    none, gain = intervals[:, 1] <= max(0.0, min_gain), intervals[:, 0] > 0
    return np.select([none, gain], ["none", "gain"], "undecided")


def simulate(
    before: np.ndarray,
    after: dict[float, np.ndarray],
    images: int,
    options: argparse.Namespace,
    rng: np.random.Generator,
) -> list[Figures]:
    """Repetitions with one number of held-out images: a row for each true gain, all of them on the same draws."""
    student: dict[float, list[tuple[str, float, float]]] = {points: [] for points in after}
    resampled: dict[float, list[np.ndarray]] = {points: [] for points in after}
    for start in range(0, options.repetitions, BATCH):
        size = min(BATCH, options.repetitions - start)
        drawn = rng.integers(len(before), size=(size, images))
        losses = before[drawn]
        others = {points: population[drawn] for points, population in after.items()}
        for points, other in others.items():
            for one, two in zip(losses.tolist(), other.tolist(), strict=True):
                told = judge(one, two, confidence=options.confidence, min_gain=options.min_gain)
                student[points].append((told.verdict, told.low, told.high))
        saved = np.concatenate([losses - other for other in others.values()])
        intervals = bootstrap(saved, options.resamples, options.confidence, rng)
        for points, part in zip(others, np.split(intervals, len(others)), strict=True):
            resampled[points].append(part)
    rows = []
    for points, population in after.items():
        truth = float((before - population).mean())
        verdicts, lows, highs = zip(*student[points], strict=True)
        ours, theirs = np.column_stack([lows, highs]), np.concatenate(resampled[points])
        rows.append(
            {
                "points": points,
                "images": images,
                "true_gain": round(truth, 5),
                "student": shares(np.array(verdicts), ours, truth),
                "bootstrap": shares(verdicts_of(theirs, options.min_gain), theirs, truth),
            }
        )
    return rows


def main() -> None:
    """Simulate every number of points with every number of images, and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=float, nargs="+", default=[0.0, 0.5, 1.0, 3.0], help="true gains in accuracy")
    parser.add_argument("--images", type=int, nargs="+", default=[250, 1_000, 5_000], help="held out")
    parser.add_argument("--repetitions", type=int, default=2_000)
    parser.add_argument("--resamples", type=int, default=2_000, help="of the bootstrap")
    parser.add_argument("--confidence", type=float, default=Search().confidence)
    parser.add_argument("--min-gain", type=float, default=Search().min_gain, help="nats an image")
    parser.add_argument("--accuracy", type=float, default=0.8, help="of the model that may be beaten")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--shared", type=float, default=0.85, help="part of the noise that both models see")
    parser.add_argument("--temperatures", type=float, nargs=2, default=[1.0, 1.0], help="of both models; 1: calibrated")
    parser.add_argument("--population", type=int, default=500_000, help="images that the held-out ones are drawn from")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    population = Images.draw(options.population, options.classes, options.shared, rng)
    before, chosen = population.answers(0, population.skill(options.accuracy), options.temperatures[0])
    after, models = {}, {}
    for points in options.points:
        skill = population.skill(options.accuracy + points / 100)
        after[points], other = population.answers(1, skill, options.temperatures[1])
        models[points] = {
            "accuracy": round(float((other == 0).mean()), 5),
            "log_loss": round(float(after[points].mean()), 4),
            "saved_std": round(float((before - after[points]).std()), 4),
            "disagreement": round(float((other != chosen).mean()), 4),
        }
    rows = []
    for images in options.images:
        print(f"{images:,} images", file=sys.stderr)
        rows += simulate(before, after, images, options, rng)
    settings = ("repetitions", "resamples", "confidence", "min_gain", "accuracy", "classes", "shared", "temperatures")
    found = {
        **{name: getattr(options, name) for name in settings},
        "log_loss": round(float(before.mean()), 4),
        "models": models,
        "rows": rows,
    }
    print(json.dumps({"benchmark": "stopping_rule", **found, "machine": machine()}))


if __name__ == "__main__":
    main()
