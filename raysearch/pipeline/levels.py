"""What the driver asks between the parts of a search: how networks compare after the head search, what a level brought,
and with which recipes its learning rates are tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from raysearch.data.dataset import Split
from raysearch.job.job import Job
from raysearch.models.registry import backbone_spec
from raysearch.recipe import Recipe
from raysearch.record.folder import RunFolder
from raysearch.record.level_events import Behind, Brought
from raysearch.record.trial import Trial
from raysearch.search.backbones import HeadsCompared, ranked
from raysearch.search.verdict import judge
from raysearch.training.checkpoint import load_answers, load_tensors
from raysearch.training.decisions import Decisions
from raysearch.training.paired import compare

CONFIDENCE = 0.95
"""Of the two-sided interval that must lie above 0 for a network to leave."""


def judge_of(job: Job, run: RunFolder) -> Callable[[Trial, Trial | None], Brought]:
    """Says what a level brought: its leader against its control, on the images that were held out."""
    search = job.space.search

    def losses(trial: Trial) -> list[float]:
        return load_tensors(run.best_tensors(trial.name))[1]["held_out"]

    def judge_level(leader: Trial, control: Trial | None) -> Brought:
        blocks = backbone_spec(leader.recipe.backbone).block_names
        before = len(blocks) - leader.recipe.schedule[leader.stage - 1].depth
        opened, open_before = list(blocks[len(blocks) - leader.depth : before]), list(blocks[before:])
        if control is None or control.best is None:
            return {"verdict": "untested", "opened": opened, "before": open_before}
        before_it, after = losses(control), losses(leader)
        groups = _groups(job.dataset.halved(job.settings.seed)[1], len(after))
        found = judge(before_it, after, confidence=search.confidence, min_gain=search.min_gain, groups=groups)
        return {
            "verdict": found.verdict,
            "opened": opened,
            "before": open_before,
            "gain": found.gain,
            "low": found.low,
            "high": found.high,
            "images": found.images,
        }

    return judge_level


def compare_of(job: Job, run: RunFolder) -> Callable[[Mapping[str, Trial | None]], HeadsCompared]:
    """Says how the best heads of several networks compare, by what they make of the same validation images."""

    def compared(heads: Mapping[str, Trial | None]) -> HeadsCompared:
        best, *others = ranked(job.rules, heads)
        found = {name: load_answers(run.best_tensors(head.name)) for name in (best, *others) if (head := heads[name])}
        logits, labels = found[best]
        images = job.dataset.halved(job.settings.seed)[0] if job.space.tested else job.dataset
        groups = _groups(images.val, len(labels))
        behind: dict[str, Behind] = {}
        for name in others:
            ours, theirs = Decisions(logits), Decisions(found[name][0])
            one = compare(job.goal, ours, theirs, labels.numpy(), job.dataset.classes, CONFIDENCE, groups)
            behind[name] = {"mean": one.mean, "low": one.low, "high": one.high}
        return HeadsCompared(behind, len(labels), CONFIDENCE)

    return compared


def _groups(split: Split, images: int) -> NDArray[np.int64] | None:
    """The groups of a split's images; None for a quick look, which takes fewer of them."""
    return split.groups if len(split) == images else None


def range_test_of(job: Job) -> Callable[[int, Trial], dict[str, Recipe]]:
    """Says with which recipe the learning rates of each depth of a level are tested."""

    def recipes(level: int, start: Trial) -> dict[str, Recipe]:
        recipe = job.space.recipe({}, job.settings.max_epochs)
        found = {}
        for depth in job.space.every_value(f"schedule.{level}.depth"):
            stage = recipe.schedule[level].model_copy(update={"depth": depth, "inherit": None})
            schedule = (*start.recipe.schedule, stage)
            found[str(depth)] = start.recipe.model_copy(update={"schedule": schedule})
        return found

    return recipes
