"""A person's own portfolio: of the recipes that their runs tried, a few that complement each other."""

from __future__ import annotations

import pprint
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from raysearch.errors import InputError
from raysearch.job.past import PastSearch, PastTrial, opened
from raysearch.recipe import Values
from raysearch.search.portfolio import complementary, regret_after
from raysearch.search.surrogate import estimated
from raysearch.space.domains import contains
from raysearch.space.first import first_paths
from raysearch.space.load import load_space
from raysearch.space.search import Search
from raysearch.space.space import decode

_LEAST = 4
"""Recipes that a run must have compared: fewer say nothing of those that it did not try."""


@dataclass(frozen=True)
class Pick:
    """A recipe of a portfolio."""

    run: str
    """Where it was tried."""
    trial: str
    values: Values
    """By dotted path, encoded."""
    measured: int
    """Runs that tried this very recipe; in the others its regret is an estimate."""
    regret_after: float
    """The mean over the runs of the least regret of the default and the picks so far."""


@dataclass(frozen=True)
class Portfolio:
    """Complementary recipes, and what they were chosen from."""

    runs: list[PastSearch]
    candidates: int
    default_regret: float
    """The mean over the runs of the default's own regret."""
    picks: list[Pick]

    def space_text(self) -> str:
        """The text of a space file: the first run's space, with these recipes as the first that are tried."""
        first = [{path: decode(value) for path, value in pick.values.items()} for pick in self.picks]
        names = ", ".join(past.run.name for past in self.runs)
        space = self.runs[0].space
        settings = "Search(first=first)" if space.search == Search() else 'Search(**dict(search) | {"first": first})'
        return (
            f"{space.source.rstrip()}\n\n\n"
            f"# A portfolio of recipes that complement each other, from {names}: raysearch portfolio chose them.\n"
            "from raysearch.space import Search  # noqa: E402\n\n"
            f"first = {pprint.pformat(first, width=100, sort_dicts=False)}\n\n"
            f"search = {settings}\n"
        )


def portfolio(names: Sequence[str], results: Path, size: int) -> Portfolio:
    """Chooses, among what the runs tried, recipes that each are good where the default and the others are not.

    The regret of a recipe in a run is 0 for the best that the run tried and 1 for the worst (`PastSearch.compared`);
    where a run did not try it, a random forest of the run's own trials estimates it.

    Args:
        names: of the runs, best on different images.
        results: where they are looked for.
        size: how many recipes.

    Raises:
        InputError: a run cannot be read or compared too little; they do not search the same; nothing is left to choose.
    """
    if size < 1:
        raise InputError(f"--size has to be at least 1, got {size}")
    runs = opened(list(names), results, "portfolio")
    paths = first_paths(runs[0].space)
    _check_alike(runs, paths)
    ranked = [_compared(past) for past in runs]
    problems = [
        f"{past.run.name} compared {len(of_run)} recipes; a portfolio needs at least {_LEAST} of each run"
        for past, of_run in zip(runs, ranked, strict=True)
        if len(of_run) < _LEAST
    ]
    if problems:
        raise InputError(problems)
    distributions = {path: runs[0].space.distributions[path] for path in paths}
    default = {path: runs[0].space.default[path] for path in paths}
    tried = [[one.values(paths) for one in of_run] for of_run in ranked]
    wanted, origins = [default], [("", "")]
    for past, of_run, values_of_run in zip(runs, ranked, tried, strict=True):
        for one, values in zip(of_run, values_of_run, strict=True):
            fits = all(contains(distributions[path], values[path]) for path in paths)
            if fits and values not in wanted:
                wanted.append(values)
                origins.append((past.run.name, one.trial.name))
    if len(wanted) == 1:
        raise InputError(f"no recipe of these runs but the default is one that {runs[0].run.name} could have drawn")
    regret = np.stack(
        [
            estimated(of_run, [one.regret for one in ranks], wanted, distributions)
            for of_run, ranks in zip(tried, ranked, strict=True)
        ]
    )
    order = complementary(regret, size, tried=[0])  # the default
    after = regret_after(regret, [0, *order])
    picks = [
        Pick(*origins[place], wanted[place], sum(wanted[place] in of_run for of_run in tried), float(reached))
        for place, reached in zip(order, after[1:], strict=True)
    ]
    made = Portfolio(runs, len(wanted) - 1, float(after[0]), picks)
    _check_text(made)
    return made


def _compared(past: PastSearch) -> list[PastTrial]:
    if past.space.heads_only:
        return past.compared(0, heads=True)
    return past.compared(past.space.levels[0])


def _check_alike(runs: Sequence[PastSearch], paths: Sequence[str]) -> None:
    """Refuses runs whose recipes are not of one shape, or whose networks are not of one family."""
    first, problems = runs[0], []
    if not paths:
        problems.append(f"{first.run.name} searched nothing, so it has one recipe")
    for past in runs:
        name, own = past.run.name, first_paths(past.space)
        if past.space.networks:
            problems.append(
                f"{name} chose among {len(past.space.networks)} networks; a portfolio is of one network's recipes, so "
                "give runs with one --backbone"
            )
        if past.space.heads_only != first.space.heads_only:
            problems.append(f"{name} and {first.run.name}: one searched heads alone, the other trials")
            continue
        if past.family != first.family:
            problems.append(
                f"{name} is of {past.settings.backbone}, but {first.run.name} of {first.settings.backbone}: a depth is "
                "another thing in another family; give runs of one"
            )
        problems += [f"{first.run.name} searched {path}, but {name} did not" for path in paths if path not in own]
        problems += [f"{name} searched {path}, but {first.run.name} did not" for path in own if path not in paths]
    if problems:
        raise InputError(problems)


def _check_text(made: Portfolio) -> None:
    """What is written must load, before it is written over anything."""
    with TemporaryDirectory(prefix="raysearch-portfolio-") as scratch:
        file = Path(scratch) / "portfolio.py"
        file.write_text(made.space_text(), encoding="utf-8")
        load_space(str(file), fixed=made.runs[0].settings.shared)
