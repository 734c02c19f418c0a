"""A search as its flags resolve: everything checked, every default filled in, before anything is trained."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from raysearch.activations.store import default_limit
from raysearch.data.pixels import MIN_IMAGE_SIZE, Dataset, load
from raysearch.data.source import list_source
from raysearch.errors import InputError, Problems
from raysearch.machine import Machine, ask_numerics, find_machine
from raysearch.models.registry import BACKBONES, backbone_spec
from raysearch.models.weights import Weights, load_weights
from raysearch.recipe import Recipe
from raysearch.run import Run
from raysearch.search.asha import rungs_for
from raysearch.search.tracking.process import check_tracking
from raysearch.search.trial import Rules
from raysearch.space import Space, load_space
from raysearch.starting_head import StartingHead, starting_head
from raysearch.storage import Storage
from raysearch.training.folds import check_folds
from raysearch.training.metrics import check_metric, larger_is_better

Preset = Literal["quick", "default", "best"]
PRESETS: dict[str, dict[str, int]] = {
    "quick": {"trials": 12, "max_epochs": 6, "refits": 3},
    "default": {"trials": 32, "max_epochs": 12, "refits": 3},
    "best": {"trials": 100, "max_epochs": 30, "refits": 5},
}
DEFAULTS: dict[str, Any] = {
    "data": "cifar10-mini",
    "backbone": "densenet121",
    "weights": "auto",
    "metric": "accuracy",
    "device": "auto",
    "fit": "squash",
}
RECIPE_FLAGS = ("backbone", "weights", "image_size", "fit", "seed")
"""Flags that are fields of the recipe; a space may fix them instead."""


class Settings(BaseModel):
    """What makes a search this search: kept in run.json, and taken from there by a resume."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: str
    data: str
    image_size: int
    """pixels"""
    fit: Literal["squash", "crop", "pad"]
    backbone: str
    weights: str
    """What loads the same weights again: imagenet, bundled, random or a path."""
    metric: str
    seed: int
    device: str
    precision: str
    preset: Preset
    concurrent: int
    workers_per_trial: int
    """Processes that train one trial together; another number gives other last digits."""
    cpus_per_trial: int
    """Threads of one worker: another number gives other last digits, so a resume keeps it unless told otherwise."""
    trials: int
    heads: int
    """Of the head search; where that is the whole search, what --trials counts."""
    head: str | None
    """The run whose best head the trials start from, if it was trained there."""
    max_epochs: int
    rungs: tuple[int, ...]
    """epochs"""
    reduction: int
    cache: Literal["auto", "on", "off"]
    cache_bytes: int
    """Disk that cached activations may take."""
    refits: int
    refit_on: Literal["train", "train+val"]
    max_batches: int | None
    """Batches an epoch at most; --fast-dev-run sets it to two."""
    max_failures: int
    """How often a trial may lose its process before it counts as failed; losing its machine does not count."""
    time_budget: float | None
    """seconds"""
    wandb: str | None
    """PROJECT or ENTITY/PROJECT; None: not shown there."""
    wandb_mode: Literal["online", "offline"] | None
    """None: online if there is a key."""
    tensorboard: bool
    storage: str | None
    """URI of the folder that the run has a copy of its folder in, and its checkpoints."""


@dataclass(frozen=True)
class Job:
    """Settings with what they name: the space, the data, the weights."""

    settings: Settings
    space: Space
    dataset: Dataset
    weights: Weights
    machine: Machine
    head: StartingHead | None = None
    """Of an earlier run; only when a search begins, later it is the run's own."""
    storage: Storage | None = None
    """What the settings name."""

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
        settings, space = self.settings, self.space
        return Rules(
            settings.rungs,
            settings.reduction,
            f"val_{settings.metric}",
            larger_is_better(settings.metric),
            max_failures=settings.max_failures,
            levels=tuple(space.levels),
            most=_most_a_level(space),
            beam=space.search.beam,
            tested=space.tested,
            lr_find=space.search.lr_find,
            deepest_wins=space.search.winner == "deepest",
        )


_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(
    rf"(?:({_NUMBER})\s*d)?\s*(?:({_NUMBER})\s*h)?\s*(?:({_NUMBER})\s*m)?\s*(?:({_NUMBER})\s*s)?|({_NUMBER})"
)


def seconds(text: str) -> float:
    """A duration as people write it: 90, 90s, 30m, 1.5h, 1h30m.

    Raises:
        InputError: it is none, or not above 0.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise InputError(f"--time-budget {text}: not a duration; write for example 45s, 30m or 1h30m")
    total = sum(float(n) * unit for n, unit in zip(match.groups(), (86400, 3600, 60, 1, 1), strict=True) if n)
    if not 0 < total < math.inf:
        raise InputError(f"--time-budget {text}: must be above 0")
    return total


def _check_numbers(flags: Any, problems: Problems) -> bool:
    """Notes every number that is out of range; returns whether those that say what a trial gets are fine."""
    for name, least in (
        ("trials", 1),
        ("max_epochs", 1),
        ("image_size", MIN_IMAGE_SIZE),
        ("refits", 0),
        ("concurrent", 1),
        ("workers_per_trial", 1),
        ("refit_workers", 1),
        ("max_failures", 0),
        ("seed", 0),
    ):
        value = getattr(flags, name)
        problems.check(value is None or value >= least, f"--{name.replace('_', '-')} {value}: must be at least {least}")
    problems.check(flags.seed is None or flags.seed < 2**32, f"--seed {flags.seed}: must be below 2**32")
    problems.check(flags.cache_gb is None or flags.cache_gb >= 0, f"--cache-gb {flags.cache_gb}: must be 0 or more")
    gpus = flags.gpus_per_trial
    share = gpus is None or 0 <= gpus <= 1 or (gpus > 1 and gpus % 1 == 0)
    problems.check(share, f"--gpus-per-trial {gpus}: must be a fraction from 0 to 1, or a whole number")
    return share and all(n is None or n >= 1 for n in (flags.concurrent, flags.workers_per_trial))


def resolve(flags: Any, folder: Path | None = None) -> Job:
    """Checks the flags of a new search (see `raysearch.tune.Settings`) and everything that they name.

    Args:
        flags: as they were typed; None where they were not.
        folder: the run folder to be; it must not be there yet.

    Raises:
        InputError: all problems together.
    """
    problems = Problems()
    preset = PRESETS[flags.preset]
    machine_flags_fit = _check_numbers(flags, problems)
    if folder is not None:
        problems.check(
            not folder.exists(),
            f"the run folder {folder} is there already: go on with it by --resume {folder}, "
            "or choose another --run-name",
        )
    budget = problems.attempt(lambda: seconds(flags.time_budget)) if flags.time_budget is not None else None
    problems.attempt(lambda: check_tracking(flags.wandb, flags.wandb_mode))
    storage = None
    if flags.storage is not None:
        storage = problems.attempt(lambda: _storage(flags.storage, folder.name if folder is not None else None))
    given = {key: value for key in (*DEFAULTS, *RECIPE_FLAGS) if (value := getattr(flags, key)) is not None}
    wanted = DEFAULTS | given
    problems.attempt(lambda: backbone_spec(wanted["backbone"]))
    machine = (
        problems.attempt(lambda: find_machine(wanted["device"], flags, flags.workers_per_trial or 1))
        if machine_flags_fit
        else None
    )

    space = problems.attempt(lambda: _space(flags.space, wanted))
    own = space.tree if space is not None else {}
    for key in RECIPE_FLAGS:
        problems.check(
            key not in own or given.get(key, own[key]) == own[key],
            f"--{key.replace('_', '-')} {given.get(key)}: the space {flags.space} fixes it at {own.get(key)!r}",
        )
    recipe = wanted | {key: own[key] for key in RECIPE_FLAGS if key in own}
    seed, image_size = max(0, recipe.get("seed", 0)), recipe.get("image_size")
    weights = None
    if recipe["backbone"] in BACKBONES:
        weights = problems.attempt(lambda: load_weights(recipe["backbone"], recipe["weights"], seed))

    dataset, classes = None, None
    if problems.found:  # do not decode what may be a million images only to refuse the flags then
        listing = problems.attempt(lambda: list_source(recipe["data"], seed=seed))
        classes = listing.classes if listing is not None else None
    else:
        dataset = problems.attempt(
            lambda: load(recipe["data"], image_size=image_size, fit=recipe["fit"], seed=seed, progress=not flags.quiet)
        )
        classes, image_size = (dataset.classes, dataset.image_size) if dataset is not None else (None, image_size)
    problems.attempt(lambda: _check_metric(recipe["metric"], classes))
    if space is not None and classes is not None:
        problems.found += _unknown_classes(space, classes)
    if space is not None and dataset is not None and (folds := space.search.folds) > 1 and not flags.fast_dev_run:
        known = dataset
        problems.attempt(lambda: check_folds(folds, known.train.labels, known.classes))
    if recipe["backbone"] in BACKBONES and image_size is not None and image_size >= MIN_IMAGE_SIZE:
        problems.found += backbone_spec(recipe["backbone"]).problems(image_size=image_size, depth=0)
    head = None
    if flags.head is not None:
        head = problems.attempt(lambda: _starting_head(flags.head, flags.results))
        if head is not None and space is not None and dataset is not None and weights is not None:
            problems.found += head.problems(space, dataset, weights)
    problems.stop_if_any()
    assert space is not None and dataset is not None and weights is not None and machine is not None
    if head is not None:
        space = space.with_head(head.recipe)
    device, precision = ask_numerics(machine, wanted["device"])
    short = flags.fast_dev_run
    heads, trials = _budget(space, flags, preset)
    max_epochs = 1 if short else flags.max_epochs or (space.head_epochs() if space.heads_only else preset["max_epochs"])
    settings = Settings(
        space=flags.space,
        data=recipe["data"],
        image_size=dataset.image_size,
        fit=recipe["fit"],
        backbone=recipe["backbone"],
        weights=weights.again,
        metric=recipe["metric"],
        seed=seed,
        device=device,
        precision=precision,
        preset=flags.preset,
        concurrent=machine.concurrent,
        workers_per_trial=machine.workers,
        cpus_per_trial=machine.cpus,
        # Of a tested level, a control too.
        trials=min(trials, len(space.levels) * (2 if space.tested else 1)) if short else trials,
        heads=min(1, heads) if short or head is not None else heads,
        head=head.run if head is not None else None,
        max_epochs=max_epochs,
        rungs=rungs_for(space.level_epochs(max_epochs), space.search.reduction, space.search.first_rung_epochs),
        reduction=space.search.reduction,
        cache=flags.cache,
        cache_bytes=int(flags.cache_gb * 1e9) if flags.cache_gb is not None else default_limit(),
        refits=1 if short else preset["refits"] if flags.refits is None else flags.refits,
        refit_on=flags.refit_on,
        max_batches=2 if short else None,
        max_failures=3 if flags.max_failures is None else flags.max_failures,
        time_budget=budget,
        wandb=flags.wandb,
        wandb_mode=flags.wandb_mode,
        tensorboard=flags.tensorboard,
        storage=storage.uri if storage is not None else None,
    )
    return Job(settings, _settled(space, settings), dataset, weights, machine, head, storage)


def _storage(uri: str, new_run: str | None = None) -> Storage:
    """The storage, once it has let itself be written and read; it has no run of that name yet.

    Raises:
        InputError: it cannot be used, or the run is there.
    """
    storage = Storage(uri)
    storage.check()
    if new_run is not None and (storage / new_run).exists("run.json"):
        there = (storage / new_run).uri
        raise InputError(f"the run {there} is there already: go on with it by --resume {there}, or choose a --run-name")
    return storage


def _starting_head(name: str, results: Path) -> StartingHead:
    try:
        run = Run.open(name, results)
    except InputError as error:
        raise InputError([f"--head: {problem}" for problem in error.problems]) from error
    return starting_head(run)


def _budget(space: Space, flags: Any, preset: dict[str, int]) -> tuple[int, int]:
    """Heads and trials to start."""
    grid, most = space.search.sampler == "grid", _most(space)
    heads = int(min(space.search.heads, space.grid_size(space.head_paths()) or math.inf))
    if space.heads_only:
        return int(min(flags.trials or (most if grid else heads), most)), 0
    return heads, int(min(flags.trials or (most if grid else preset["trials"]), most))


def _most(space: Space) -> float:
    """Of what --trials counts: a grid's points; heads that differ, where all that is searched has few values."""
    if space.heads_only:
        return space.grid_size(space.head_paths()) or math.inf
    return sum(most + space.tested for most in _most_a_level(space))  # of a tested level, a control too


def _most_a_level(space: Space) -> tuple[float, ...]:
    """Trials that differ, of each level: few only of a grid, and where nothing is searched."""
    grid, first = space.search.sampler == "grid", space.levels[:1]
    return tuple(
        (1 if level in first else space.search.beam) * size if grid or not paths else math.inf
        for level in space.levels
        for paths in [space.trial_paths(level)]
        for size in [space.grid_size(paths)]
    )


def _space(name: str | None, wanted: dict[str, Any]) -> Space:
    """The space, checked with what the command gives it; its image size is not known yet where the data's own is."""
    if name is None:
        raise InputError("--space NAME is missing: say what to search, e.g. --space fine_tune (or --resume RUN)")
    usable = {"image_size": max(MIN_IMAGE_SIZE, wanted.get("image_size", 32)), "seed": max(0, wanted.get("seed", 0))}
    return load_space(name, fixed={key: wanted[key] for key in ("backbone", "weights", "fit")} | usable)


def _check_metric(metric: str, classes: tuple[str, ...] | None) -> None:
    """As `check_metric`; where the data could not be read, only what can be known without its classes."""
    if classes is not None:
        check_metric(metric, classes)
    elif metric != "auroc" and not metric.startswith(("recall_", "precision_")):
        check_metric(metric, ())


def _unknown_classes(space: Space, classes: tuple[str, ...]) -> list[str]:
    """Class weights for classes that the data does not have."""
    found: dict[str, None] = {}
    for stage in range(len(space.tree["schedule"])):
        key = f"schedule.{stage}.class_weights"
        for value in space.values(key):
            for name in sorted(set(value) - set(classes)) if isinstance(value, dict) else ():
                near = difflib.get_close_matches(name, classes, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(classes)}"
                found[f"{key} of the space {space.name} names the class {name!r}, which the data lacks; {hint}"] = None
    return list(found)


def reopen(saved: dict[str, Any], space_file: Path, flags: Any) -> Job:
    """The job of a run that is resumed: its own settings, with more trials or another time budget if asked.

    Raises:
        InputError: the data or the weights are not what they were, or a flag cannot be used; all problems together.
    """
    try:
        settings, fingerprints = Settings.model_validate(saved["settings"]), saved["fingerprints"]
    except (KeyError, ValidationError) as error:
        raise InputError(
            f"the run in {space_file.parent} broke off before it began, or is none of this version; start a new one"
        ) from error
    problems = Problems()
    machine_flags_fit = _check_numbers(flags, problems)
    counted = "trials" if settings.trials else "heads"  # what --trials says
    had = getattr(settings, counted)
    trials = had if flags.trials is None else flags.trials
    problems.check(not 0 < trials < had, f"--trials {trials}: the run has {had} already; it can only grow")
    budget = problems.attempt(lambda: seconds(flags.time_budget)) if flags.time_budget is not None else None
    fixed = {key: getattr(settings, key) for key in ("backbone", "weights", "image_size", "fit", "seed")}
    space = problems.attempt(lambda: load_space(str(space_file), fixed=fixed))
    if space is not None:
        if settings.head is not None:
            space = space.with_head(Recipe.model_validate(saved["head"]["recipe"]))
        most = _most(space)
        problems.check(
            trials <= most, f"--trials {trials}: the space has {most} combinations; widen it and start a new run"
        )
    failures = settings.max_failures if flags.max_failures is None else flags.max_failures
    settings = settings.model_copy(update={"time_budget": budget, counted: trials, "max_failures": failures})
    dataset = problems.attempt(
        lambda: load(settings.data, image_size=settings.image_size, fit=settings.fit, seed=settings.seed)
    )
    weights = problems.attempt(lambda: load_weights(settings.backbone, settings.weights, settings.seed))
    place = settings.storage
    storage = problems.attempt(lambda: _storage(place)) if place is not None else None
    if dataset is not None:
        problems.check(
            dataset.fingerprint == fingerprints["data"],
            f"the images of {settings.data} are not those that the run was started with; start a new run",
        )
    if weights is not None:
        problems.check(
            weights.digest == fingerprints["weights"],
            f"the weights {settings.weights} are not those that the run was started with; start a new run",
        )
    machine = None
    if machine_flags_fit:
        workers = flags.workers_per_trial or settings.workers_per_trial
        # With as many workers as before, what a trial gets is what it got.
        before = settings.concurrent if workers == settings.workers_per_trial else None
        machine = problems.attempt(lambda: find_machine(settings.device, flags, workers, before))
        if machine is not None and flags.concurrent is None and before is not None and machine.address is None:
            machine = replace(machine, cpus=settings.cpus_per_trial)
    problems.stop_if_any()
    assert space is not None and dataset is not None and weights is not None and machine is not None
    return Job(settings, _settled(space, settings), dataset, weights, machine, storage=storage)


def _settled(space: Space, settings: Settings) -> Space:
    """The space with what a run has once, as it was resolved, so that every recipe says what is really used."""
    once = {key: getattr(settings, key) for key in ("backbone", "weights", "image_size", "fit", "seed")}
    schedule = space.tree["schedule"]
    if settings.max_batches is not None:  # --fast-dev-run: one epoch of each stage
        schedule = [stage | {"epochs": 1} for stage in schedule]
    return replace(space, tree=space.tree | once | {"schedule": schedule}, fixed={})
