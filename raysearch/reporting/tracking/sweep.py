"""A space in the words of a W&B sweep."""

from __future__ import annotations

from collections.abc import Mapping

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from raysearch.recipe import Recipe, networks_of, shared
from raysearch.record.folder import RunFolder
from raysearch.record.info import Json
from raysearch.record.metric import larger_is_better, tracked_name
from raysearch.space.load import load_space
from raysearch.space.space import Space, decode

_METHODS = {"tpe": "bayes", "random": "random", "grid": "grid"}


def sweep_config(space: Space, metric: str, name: str) -> Json:
    """What W&B needs to know of a search: its parameters, nested as the recipe is, and what is compared.

    Args:
        space: what is searched.
        metric: as in `--metric`.
        name: of the sweep.
    """
    parameters: Json = {}
    for path, distribution in space.distributions.items():
        *above, leaf = path.split(".")
        level = parameters
        for key in above:
            level = level.setdefault(key, {"parameters": {}})["parameters"]
        level[leaf] = parameter(distribution)
    return {
        "name": name,
        "method": _METHODS[space.search.sampler],
        "metric": {
            "name": tracked_name(f"val_{metric}"),
            "goal": "maximize" if larger_is_better(metric) else "minimize",
        },
        "parameters": parameters,
    }


def parameter(distribution: BaseDistribution) -> Json:
    """A distribution as W&B writes it."""
    if isinstance(distribution, CategoricalDistribution):
        return {"values": [decode(choice) for choice in distribution.choices]}
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    bounds = {"min": distribution.low, "max": distribution.high}
    if isinstance(distribution, IntDistribution):
        if distribution.log:
            return {"distribution": "q_log_uniform_values", "q": 1, **bounds}
        if distribution.step == 1:
            return {"distribution": "int_uniform", **bounds}
        return {"values": list(range(distribution.low, distribution.high + 1, distribution.step))}
    if distribution.step is not None:
        return {"distribution": "q_uniform", "q": distribution.step, **bounds}
    return {"distribution": "log_uniform_values" if distribution.log else "uniform", **bounds}


def agents_file(space: Space, metric: str, project: str, flags: Mapping[str, object]) -> str:
    """A sweep file (YAML) for W&B's agents, each of whose runs trains one recipe of the space.

    Args:
        space: as loaded by the name that `flags` give.
        metric: as in `--metric`.
        project: of the sweep.
        flags: of `python -m raysearch.tune`, the space's among them; those that are None are left out.
    """
    given = [part for name, value in flags.items() if value is not None for part in (f"--{name}", str(value))]
    command = ["${env}", "${interpreter}", "-m", "raysearch.tune", *given, "--wandb", project]
    entity, _, name = project.rpartition("/")
    about = {
        "project": name,
        **({"entity": entity} if entity else {}),
        **sweep_config(space, metric, space.name),
        "program": "raysearch/tune.py",  # what W&B shows; what it runs is the command
        "command": [*command, "--parameters", "${args_json_file}"],
    }
    return yaml.safe_dump(about, sort_keys=False, allow_unicode=True)


def sweep_of(run: RunFolder) -> Json:
    """The sweep that a run is."""
    info = run.info
    settings = info["settings"]
    space = load_space(str(run.folder / "space.py"), fixed=shared(settings), networks=networks_of(settings))
    if settings["head"] is not None:
        space = space.with_head(Recipe.model_validate(info["head"]["recipe"]))
    return sweep_config(space, settings["metric"], run.name)
