"""The winner, trained again with fresh seeds."""

from __future__ import annotations

import logging
from typing import Any

from raysearch.job.job import Job
from raysearch.pipeline.progress import Progress
from raysearch.recipe import Recipe
from raysearch.record.folder import RunFolder
from raysearch.record.trial import Trial
from raysearch.search.driver import Driver
from raysearch.workers.refit import refit, refit_recipe, refit_seeds

logger = logging.getLogger(__name__)


def _refit(
    job: Job, run: RunFolder, winner: Trial, workers: int, driver: Driver, progress: Progress, bench: dict[str, Any]
) -> list[dict[str, Any]]:
    """The winner with fresh seeds, logged; nothing if no refits are wanted."""
    settings, machine = job.settings, job.machine
    assert winner.best is not None
    recipe = Recipe.model_validate(winner.recipe)
    path = driver.controller.path(winner)
    kept_epochs = [trial.best["epoch"] for trial in path if trial.best is not None]
    recipes = [
        refit_recipe(recipe, seed, kept_epochs, settings.refit_on)
        for seed in refit_seeds(settings.seed, settings.refits)
    ]
    if not recipes:
        return []
    progress.view.note(f"Training {winner.name} again with {len(recipes)} fresh seeds")

    def lost(reason: str) -> None:
        driver.log({"event": "refit_lost", "reason": reason})
        progress.view.note(f"The refits were lost ({reason}); those that had not ended begin again")

    outcomes = refit(
        run.folder,
        winner.name,
        bench,
        recipes,
        on=settings.refit_on,
        workers=workers,
        gpus=min(1.0, machine.gpus),
        max_failures=settings.max_failures,
        watch=progress.refits,
        lost=lost,
        storage=run.storage,
    )
    for one in outcomes:
        driver.log({"event": "refit_failed" if "error" in one else "refit", "trial": winner.name, **one})
    return [one for one in outcomes if "error" not in one]
