"""A search as its flags resolve: everything checked, every default filled in, before anything is trained."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raysearch.activations.store import default_limit
from raysearch.data.pixels import MIN_IMAGE_SIZE, load
from raysearch.data.source import list_source
from raysearch.errors import InputError, Problems
from raysearch.job.budget import _most, budget_of
from raysearch.job.flags import Flags
from raysearch.job.job import Job
from raysearch.job.numbers import check_numbers, seconds
from raysearch.job.settings import DEFAULTS, PRESETS, RECIPE_FLAGS, Settings
from raysearch.job.starting_head import StartingHead, starting_head
from raysearch.models.registry import BACKBONES, backbone_spec
from raysearch.models.weights import load_weights
from raysearch.recipe import Recipe
from raysearch.record.folder import RunFolder
from raysearch.record.metric import check_metric
from raysearch.reporting.tracking.process import check_tracking
from raysearch.search.asha import rungs_for
from raysearch.space.load import load_space
from raysearch.space.space import Space
from raysearch.storage.remote import Storage
from raysearch.training.heads.folds import check_folds
from raysearch.workers.machine import Machine, ask_numerics, find_machine


def resolve(flags: Flags, folder: Path | None = None) -> Job:
    """Checks the flags of a new search (see `raysearch.job.flags.Flags`) and everything that they name.

    Args:
        flags: as they were typed; None where they were not.
        folder: the run folder to be; it must not be there yet.

    Raises:
        InputError: all problems together.
    """
    problems = Problems()
    preset = PRESETS[flags.preset]
    machine_flags_fit = check_numbers(flags, problems)
    if folder is not None:
        problems.check(
            not folder.exists(),
            f"the run folder {folder} is there already: go on with it by --resume {folder}, "
            "or choose another --run-name",
        )
    text = flags.time_budget
    budget = problems.attempt(lambda: seconds(text)) if text is not None else None
    problems.attempt(lambda: check_tracking(flags.wandb, flags.wandb_mode))
    storage, uri = None, flags.storage
    if uri is not None:
        storage = problems.attempt(lambda: _storage(uri, folder.name if folder is not None else None))
    given = {key: value for key in (*DEFAULTS, *RECIPE_FLAGS) if (value := getattr(flags, key)) is not None}
    wanted = DEFAULTS | given
    problems.attempt(lambda: backbone_spec(wanted["backbone"]))
    machine = (
        problems.attempt(lambda: _machine(wanted["device"], flags, flags.workers_per_trial or 1))
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
    head, earlier = None, flags.head
    if earlier is not None:
        head = problems.attempt(lambda: _starting_head(earlier, flags.results))
        if head is not None and space is not None and dataset is not None and weights is not None:
            problems.found += head.problems(space, dataset, weights)
    problems.stop_if_any()
    assert space is not None and dataset is not None and weights is not None and machine is not None
    assert flags.space is not None
    if head is not None:
        space = space.with_head(head.recipe)
    device, precision = ask_numerics(machine, wanted["device"])
    short = flags.fast_dev_run
    heads, trials = budget_of(space, flags, preset)
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


def _machine(device: str, flags: Flags, workers: int, before: int | None = None) -> Machine:
    """What a trial gets, as the flags ask for it; see `find_machine`."""
    return find_machine(
        device, flags.address, workers, concurrent=flags.concurrent, gpus=flags.gpus_per_trial, before=before
    )


def _starting_head(name: str, results: Path) -> StartingHead:
    try:
        run = RunFolder.open(name, results)
    except InputError as error:
        raise InputError([f"--head: {problem}" for problem in error.problems]) from error
    return starting_head(run)


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


def reopen(saved: dict[str, Any], space_file: Path, flags: Flags) -> Job:
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
    machine_flags_fit = check_numbers(flags, problems)
    counted = "trials" if settings.trials else "heads"  # what --trials says
    had = getattr(settings, counted)
    trials = had if flags.trials is None else flags.trials
    problems.check(not 0 < trials < had, f"--trials {trials}: the run has {had} already; it can only grow")
    text = flags.time_budget
    budget = problems.attempt(lambda: seconds(text)) if text is not None else None
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
        machine = problems.attempt(lambda: _machine(settings.device, flags, workers, before))
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
