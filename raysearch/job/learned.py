"""What a search is told of earlier ones: `--learn-from RUN…`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from raysearch.errors import InputError
from raysearch.job.job import Job
from raysearch.job.past import PastSearch, PastTrial, family_of, opened
from raysearch.recipe import named_network
from raysearch.record.prior import Prior, PriorRun, PriorTrial
from raysearch.search.prior import WORTH, spread
from raysearch.space.domains import contains
from raysearch.space.first import first_recipes
from raysearch.space.space import Space, decode, describe

_GIVEN = "--learn-from"


def learned(names: Sequence[str], results: Path, space: Space, backbone: str) -> Prior:
    """The trials of earlier runs that a search could have drawn itself, as the prior of its proposals.

    Args:
        names: of the runs.
        results: where they are looked for.
        space: of the search, settled.
        backbone: of the search, if it has one network.

    Raises:
        InputError: a run cannot be read, is of networks of another family, or has no trial that this search could
            draw; or the search has nothing to be told. All problems together.
    """
    problems = []
    if space.search.sampler != "tpe":
        problems.append(
            f'{_GIVEN}: the sampler of the space {space.name} is "{space.search.sampler}", which learns from no trial; '
            'earlier runs can tell "tpe" something'
        )
    if not any(paths for _, _, paths in _kinds(space)):
        problems.append(f"{_GIVEN}: the space {space.name} searches nothing, so there is nothing to learn")
    if problems:
        raise InputError(problems)
    runs = opened(list(names), results, _GIVEN)
    here = [named_network(one).backbone for one in space.networks] or [backbone]
    families = list(dict.fromkeys(map(family_of, here)))
    read = [_read(number, past, space, families, problems) for number, past in enumerate(runs)]
    if problems:
        raise InputError(problems)
    kinds = {(trial["head"], trial["stage"]) for _, trials in read for trial in trials}
    in_turn: list[PriorTrial] = []
    for kind in sorted(kinds):
        of_each = [[one for one in trials if (one["head"], one["stage"]) == kind] for _, trials in read]
        in_turn += [one for turn in zip_longest(*of_each) for one in turn if one is not None]
    return Prior(runs=[run for run, _ in read], trials=in_turn)


def _kinds(space: Space) -> list[tuple[bool, int, list[str]]]:
    """What a search proposes: whether it is a head, its stage, and what is drawn for it."""
    heads = [(True, 0, space.head_paths())] if space.search.heads else []
    return [*heads, *((False, level, space.trial_paths(level)) for level in space.levels)]


def _read(
    number: int, past: PastSearch, space: Space, families: Sequence[str], problems: list[str]
) -> tuple[PriorRun, list[PriorTrial]]:
    """What one run has to say; notes why, if that is nothing."""
    trials: list[PriorTrial] = []
    compared, reason = 0, f"it compared no trials of the stages that {space.name} searches"
    for head, stage, paths in _kinds(space):
        ranked = past.compared(stage, heads=head)
        compared += len(ranked) if paths else 0
        kept: list[PriorTrial] = []
        for rank, one in enumerate(ranked if paths else []):
            values = _as_drawn_here(one, past, space, paths)
            wrong = _why_not(one, values, space, paths, families)
            if wrong is not None:
                reason = wrong
                continue
            place = 1 - (rank + 0.5) / len(ranked)
            kept.append(
                PriorTrial(run=number, trial=one.trial.name, head=head, stage=stage, place=place, params=values)
            )
        trials += [kept[at] for at in spread(len(kept))] if kept else []
    if not trials:
        problems.append(f"{_GIVEN} {past.run.name}: none of its trials could have been drawn here: {reason}")
    settings = past.settings
    about = PriorRun(
        run=past.run.name,
        data=settings.data,
        backbone=settings.backbone,
        compared=compared,
        left_out=compared - len(trials),
    )
    return about, trials


def _as_drawn_here(one: PastTrial, past: PastSearch, space: Space, paths: list[str]) -> dict[str, object]:
    """The values of an earlier trial, of what is drawn here. What it searched, or had fixed, is in its recipe.

    Where both searches move what they draw (by range tests, or a network's own ranges), it is what was drawn.
    """
    values = one.values(paths)
    if _moves(past.space) and _moves(space):
        values |= {path: value for path, value in one.trial.params.items() if path in paths}
    if "backbone" in paths:
        mine = named_network(one.trial.network)
        alike = [name for name in space.networks if named_network(name).backbone == mine.backbone]
        values |= {"backbone": next(iter(alike), one.trial.network)}
    return values


def _moves(space: Space) -> bool:
    return bool(space.own) or space.search.lr_find


def _why_not(
    one: PastTrial, values: dict[str, object], space: Space, paths: list[str], families: Sequence[str]
) -> str | None:
    """Why this search could not have drawn an earlier trial; None if it could."""
    family = family_of(one.trial.recipe.backbone)
    if family not in families:
        return f"its network is {one.trial.recipe.backbone}, of another family than {' and '.join(families)}"
    for path in paths:
        if path not in values:
            return f"it says nothing of {path}, which is searched here"
        if not contains(space.distributions[path], values[path]):
            return f"{path} is {decode(values[path])} in {one.trial.name}, here {describe(space.distributions[path])}"
    return None


def beforehand(job: Job) -> list[str]:
    """What a search takes from elsewhere, a line each: recipes that its space names, trials of earlier runs."""
    first, found = first_recipes(job.space), []
    if first:
        wanted = job.settings.heads if job.space.heads_only else job.settings.trials
        told = f"{len(first)} recipe(s) that the space names"
        short = f"; of these, the first {max(0, wanted - 1)} fit" if len(first) >= wanted else ""
        found.append(f"Tried first, after the default: {told}{short}")
    if job.prior is not None:
        runs = (f"{one['run']} ({one['compared'] - one['left_out']} of {one['compared']})" for one in job.prior["runs"])
        found.append(
            f"Learning from trials of {', '.join(runs)}: up to {WORTH} of them stand beside this search's own when a "
            "recipe is drawn, one fewer with each that it has compared"
        )
    return found
