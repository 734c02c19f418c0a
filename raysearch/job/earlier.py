"""A finished run that another search continues (`--continue RUN`): its recipe, its head and its images."""

from __future__ import annotations

import pprint
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from raysearch.data.dataset import Dataset
from raysearch.errors import InputError, Problems
from raysearch.job.flags import Flags
from raysearch.job.images import images_before, settings_of
from raysearch.job.settings import Settings
from raysearch.job.starting_head import StartingHead, starting_head
from raysearch.models.head import make_head
from raysearch.recipe import Recipe, flatten
from raysearch.record.folder import RunFolder
from raysearch.record.trial import Trials
from raysearch.space.domains import contains
from raysearch.space.load import load_space
from raysearch.space.space import Space, decode, encode
from raysearch.winner.best import load_best

_OF_THE_RECIPE = ("backbone", "weights", "image_size", "fit")
_OF_THE_RUN = ("metric", "seed")
"""Flags that the run and its recipe give where they are not typed."""


@dataclass(frozen=True)
class Earlier:
    """What a run leaves to the one that continues it."""

    run: RunFolder
    settings: Settings
    dataset: Dataset
    """Its images, as it split them."""
    trial: str
    """The one whose recipe it chose."""
    recipe: Recipe
    """That recipe, as its search trained it."""
    head: StartingHead

    @staticmethod
    def open(name: str, results: Path) -> Earlier:
        """The run of that name.

        Raises:
            InputError: it is not finished, has no winner, started from no head, or its images are gone; all together.
        """
        problems, given = Problems(), f"--continue {name}"
        try:
            run = RunFolder.open(name, results)
            settings = settings_of(run)
        except InputError as error:
            raise InputError([f"{given}: {problem}" for problem in error.problems]) from error
        events, evaluation = run.events(), run.evaluation
        if not any(event["event"] == "finished" for event in events) or evaluation is None:
            raise InputError(f"{given}: that run is not finished; go on with it first: --resume {run.folder}")
        problems.attempt(load_best, run.folder / "best")
        trials = Trials.of(events)
        chosen = trials[evaluation["trial"]]
        dataset = problems.attempt(lambda: images_before(run).at(chosen.recipe.image_size))
        head = None
        if chosen.is_head or chosen.recipe.depth == 0 or not any(one.is_head for one in trials.values()):
            problems.found.append(
                f"{chosen.name}, whose recipe it chose, started from no head of a head search; train that recipe anew: "
                f"--recipe {run.folder / 'best' / 'recipe.json'} --data SOURCE"
            )
        else:
            head = problems.attempt(starting_head, run, chosen.recipe, "--continue")
        if problems.found or dataset is None or head is None:
            raise InputError([f"{given}: {problem.removeprefix(f'{given}: ')}" for problem in problems.found])
        return Earlier(run, settings, dataset, chosen.name, chosen.recipe, head)

    def flags(self, flags: Flags) -> Flags:
        """The flags, with what the run gives where nothing was typed."""
        given = {name: getattr(self.recipe, name) for name in _OF_THE_RECIPE}
        given |= {name: getattr(self.settings, name) for name in _OF_THE_RUN}
        untyped = {name: value for name, value in given.items() if getattr(flags, name) is None}
        return replace(flags, **untyped, require=flags.requirements or self.settings.require)

    def space_text(self) -> str:
        """The text of the run's own space, with its recipe as the default; of several networks, with its own alone."""
        file = self.run.folder / "space.py"
        space, alone = load_space(str(file), fixed=self.settings.shared), ""
        if space.networks:
            network = {name: getattr(self.recipe, name) for name in ("backbone", "weights", "image_size")}
            alone = f"space = space | {network!r}\n"
            if any("backbone" in one for one in space.first):  # which is searched no more
                alone += 'search = search.model_copy(update={"first": ()})\n'
        default = pprint.pformat(_tree(space, _default(space, self.recipe)), width=100, sort_dicts=False)
        told = f"# Continued: the recipe of {self.trial} of {self.run.name} is the default."
        return f"{space.source.rstrip()}\n\n{told}\n{alone}default = {default}\n"


def grown(head: StartingHead, classes: Sequence[str], same: dict[str, str]) -> dict[str, Tensor]:
    """The tensors of a head for other classes: the rows of those that are the same, fresh ones for those that are new.

    Args:
        head: of the earlier run.
        classes: the c that there are now, in the order of the logits.
        same: the earlier run's name of each class that both have, by its name now.

    Returns: by name, "head.linear.weight" of shape (c, features) among them.
    """
    first = f"head.{head.recipe.head.kind}.weight"  # a head's kind is the name of its first layer
    fresh = make_head(head.tensors[first].shape[1], head.recipe.head, len(classes), head.recipe.seed).state_dict()
    found = {f"head.{name}": tensor for name, tensor in fresh.items()}
    known = {name: number for number, name in enumerate(head.info["classes"])}
    for name, tensor in found.items():
        before = head.tensors[name]
        if not name.startswith("head.linear."):
            found[name] = before.clone()
            continue
        for row, label in enumerate(classes):
            if label in same:
                tensor[row] = before[known[same[label]]]
    return found


def _default(space: Space, recipe: Recipe) -> dict[str, Any]:
    """The value of each searched field but the network that becomes the recipe's, where its network has own ranges.

    It is the space's default where the recipe has none, or one out of range.
    """
    given = {path: encode(value) for path, value in flatten(recipe.model_dump(), whole=space.distributions).items()}
    own, found = space.own.get(recipe.backbone, {}), {}
    for path, distribution in space.distributions.items():
        if path in given and contains(own.get(path, distribution), given[path]):
            found[path] = space.common_value(recipe.backbone, path, given[path])
        else:
            found[path] = space.default[path]
    return {path: value for path, value in found.items() if path != "backbone"}


def _tree(space: Space, values: dict[str, Any]) -> dict[str, Any]:
    """Values by their dotted paths, as a space file has them."""
    stages: list[dict[str, Any]] = [{} for _ in space.tree["schedule"]]
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *where, leaf = path.split(".")
        level: Any = tree
        if where[:1] == ["schedule"]:
            level, where = stages[int(where[1])], where[2:]
        for name in where:
            level = level.setdefault(name, {})
        level[leaf] = decode(value)
    return tree | {"schedule": stages}
