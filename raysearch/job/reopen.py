"""The job of a run that goes on: what it was started with must still be there, and be the same."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from raysearch.data.dataset import Dataset
from raysearch.data.source import in_full
from raysearch.data.unlabelled import load_unlabelled
from raysearch.errors import InputError, Problems
from raysearch.job.budget import most_to_start
from raysearch.job.flags import Flags
from raysearch.job.images import images_of
from raysearch.job.job import Job, settled, space_of_run
from raysearch.job.networks import Networks
from raysearch.job.numbers import check_numbers, seconds
from raysearch.job.places import machine_for, storage_at
from raysearch.job.settings import BALANCE, Settings
from raysearch.models.weights import Weights, load_weights
from raysearch.record.folder import RunFolder
from raysearch.record.goal import Goal
from raysearch.record.info import Fingerprints, RunInfo
from raysearch.record.prior import PRIOR
from raysearch.space.space import Space
from raysearch.workers.machine import Machine


def reopen(saved: RunInfo, space_file: Path, flags: Flags) -> Job:
    """The job of a run that is resumed: its own settings, with more trials or another time budget if asked.

    Args:
        saved: run.json.
        space_file: the run's own copy of its space.
        flags: of the resume.

    Raises:
        InputError: the data or the weights are not what they were, or a flag cannot be used; all problems together.
    """
    settings, prints = _saved(saved, space_file.parent)
    problems = Problems()
    machine_flags_fit = check_numbers(flags, problems)
    settings = _extended(settings, flags, problems)
    space = _space(settings, saved, space_file, problems)
    problems.check(
        flags.unlabelled is None or settings.unlabelled is not None,
        f"--unlabelled {flags.unlabelled}: the run was started without; start a new one",
    )
    moved = {"data": flags.data, "images": flags.images, "unlabelled": flags.unlabelled}
    given = {key: in_full(str(where)) for key, where in moved.items() if where is not None}
    settings = settings.model_copy(update=given)
    dataset, networks = _images(settings, problems), _networks(settings, problems)
    weights = _weights(settings, problems) if networks is None else next(iter(networks.weights.values()))
    unlabelled = _unlabelled(settings, dataset, problems)
    storage = problems.attempt(storage_at, settings.storage) if settings.storage is not None else None
    problems.check(
        dataset is None or dataset.fingerprint == prints["data"],
        f"the images of {settings.data} are not those that the run was started with; start a new run",
    )
    problems.check(
        unlabelled is None or unlabelled.fingerprint == prints.get("unlabelled"),
        f"the images without labels of {settings.unlabelled} are not those that the run was started with; start a new "
        "run, or put them back",
    )
    problems.check(
        weights is None or weights.digest == prints["weights"],
        f"the weights {settings.weights} are not those that the run was started with; start a new run",
    )
    for name in networks.changed_since(saved) if networks is not None else ():
        problems.found.append(f"the weights of {name} are not those that the run was started with; start a new run")
    problems.check(
        not settings.learn_from or (space_file.parent / PRIOR).is_file(),
        f"{space_file.parent / PRIOR} is gone, in which the run keeps what it learned from "
        f"{' and '.join(settings.learn_from)}; put it back, or start a new run",
    )
    machine = _machine(settings, flags, problems) if machine_flags_fit else None
    problems.stop_if_any()
    assert space is not None and dataset is not None and weights is not None and machine is not None
    return Job(
        settings,
        settled(space, settings),
        dataset,
        weights,
        machine,
        storage=storage,
        networks=networks,
        unlabelled=unlabelled,
    )


def note_places(run: RunFolder, settings: Settings) -> None:
    """Write into run.json where a run's images are now, if that is elsewhere: who opens it later looks there."""
    saved = run.info["settings"]
    places = settings.model_dump(mode="json", include={"data", "images", "unlabelled"})
    if any(saved.get(key) != where for key, where in places.items()):
        run.update_info(settings={**saved, **places})


def _saved(saved: RunInfo, folder: Path) -> tuple[Settings, Fingerprints]:
    """The settings of a run, and the fingerprints of its data and weights."""
    try:
        return Settings.model_validate(saved["settings"]), saved["fingerprints"]
    except (KeyError, ValidationError) as error:
        raise InputError(
            f"the run in {folder} broke off before it began, or is none of this version; start a new one"
        ) from error


def _extended(settings: Settings, flags: Flags, problems: Problems) -> Settings:
    """The settings with what a resume may change: more trials, another time budget, more patience."""
    counted = _counted(settings)
    had = getattr(settings, counted)
    trials = had if flags.trials is None else flags.trials
    problems.check(not 0 < trials < had, f"--trials {trials}: the run has {had} already; it can only grow")
    time_budget = problems.attempt(seconds, flags.time_budget) if flags.time_budget is not None else None
    failures = settings.max_failures if flags.max_failures is None else flags.max_failures
    point = settings.ship_point if flags.ship_point is None else flags.ship_point
    several = Goal.of(settings.metric, settings.require).several
    if point not in (BALANCE, *several) and re.fullmatch(r"[ht]\d{4,}", point) is None:
        known = " or ".join((BALANCE, *several, "a trial such as t0007"))
        problems.found.append(f"--ship-point {point}: give {known}")
    problems.check(point == BALANCE or settings.refits > 0, f"--ship-point {point}: the run trains nothing again")
    changed = {"time_budget": time_budget, counted: trials, "max_failures": failures, "ship_point": point}
    return settings.model_copy(update=changed)


def _counted(settings: Settings) -> str:
    """The field that --trials sets."""
    return "trials" if settings.trials else "heads"


def _space(settings: Settings, saved: RunInfo, file: Path, problems: Problems) -> Space | None:
    """The run's own space, with as many combinations as there are to be trials."""
    space = problems.attempt(space_of_run, file, settings, saved)
    if space is None:
        return None
    trials, most = getattr(settings, _counted(settings)), most_to_start(space)
    problems.check(
        trials <= most, f"--trials {trials}: the space has {most} combinations; widen it and start a new run"
    )
    return space


def _images(settings: Settings, problems: Problems) -> Dataset | None:
    """The images, where the settings say that they are; they may have moved."""
    try:
        return images_of(settings)
    except InputError as error:
        problems.found += error.problems
        moved = "if the images of the run are elsewhere now, say where by --data: they are known by their content"
        problems.check(Path(settings.data).exists(), moved)
        return None


def _networks(settings: Settings, problems: Problems) -> Networks | None:
    if not settings.networks:
        return None
    return problems.attempt(Networks.load, settings.networks, settings.weights, settings.seed)


def _unlabelled(settings: Settings, dataset: Dataset | None, problems: Problems) -> Dataset | None:
    if settings.unlabelled is None or dataset is None:
        return None
    return problems.attempt(load_unlabelled, Path(settings.unlabelled), dataset, group_by=settings.group_by)


def _weights(settings: Settings, problems: Problems) -> Weights | None:
    return problems.attempt(load_weights, settings.backbone, settings.weights, settings.seed)


def _machine(settings: Settings, flags: Flags, problems: Problems) -> Machine | None:
    """What a trial gets; with as many workers as before it is what it got, unless the flags say otherwise."""
    workers = flags.workers_per_trial or settings.workers_per_trial
    before = settings.concurrent if workers == settings.workers_per_trial else None
    machine = problems.attempt(machine_for, settings.device, flags, workers, before)
    if machine is not None and flags.concurrent is None and before is not None and machine.address is None:
        return replace(machine, cpus=settings.cpus_per_trial)
    return machine
