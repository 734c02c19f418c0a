"""A search as its flags resolve: everything checked, every default filled in, before anything is trained."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil
from pydantic import BaseModel, ConfigDict

from raysearch.data.pixels import Dataset, load
from raysearch.errors import InputError
from raysearch.models.registry import backbone_spec
from raysearch.models.weights import Weights, load_weights
from raysearch.search.asha import rungs_for
from raysearch.search.controller import Rules
from raysearch.space import Space, load_space
from raysearch.training.metrics import check_metric, larger_is_better
from raysearch.training.stage import choose_device, choose_precision

T = TypeVar("T")

Preset = Literal["quick", "default", "best"]
_MOST_ON_CPU = 8  # trials at once; more would leave ASHA little to learn from
_TRIAL_BYTES = 2 << 30  # of memory, that one trial is taken to need when it is decided how many run at once
PRESETS: dict[str, dict[str, int]] = {
    "quick": {"trials": 12, "max_epochs": 6, "refits": 3},
    "default": {"trials": 32, "max_epochs": 12, "refits": 3},
    "best": {"trials": 100, "max_epochs": 30, "refits": 5},
}
DEFAULTS = {
    "data": "cifar10-mini",
    "backbone": "densenet121",
    "weights": "auto",
    "metric": "accuracy",
    "device": "auto",
}


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
    trials: int
    heads: int
    max_epochs: int
    rungs: tuple[int, ...]
    """epochs"""
    reduction: int
    refits: int
    refit_on: Literal["train", "train+val"]
    max_batches: int | None
    """Batches an epoch at most; --fast-dev-run sets it to two."""
    time_budget: float | None
    """seconds"""


@dataclass(frozen=True)
class Machine:
    """What one trial gets, and how many run at once."""

    concurrent: int
    cpus: int
    """Threads, and Ray's CPUs, of one trial."""
    gpus: float
    address: str | None


@dataclass(frozen=True)
class Job:
    """Settings with what they name: the space, the data, the weights."""

    settings: Settings
    space: Space
    dataset: Dataset
    weights: Weights
    machine: Machine

    @property
    def rules(self) -> Rules:
        """How the search compares trials."""
        settings = self.settings
        name = f"val_{settings.metric}"
        return Rules(settings.rungs, settings.reduction, name, larger_is_better(settings.metric))


class Problems:
    """Collects what is wrong, so that a person hears all of it at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def attempt(self, step: Callable[[], T]) -> T | None:
        """The step's result, or None with its problems noted."""
        try:
            return step()
        except InputError as error:
            self.found += error.problems
            return None

    def check(self, fine: bool, otherwise: str) -> None:
        """Note `otherwise` unless `fine`."""
        if not fine:
            self.found.append(otherwise)

    def stop_if_any(self) -> None:
        """Raises InputError with everything that was found."""
        if self.found:
            raise InputError(self.found)


def seconds(text: str) -> float:
    """A duration as people write it: 90, 90s, 30m, 1.5h, 1h30m.

    Raises:
        InputError: it is none, or not above 0.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise InputError(f"--time-budget {text}: not a duration; write for example 45s, 30m or 1h30m")
    units = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
    total = sum(float(number) * units[unit] for number, unit in parts)
    if total <= 0:
        raise InputError(f"--time-budget {text}: must be above 0")
    return total


def choose_machine(device: str, concurrent: int | None, gpus_per_trial: float | None, address: str | None) -> Machine:
    """How many trials run at once, and what each gets, on this machine or (with `address`) on a cluster.

    On a CPU, one thread a trial: networks of this size gain little from a second one, and trials do not wait for each
    other (DenseNet121 at 32 px on 2 cores: two trials of one thread train 1.5 times the images of one trial of two).

    Raises:
        InputError: more GPUs a trial than there are.
    """
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus_here = torch.cuda.device_count() if device == "cuda" else 0
    gpus = gpus_per_trial if gpus_per_trial is not None else (1.0 if device == "cuda" else 0.0)
    if address is None and gpus > gpus_here:
        raise InputError(
            f"--gpus-per-trial {gpus:g}: this machine has {gpus_here} GPU(s) that --device {device} can use, and no "
            "cluster was given; lower it, or join a cluster by --address auto"
        )
    if concurrent is None:
        concurrent = max(1, math.floor(gpus_here / gpus)) if gpus else min(cores, _MOST_ON_CPU)
        if address is None:
            concurrent = min(concurrent, max(1, psutil.virtual_memory().available // _TRIAL_BYTES))
    return Machine(concurrent, max(1, cores // concurrent), gpus, address)


def resolve(flags: Any) -> Job:
    """Checks the flags of a new search (see `raysearch.tune.Settings`) and everything that they name.

    Raises:
        InputError: all problems together.
    """
    problems = Problems()
    preset = PRESETS[flags.preset]
    given = {key: getattr(flags, key) for key in DEFAULTS if getattr(flags, key) is not None}
    wanted = DEFAULTS | given
    for name, least in (
        ("trials", 1),
        ("max_epochs", 1),
        ("image_size", 8),
        ("refits", 0),
        ("concurrent", 1),
        ("seed", 0),
    ):
        value = getattr(flags, name)
        problems.check(value is None or value >= least, f"--{name.replace('_', '-')} {value}: must be at least {least}")
    problems.check(
        flags.gpus_per_trial is None or flags.gpus_per_trial >= 0,
        f"--gpus-per-trial {flags.gpus_per_trial}: must be 0 or more",
    )
    budget = problems.attempt(lambda: seconds(flags.time_budget)) if flags.time_budget else None
    problems.attempt(lambda: backbone_spec(wanted["backbone"]))
    device = problems.attempt(lambda: choose_device(wanted["device"]))
    seed = flags.seed or 0
    image_size = flags.image_size if flags.image_size is None or flags.image_size >= 8 else None
    dataset = problems.attempt(
        lambda: load(wanted["data"], image_size=image_size, fit=flags.fit, seed=seed, progress=not flags.quiet)
    )
    problems.attempt(lambda: check_metric(wanted["metric"], dataset.classes) if dataset is not None else None)
    fixed = {key: wanted[key] for key in ("backbone", "weights")} | {
        "image_size": dataset.image_size if dataset is not None else 32,
        "fit": flags.fit,
        "seed": seed,
    }
    space = problems.attempt(lambda: load_space(flags.space, fixed=fixed))
    machine = None
    if device is not None:
        machine = problems.attempt(
            lambda: choose_machine(device.type, flags.concurrent, flags.gpus_per_trial, flags.address)
        )
    weights = None
    if space is not None:
        for key, value in given.items():
            if space.tree.get(key, value) != value:
                problems.found.append(f"--{key} {value}: the space {space.name} fixes it at {space.tree[key]!r}")
        default = space.recipe({}, 1)
        weights = problems.attempt(lambda: load_weights(default.backbone, default.weights, seed))
    problems.stop_if_any()
    assert (
        space is not None and dataset is not None and weights is not None and device is not None and machine is not None
    )
    short = flags.fast_dev_run
    max_epochs = 1 if short else flags.max_epochs or preset["max_epochs"]
    fixed["weights"] = weights.again
    trials = 1 if short else flags.trials or preset["trials"]
    settings = Settings(
        space=flags.space,
        data=wanted["data"],
        image_size=dataset.image_size,
        fit=flags.fit,
        backbone=default.backbone,
        weights=weights.again,
        metric=wanted["metric"],
        seed=seed,
        device=device.type,
        precision=choose_precision(device),
        preset=flags.preset,
        trials=trials,
        heads=min(1, space.search.heads) if short else space.search.heads,
        max_epochs=max_epochs,
        rungs=rungs_for(max_epochs, space.search.reduction, space.search.first_rung_epochs),
        reduction=space.search.reduction,
        refits=1 if short else preset["refits"] if flags.refits is None else flags.refits,
        refit_on=flags.refit_on,
        max_batches=2 if short else None,
        time_budget=budget,
    )
    return Job(settings, _with(space, fixed), dataset, weights, machine)


def reopen(saved: dict[str, Any], space_file: Path, flags: Any) -> Job:
    """The job of a run that is resumed: its own settings, with more trials or another time budget if asked.

    Raises:
        InputError: the data or the weights are not what they were.
    """
    settings = Settings.model_validate(saved["settings"])
    changes: dict[str, Any] = {"time_budget": seconds(flags.time_budget) if flags.time_budget else None}
    if flags.trials is not None:
        if flags.trials < settings.trials:
            raise InputError(f"--trials {flags.trials}: the run was started with {settings.trials}; it can only grow")
        changes["trials"] = flags.trials
    settings = settings.model_copy(update=changes)
    fixed = {key: getattr(settings, key) for key in ("backbone", "weights", "image_size", "fit", "seed")}
    problems = Problems()
    space = problems.attempt(lambda: load_space(str(space_file), fixed=fixed))
    dataset = problems.attempt(
        lambda: load(settings.data, image_size=settings.image_size, fit=settings.fit, seed=settings.seed)
    )
    weights = problems.attempt(lambda: load_weights(settings.backbone, settings.weights, settings.seed))
    device = problems.attempt(lambda: choose_device(settings.device))
    if dataset is not None:
        problems.check(
            dataset.fingerprint == saved["fingerprints"]["data"],
            f"the images of {settings.data} are not those that the run was started with; start a new run",
        )
    if weights is not None:
        problems.check(
            weights.digest == saved["fingerprints"]["weights"],
            f"the weights {settings.weights} are not those that the run was started with; start a new run",
        )
    problems.stop_if_any()
    assert space is not None and dataset is not None and weights is not None and device is not None
    machine = choose_machine(device.type, flags.concurrent, flags.gpus_per_trial, flags.address)
    return Job(settings, space, dataset, weights, machine)


def _with(space: Space, fixed: dict[str, Any]) -> Space:
    tree = {key: value for key, value in space.tree.items() if key not in ("weights", "backbone")}
    constant = {key: space.tree[key] for key in ("backbone",) if key in space.tree}
    return Space(space.name, space.source, tree, space.distributions, space.default, space.search, fixed | constant)
