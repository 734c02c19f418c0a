"""A search that has run, read again: its space, and how its trials stood against each other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raysearch.errors import InputError
from raysearch.job.images import settings_of
from raysearch.job.job import rules_of, settled, space_of_run
from raysearch.job.settings import Settings
from raysearch.recipe import Values, flatten
from raysearch.record.files import LOG
from raysearch.record.folder import RunFolder
from raysearch.record.trial import Trial
from raysearch.search.compared import comparable, shortfall
from raysearch.search.state import SearchState
from raysearch.space.space import Space, encode


@dataclass(frozen=True)
class PastTrial:
    """A trial or head of an earlier run, and how it stood."""

    trial: Trial
    regret: float
    """0 for the best of its run and stage, 1 for the worst."""

    def values(self, paths: list[str]) -> Values:
        """What it was trained with, at those of these dotted paths that its recipe has, encoded."""
        written = flatten(self.trial.written_recipe, whole=paths)
        return {path: encode(written[path]) for path in paths if path in written}


@dataclass(frozen=True)
class PastSearch:
    """A run, as far as it came."""

    run: RunFolder
    settings: Settings
    space: Space
    """As its trials were drawn from it."""
    state: SearchState

    @staticmethod
    def open(name: str, results: Path) -> PastSearch:
        """The run of that name.

        Raises:
            InputError: there is none, it broke off before it began, or space or log cannot be read; all problems.
        """
        run = RunFolder.open(name, results)
        settings = settings_of(run)
        space = settled(space_of_run(run.folder / "space.py", settings, run.info), settings)
        state = SearchState(rules_of(settings, space))
        state.replay(run.events(), str(run.folder / LOG))
        return PastSearch(run, settings, space, state)

    @property
    def family(self) -> str:
        """The kind of its network: see `family_of`."""
        return family_of(self.settings.backbone)

    def compared(self, stage: int, *, heads: bool = False) -> list[PastTrial]:
        """What it compared with each other, best first: trials of a level, controls aside, or heads.

        Trials are compared as its sampler compared them: by what the search was after, on its validation images, less
        what trials usually gained on their way to the same rung. With several metrics the regret is the mean of each
        one's. What misses the bounds that the search had is as bad as its worst.
        """
        rungs = self.state.rungs
        made = self.state.packs.latest_first() if heads else self.state.tree.latest_first(stage)
        known = [one for one in made if one.best is not None and not one.failed]
        scores = {
            name: each for name, each in comparable(known, rungs).items() if bool(np.isfinite(np.array(each)).all())
        }
        known = sorted((one for one in known if one.name in scores), key=lambda one: one.number)
        if not known:
            return []
        table = np.array([scores[one.name] for one in known], dtype=np.float64)
        best, worst = table.max(axis=0), table.min(axis=0)
        regret = ((best - table) / np.where(best > worst, best - worst, 1.0)).mean(axis=1)
        short = np.array([(shortfall(one, rungs) or 0.0) > 0 for one in known])
        found = [PastTrial(one, float(each)) for one, each in zip(known, np.where(short, 1.0, regret), strict=True)]
        return sorted(found, key=lambda one: one.regret)  # stable: the earlier of equals first


def family_of(backbone: str) -> str:
    """What networks of one design have in common: the letters that their names begin with.

    A depth means the same in one family, and a learning rate about the same.

    >>> family_of("densenet121"), family_of("timm/resnet50.a1_in1k"), family_of("vit_b_16")
    ('densenet', 'resnet', 'vit')
    """
    found = re.match("[a-z]+", backbone.removeprefix("timm/").lower())
    return found.group() if found is not None else backbone


def opened(names: list[str], results: Path, given: str) -> list[PastSearch]:
    """The runs of these names.

    Args:
        names, results: as of `PastSearch.open`.
        given: the flag or verb that named them.

    Raises:
        InputError: what is wrong with any of them, all together.
    """
    found: list[PastSearch] = []
    problems: list[str] = []
    for name in names:
        try:
            found.append(PastSearch.open(name, results))
        except InputError as error:
            problems += [f"{given} {name}: {problem}" for problem in error.problems]
    problems += [f"{given}: {name} is named twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if problems:
        raise InputError(problems)
    return found
