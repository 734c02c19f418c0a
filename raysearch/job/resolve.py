"""A search as its flags resolve: everything checked, every default filled in, before anything is trained.

Each step notes what is wrong and goes on, so that a person hears of all problems at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from raysearch.data.dataset import Dataset
from raysearch.data.pixels import MIN_IMAGE_SIZE
from raysearch.errors import InputError, Problems
from raysearch.job.earlier import Earlier
from raysearch.job.flags import Flags
from raysearch.job.intake import checked
from raysearch.job.job import Job, settled
from raysearch.job.learned import learned
from raysearch.job.met_images import held_apart
from raysearch.job.networks import Networks, in_all_sizes
from raysearch.job.new_settings import new_settings
from raysearch.job.numbers import check_numbers, seconds
from raysearch.job.places import machine_for, storage_at
from raysearch.job.settings import BALANCE
from raysearch.job.starting_head import StartingHead, starting_head
from raysearch.job.wanted import Wanted
from raysearch.job.wanted_images import in_another_size, unlabelled_images, wanted_images
from raysearch.models.registry import backbone_spec, usable_spec
from raysearch.models.weights import Weights, load_weights
from raysearch.recipe import AT_HAND, SHARED, named_network
from raysearch.record.folder import RunFolder
from raysearch.record.goal import Goal, Requirement
from raysearch.reporting.tracking.process import check_tracking
from raysearch.space.load import load_space
from raysearch.space.networks import backbones_of, unsized
from raysearch.space.search import Search
from raysearch.space.space import Space
from raysearch.storage.remote import Storage
from raysearch.training.stratified import check_folds
from raysearch.workers.machine import Machine


def resolve(flags: Flags, folder: Path | None = None, earlier: Earlier | None = None) -> Job:
    """Checks the flags of a new search (see `raysearch.job.flags.Flags`) and everything that they name.

    Args:
        flags: as they were typed; None where they were not.
        folder: the run folder to be; it must not be there yet.
        earlier: the run that is continued.

    Raises:
        InputError: all problems together.
    """
    problems = Problems()
    wanted = problems.attempt(Wanted.of, flags) or Wanted.of(replace(flags, backbone=None))
    machine_flags_fit = check_numbers(flags, problems)
    _check_folder(folder, flags.results, problems)
    time_budget = problems.attempt(seconds, flags.time_budget) if flags.time_budget is not None else None
    problems.attempt(check_tracking, flags.wandb, flags.wandb_mode)
    storage = _storage(flags.storage, folder, problems)
    for name in backbones_of(wanted.networks or (wanted.backbone,)):
        problems.attempt(backbone_spec, name)
    machine = _machine(wanted.device, flags, problems) if machine_flags_fit else None
    space = _space(flags, wanted, problems)
    if space is not None:
        wanted = wanted.within(space)
    at_hand = flags.backbone == AT_HAND or (space is not None and space.at_hand)
    networks = _networks(wanted, at_hand, problems)
    weights = _weights(wanted, problems) if not wanted.networks else None
    dataset, classes = wanted_images(wanted, flags, earlier, problems)
    metric = wanted.metric or (Search() if space is None else space.search).metric
    goal = _goal(metric, flags.requirements, classes, problems)
    _check_ship_point(flags.ship_point, goal, problems)
    head = _head(flags, problems) if earlier is None else earlier.head
    if dataset is not None:
        if head is not None and earlier is None:
            dataset = held_apart(head, dataset, problems)
        dataset = checked(dataset, goal, flags.strict, problems)
    if space is not None:
        _check_classes(space, classes, problems)
        _check_folds(space, dataset, flags, problems)
    if networks is not None:
        wanted, networks, weights, dataset = _sized(networks, wanted, flags, dataset, at_hand, problems)
    elif not wanted.networks:
        _check_image_size(wanted, dataset, problems)
    problems.check(
        not wanted.networks or goal.of_answers == goal,
        f"--metric {metric}: networks are compared by their answers to validation images, which {metric} is not of; "
        "search each network by itself (--backbone NAME)",
    )
    unlabelled = unlabelled_images(flags, dataset, space, problems)
    problems.check(
        head is None or not wanted.networks,
        f"{'--head' if head is None else head.flag} is of one network, but {len(wanted.networks)} are searched; "
        "name it by --backbone",
    )
    if head is not None and space is not None and dataset is not None and weights is not None:
        problems.found += head.problems(space, dataset, weights)
    problems.stop_if_any()
    assert space is not None and dataset is not None and weights is not None and machine is not None
    if head is not None:
        space = space.with_head(head.recipe)
    settings = new_settings(flags, wanted, metric, space, dataset, weights, machine, head, storage, time_budget)
    space = settled(space, settings)
    prior = learned(flags.earlier_runs, flags.results, space, settings.backbone) if flags.earlier_runs else None
    return Job(settings, space, dataset, weights, machine, head, storage, networks, unlabelled, prior)


def _check_folder(folder: Path | None, results: Path, problems: Problems) -> None:
    in_the_way = next((path for path in (results, *results.parents) if path.exists() and not path.is_dir()), None)
    if in_the_way is not None:
        problems.found.append(f"--results {results}: {in_the_way} is a file; name a folder")
        return
    problems.check(
        folder is None or not folder.exists(),
        f"the run folder {folder} is there already: go on with it by --resume {folder}, or choose another --run-name",
    )


def _storage(uri: str | None, folder: Path | None, problems: Problems) -> Storage | None:
    if uri is None:
        return None
    return problems.attempt(storage_at, uri, folder.name if folder is not None else None)


def _machine(device: str, flags: Flags, problems: Problems) -> Machine | None:
    return problems.attempt(machine_for, device, flags, flags.workers_per_trial or 1)


def _space(flags: Flags, wanted: Wanted, problems: Problems) -> Space | None:
    """The space, checked with what the command gives it, which must not contradict it."""
    if flags.space is None:
        problems.found.append("--space NAME is missing: say what to search, e.g. --space fine_tune (or --resume RUN)")
        return None
    networks = wanted.networks or (() if flags.backbone is None else (wanted.backbone,))
    space = problems.attempt(load_space, flags.space, fixed=wanted.shared, networks=networks)
    if space is not None:
        for name in SHARED:
            typed, own = getattr(flags, name), space.tree.get(name)
            if name == "backbone" and space.networks:
                told = ", ".join(space.networks)
                asked = {unsized(one) for one in wanted.networks or (wanted.backbone,)}
                fits = {unsized(one) for one in space.networks} == asked
                told = f"chooses among {told}; leave --backbone out"
            else:
                fits = own == (wanted.backbone if name == "backbone" and not wanted.networks else typed)
                told = f"fixes it at {own!r}"
            problems.check(
                typed is None or name not in space.tree or fits,
                f"--{name.replace('_', '-')} {typed}: the space {flags.space} {told}",
            )
        sized = [named_network(one).image_size is not None for one in space.networks]
        problems.check(
            not isinstance(flags.image_size, int) or not sized or not all(sized),
            f"--image-size {flags.image_size}: {', '.join(space.networks)} say their own sizes; leave it out",
        )
    return space


def _networks(wanted: Wanted, at_hand: bool, problems: Problems) -> Networks | None:
    """Several networks, loaded; None where there is one, or where they are wrong already."""
    if not wanted.networks or any(usable_spec(name) is None for name in backbones_of(wanted.networks)):
        return None
    return problems.attempt(Networks.load, wanted.networks, wanted.weights, max(0, wanted.seed), at_hand=at_hand)


def _sized(
    networks: Networks, wanted: Wanted, flags: Flags, dataset: Dataset | None, at_hand: bool, problems: Problems
) -> tuple[Wanted, Networks | None, Weights | None, Dataset | None]:
    """Several networks once the size of the images is known, which says what some of them see.

    Returns: what is wanted, with those that are left; these, if they are several; the weights of the first; and the
        images, decoded in each of their sizes.
    """
    left = networks if dataset is None else problems.attempt(networks.sized, dataset.image_size, at_hand=at_hand)
    if left is None:
        return wanted, None, None, dataset
    wanted = wanted.over(left.names)
    if dataset is not None:
        dataset = problems.attempt(in_all_sizes, dataset, left.sizes, partial(in_another_size, wanted, flags))
    return wanted, left if wanted.networks else None, next(iter(left.weights.values())), dataset


def _weights(wanted: Wanted, problems: Problems) -> Weights | None:
    if usable_spec(wanted.backbone) is None:  # which is a problem already
        return None
    return problems.attempt(load_weights, wanted.backbone, wanted.weights, max(0, wanted.seed))


def _goal(metric: str, require: Sequence[str], classes: tuple[str, ...] | None, problems: Problems) -> Goal:
    """What the search is after, as far as it can be understood; notes what these classes do not have."""
    read = [problems.attempt(Requirement.parse, one) for one in require]
    goal = Goal(metric, tuple(one for one in read if one is not None))
    problems.found += goal.check(classes)
    return goal


def _check_ship_point(wanted: str | None, goal: Goal, problems: Problems) -> None:
    """Notes a point that is none of what the search is after; its trials are not known before it."""
    if wanted not in (None, BALANCE, *goal.several):
        there = f"give {' or '.join((BALANCE, *goal.several))}" if goal.several else "--metric names one metric"
        problems.found.append(f"--ship-point {wanted}: {there}; a trial can be named once it is there, with --resume")


def _check_classes(space: Space, classes: tuple[str, ...] | None, problems: Problems) -> None:
    """Notes class weights for classes that the data does not have, each once."""
    if classes is None:
        return
    found: dict[str, None] = {}
    for stage in range(len(space.tree["schedule"])):
        key = f"schedule.{stage}.class_weights"
        for value in space.values(key):
            for name in sorted(set(value) - set(classes)) if isinstance(value, dict) else ():
                near = difflib.get_close_matches(name, classes, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(classes)}"
                found[f"{key} of the space {space.name} names the class {name!r}, which the data lacks; {hint}"] = None
    problems.found += found


def _check_folds(space: Space, dataset: Dataset | None, flags: Flags, problems: Problems) -> None:
    folds = space.search.folds
    if dataset is not None and folds > 1 and not flags.fast_dev_run:
        problems.attempt(check_folds, folds, dataset.train.labels, dataset.classes, dataset.train.groups)


def _check_image_size(wanted: Wanted, dataset: Dataset | None, problems: Problems) -> None:
    """Notes images that are too small for the backbone."""
    size = dataset.image_size if dataset is not None else wanted.image_size
    spec = usable_spec(wanted.backbone)
    if spec is not None and isinstance(size, int) and size >= MIN_IMAGE_SIZE:
        problems.found += spec.problems(image_size=size, depth=0)


def _head(flags: Flags, problems: Problems) -> StartingHead | None:
    """The best head of the run that --head names."""
    if flags.head is None:
        return None
    try:
        run = RunFolder.open(flags.head, flags.results)
    except InputError as error:
        problems.found += [f"--head: {problem}" for problem in error.problems]
        return None
    return problems.attempt(starting_head, run)
