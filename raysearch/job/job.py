"""A search with everything that its settings name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from raysearch.data.dataset import Dataset
from raysearch.job.budget import most_a_level
from raysearch.job.networks import Networks
from raysearch.job.settings import Settings
from raysearch.job.starting_head import StartingHead
from raysearch.models.weights import Weights
from raysearch.recipe import Recipe, named_network, network_name, networks_of
from raysearch.record.goal import Goal
from raysearch.record.info import RunInfo
from raysearch.record.metric import larger_is_better
from raysearch.record.prior import Prior
from raysearch.search.asha import rungs_for
from raysearch.search.rules import Rules
from raysearch.space.load import load_space
from raysearch.space.space import Space
from raysearch.storage.remote import Storage
from raysearch.training.bench import Bench
from raysearch.workers.machine import Machine


@dataclass(frozen=True)
class Job:
    """Settings with what they name: the space, the data, the weights."""

    settings: Settings
    space: Space
    dataset: Dataset
    weights: Weights
    """Of its network; of several, the first one's."""
    machine: Machine
    head: StartingHead | None = None
    """The head of an earlier run, when a search begins from one; later it is the run's own."""
    storage: Storage | None = None
    """The place that the settings name."""
    networks: Networks | None = None
    """Those that the search chooses among, if there are several."""
    unlabelled: Dataset | None = None
    """Images without labels, all of them in `train`."""
    prior: Prior | None = None
    """What earlier runs say of recipes, when a search begins; later it is in the run folder."""

    def weights_of(self, recipe: Recipe) -> Weights:
        """The base weights of a recipe's network."""
        return self.weights if self.networks is None else self.networks.shelf.of(recipe)

    def weights_lines(self) -> list[str]:
        """Which base weights there are, and why these; and which networks at hand are left out."""
        if self.networks is None:
            return [f"Weights: {self.weights.origin} ({self.weights.reason})"]
        named = self.networks.weights.items()
        return [
            *(f"Weights of {_told(name)}: {one.origin} ({one.reason})" for name, one in named),
            *(f"left out: {one}" for one in self.networks.left_out),
        ]

    def bench_here(self) -> Bench:
        """A bench in this process, which may have no accelerator."""
        shelf = None if self.networks is None else self.networks.shelf
        return Bench(self.dataset, self.weights, torch.device("cpu"), self.settings.precision, shelf=shelf)

    @property
    def goal(self) -> Goal:
        """What the search is after."""
        return Goal.of(self.settings.metric, self.settings.require)

    @property
    def head_rungs(self) -> tuple[int, ...]:
        """The epochs after which the heads of a pack are compared; the last is the longest that one trains."""
        search, epochs = self.space.search, self.space.head_epochs()
        if self.space.heads_only:
            epochs = min(epochs, self.settings.max_epochs)
        return rungs_for(epochs, search.reduction, search.first_rung_epochs)

    @property
    def rules(self) -> Rules:
        """How the search compares trials."""
        return rules_of(self.settings, self.space)


def rules_of(settings: Settings, space: Space) -> Rules:
    """How a search of these settings compares trials.

    Args:
        settings: of the search.
        space: settled.
    """
    return Rules(
        settings.rungs,
        settings.reduction,
        f"val_{settings.metric}",
        larger_is_better(settings.metric),
        Goal.of(settings.metric, settings.require).require,
        max_failures=settings.max_failures,
        levels=tuple(space.levels),
        most=most_a_level(space),
        beam=space.search.beam,
        tested=space.tested,
        lr_find=space.search.lr_find,
        deepest_wins=space.search.winner == "deepest",
        networks=settings.networks,
        networks_kept=space.search.networks,
    )


def _told(network: str) -> str:
    backbone, _, size = named_network(network)
    return f"{backbone}, {size} px"


def settled(space: Space, settings: Settings) -> Space:
    """The space with what a run has once, as it was resolved, so that every recipe says what is really used."""
    schedule = space.tree["schedule"]
    if settings.max_batches is not None:  # --fast-dev-run: one epoch of each stage
        schedule = [stage | {"epochs": 1} for stage in schedule]
    if settings.networks:
        space = space.among(settings.networks)
    elif space.networks or space.own:
        space = space.only(network_name(settings.backbone, settings.weights, settings.image_size))
    return replace(space, tree=space.tree | settings.shared | {"schedule": schedule}, fixed={})


def space_of_run(file: Path, settings: Settings, saved: RunInfo) -> Space:
    """The space of a run that has begun, with the head that its trials start from, if it was given one; not settled.

    Args:
        file: the run's space.py.
        settings: of the run.
        saved: its run.json.

    Raises:
        InputError: the file is gone, or cannot be read.
    """
    space = load_space(str(file), fixed=settings.shared, networks=networks_of(settings.model_dump()))
    return space.with_head(Recipe.model_validate(saved["head"]["recipe"])) if "head" in saved else space
