"""The frozen work of a search, of one network or of each of several, and what predictions of these cost.

Each of several is planned as if it were searched alone, with its share of the heads, the trials and the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from raysearch.activations.planner import CachePlan
from raysearch.job.frozen_work import outcome, plan_cache, record
from raysearch.job.job import Job
from raysearch.models.boundary import build_classifier
from raysearch.recipe import Recipe, named_network
from raysearch.record.events import Event, trial_of
from raysearch.record.info import Json, NetworkInfo
from raysearch.record.trial import Trials
from raysearch.reporting.sentences import network_in_short
from raysearch.training.cost import Cost, cost_of
from raysearch.training.numerics import on_threads
from raysearch.workers.cluster import Call, call_here


def plan_frozen_work(job: Job, call: Call = call_here) -> Json:
    """Choose what is cached, of each network, and give it as run.json has it."""
    if not job.settings.networks:
        return record(*plan_cache(job, call))
    plans = {name: record(*plan_cache(alone(job, name), call)) for name in job.settings.networks}
    lines = [f"{network_in_short(name)}, {line}" for name, one in plans.items() for line in one["lines"]]
    return {"networks": plans, "lines": lines}


def alone(job: Job, network: str) -> Job:
    """The job as it would be if it searched one of its networks alone, with that one's share of everything.

    How many networks go on after the head search is not known beforehand: all that may are counted, so that what they
    are given of the disk is there for each of them.
    """
    settings, space = job.settings, job.space.only(network)
    names = settings.networks
    going = min(len(names), job.space.search.networks or len(names))
    backbone, weights, size = named_network(network)
    share = {
        "networks": (),
        "backbone": backbone,
        "weights": weights,
        "image_size": size,
        "heads": -(-settings.heads // len(names)),
        "trials": -(-settings.trials // going),
        "cache_bytes": settings.cache_bytes // going,
    }
    return replace(job, settings=settings.model_copy(update=share), space=space)


def caches(recorded: Json, *, refits: bool = False) -> Json | None:
    """What `Bench.open(cache=...)` is given, of what `plan_frozen_work` gave.

    Args:
        recorded: in run.json.
        refits: whether refits are trained, whose seeds are their own.
    """
    if "networks" in recorded:
        return {name: caches(one, refits=refits) for name, one in recorded["networks"].items()}
    plan = CachePlan.from_json(recorded["plan"])
    return plan.refit_settings() if refits else plan.settings()


def outcomes(job: Job, recorded: Json, events: Iterable[Event]) -> dict[str, Any]:
    """What became of the predictions, by depth; where there are several networks, by network and depth."""
    if "networks" not in recorded:
        return outcome(job, recorded, events)
    log = list(events)
    trials = Trials.of(log)
    return {
        f"{network_in_short(name)}, {depth}": what
        for name, one in recorded["networks"].items()
        for depth, what in outcome(alone(job, name), one, _of(name, log, trials)).items()
    }


def _of(network: str, events: Iterable[Event], trials: Trials) -> list[Event]:
    """The events of a network's trials."""
    ours = {name for name, trial in trials.items() if trial.network == network}
    return [event for event in events if trial_of(event) in ours]


def network_infos(job: Job, call: Call = call_here) -> list[NetworkInfo]:
    """What run.json says of each network that the search chooses among; predictions are measured where trials run."""
    if job.networks is None:
        return []
    recipes = [alone(job, name).space.recipe({}, job.settings.max_epochs) for name in job.networks.names]
    costs = call(_costs, job.machine.cpus, recipes, len(job.dataset.classes), job.settings.device)
    return [
        {
            "network": name,
            "origin": weights.origin,
            "reason": weights.reason,
            "license": weights.metadata.get("license"),
            "digest": weights.digest,
            "image_size": recipe.image_size,
            "parameters": cost.parameters,
            "megabytes": cost.megabytes,
            "milliseconds": cost.milliseconds,
            "milliseconds_in_batch": cost.milliseconds_in_batch,
        }
        for (name, weights), recipe, cost in zip(job.networks.weights.items(), recipes, costs, strict=True)
    ]


def _costs(threads: int, recipes: Sequence[Recipe], classes: int, device: str) -> list[Cost]:
    """Of a prediction of each, heads aside, on as many threads as a trial has."""
    with on_threads(threads):
        networks = [(build_classifier(recipe, classes)[:-1], recipe.image_size) for recipe in recipes]
        return [cost_of(network, size, torch.device(device)) for network, size in networks]
