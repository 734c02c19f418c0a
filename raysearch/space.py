"""A space: a recipe with Ray Tune's domains in the place of some values, in one Python file.

A space file defines `space` (shaped like a Recipe), `default` (a value for every domain: the known-good recipe, trial
0) and, if it wants to, `search` (how the space is searched). All that is wrong with it is found before a trial starts.
"""

from __future__ import annotations

import difflib
import json
import runpy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ray.tune.search import sample

from raysearch.errors import InputError
from raysearch.models.registry import BACKBONES
from raysearch.recipe import Recipe, flatten

_HERE = Path(__file__).resolve().parent
# In a clone the spaces are beside the package; in an installed wheel they are inside it.
SPACES = _HERE / "search_spaces" if (_HERE / "search_spaces").is_dir() else _HERE.parent / "search_spaces"


class Search(BaseModel):
    """How a space is searched; the budget itself (trials, epochs) is the command's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: Literal["tpe", "random"] = "tpe"
    """Optuna's sampler."""
    heads: int = Field(default=8, ge=0)
    """Recipes of the head search that comes first; 0: there is none, every trial starts from the weights alone."""
    reduction: int = Field(default=3, ge=2)
    """ASHA: 1 in `reduction` goes on at each rung."""
    first_rung_epochs: int | None = Field(default=None, ge=1)
    """ASHA's shortest rung; None: about a sixth of the epochs."""


# A field that is read only if another one has a certain value: searching it elsewhere would search nothing.
_READ_WHEN = {
    "hidden_units": ("head.kind", {"hidden"}),
    "plateau_factor": ("course", {"plateau"}),
    "plateau_patience_epochs": ("course", {"plateau"}),
    "min_learning_rate": ("course", {"plateau", "cosine"}),
}


@dataclass(frozen=True)
class Space:
    """A checked space, free of Ray: fixed values, and an Optuna distribution for every searched one, by dotted path."""

    name: str
    source: str
    """The file's text, as it is kept in the run folder."""
    tree: dict[str, Any]
    """The recipe-shaped space; a searched value is None here."""
    distributions: dict[str, BaseDistribution]
    default: dict[str, Any]
    """The default's values for the distributions (categorical values encoded)."""
    search: Search
    fixed: dict[str, Any] = field(default_factory=dict)
    """What the command adds to every recipe: backbone, weights, image_size, fit, seed."""

    def head_paths(self) -> list[str]:
        """Searched fields of the head search: all but those of the stages after the first."""
        return [
            path for path in self.distributions if not path.startswith("schedule.") or path.startswith("schedule.0.")
        ]

    def trial_paths(self) -> list[str]:
        """Searched fields of a trial that starts from a head; without a head search, all."""
        if self.search.heads == 0:
            return list(self.distributions)
        return [path for path in self.distributions if not path.startswith("schedule.0.")]

    def recipe(self, params: dict[str, Any], max_epochs: int) -> Recipe:
        """The recipe for sampled `params`; fields that `params` leaves out take the default's value.

        The last stage trains for `max_epochs`, or for fewer if the space says so.
        """
        values = self.default | params
        tree = _fill(self.tree, "", {path: decode(value) for path, value in values.items()})
        last = dict(tree["schedule"][-1])
        last["epochs"] = min(last.get("epochs", max_epochs), max_epochs)
        return Recipe.model_validate(self.fixed | tree | {"schedule": [*tree["schedule"][:-1], last]})


def encode(value: Any) -> Any:
    """A categorical value as Optuna can store it: as it is, or a dict (class weights) as JSON."""
    return "json:" + json.dumps(value, sort_keys=True) if isinstance(value, dict | list | tuple) else value


def decode(value: Any) -> Any:
    """The inverse of `encode`."""
    return json.loads(value[5:]) if isinstance(value, str) and value.startswith("json:") else value


def describe(distribution: BaseDistribution) -> str:
    """A distribution as a person reads it: "0.0001 to 0.003, log" or "1, 2 or 3"."""
    if isinstance(distribution, CategoricalDistribution):
        *most, last = [str(decode(choice)) for choice in distribution.choices]
        return f"{', '.join(most)} or {last}" if most else last
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    step = f", in steps of {distribution.step:g}" if distribution.step not in (None, 1) else ""
    return f"{distribution.low:g} to {distribution.high:g}{', log' if distribution.log else ''}{step}"


def find_space(name: str) -> Path:
    """The file of space `name`: a path, or a file of that name in search_spaces/.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    path = Path(name)
    if path.suffix == ".py" and path.is_file():
        return path
    known = {file.stem: file for file in sorted(SPACES.glob("*.py")) if not file.stem.startswith("_")}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
    raise InputError(f"--space {name}: no such file, and no such name in search_spaces/; {hint}")


def load_space(name: str, *, fixed: dict[str, Any] | None = None) -> Space:
    """Read and check a space.

    Args:
        name: a name in search_spaces/ or the path of a space file.
        fixed: recipe fields that the command sets; they give way to what the space itself says.

    Raises:
        InputError: every problem of the file at once.
    """
    path = find_space(name)
    source = path.read_text(encoding="utf-8")
    try:
        module = runpy.run_path(str(path))
    except SyntaxError as error:
        raise InputError(f"{path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:  # a space is somebody's code: whatever it raises is a problem of the file
        raise InputError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    missing = [what for what in ("space", "default") if not isinstance(module.get(what), dict)]
    if missing:
        raise InputError([f"{path} must define `{what}`, a dict shaped like a Recipe" for what in missing])
    problems: list[str] = []
    search = module.get("search", Search())
    if not isinstance(search, Search):
        problems.append(f"{path}: `search` must be a raysearch.space.Search, got {search!r}")
        search = Search()
    distributions: dict[str, BaseDistribution] = {}
    for key, value in flatten(module["space"]).items():
        if isinstance(value, sample.Domain):
            try:
                distributions[key] = _distribution(value)
            except ValueError as error:
                problems.append(f"{path}: {key}: {error}")
        elif callable(value):
            problems.append(f"{path}: {key}: {value!r} is neither a value nor one of tune's domains")
    default = {key: encode(value) for key, value in flatten(module["default"]).items()}
    problems += [f"{path}: `default` has no value for {key}" for key in distributions if key not in default]
    problems += [f"{path}: `default` gives {key}, which is not searched" for key in default if key not in distributions]
    problems += [
        f"{path}: `default` for {key} is {default[key]!r}, which is not in {distribution}"
        for key, distribution in distributions.items()
        if key in default and not distribution._contains(distribution.to_internal_repr(default[key]))
    ]
    if problems:
        raise InputError(problems)
    tree = _fill(module["space"], "", dict.fromkeys(distributions))
    space = Space(path.stem, source, tree, distributions, default, search, dict(fixed or {}))
    problems = [f"{path}: {problem}" for problem in _check(space)]
    if problems:
        raise InputError(problems)
    return space


def _fill(tree: Any, prefix: str, values: dict[str, Any]) -> Any:
    """The tree with the leaves at the dotted paths of `values` replaced."""
    if prefix in values:
        return values[prefix]
    if isinstance(tree, dict):
        return {key: _fill(child, f"{prefix}.{key}" if prefix else key, values) for key, child in tree.items()}
    if isinstance(tree, list | tuple):
        return [_fill(child, f"{prefix}.{index}", values) for index, child in enumerate(tree)]
    return tree


def _distribution(domain: sample.Domain) -> BaseDistribution:
    """The Optuna distribution of a Tune domain.

    Raises:
        ValueError: the domain has no equal there (tune.sample_from, tune.randn, tune.qloguniform, …).
    """
    sampler = domain.get_sampler()
    step: float | None = None
    if isinstance(sampler, sample.Quantized):
        step, sampler = sampler.q, sampler.get_sampler()
    log = isinstance(sampler, sample.LogUniform)
    if isinstance(domain, sample.Categorical):
        return CategoricalDistribution([encode(value) for value in domain.categories])
    if log and step not in (None, 1):
        raise ValueError("a logarithmic domain with steps cannot be searched; use tune.loguniform or tune.quniform")
    if isinstance(domain, sample.Float) and isinstance(sampler, sample.Uniform | sample.LogUniform):
        return FloatDistribution(domain.lower, domain.upper, log=log, step=step)
    if isinstance(domain, sample.Integer) and isinstance(sampler, sample.Uniform | sample.LogUniform):
        # Tune's upper bound is exclusive, but inclusive where it is quantized with a step above 1.
        upper = domain.upper - 1 if step in (None, 1) else domain.upper
        return IntDistribution(domain.lower, upper, log=log, step=int(step or 1))
    raise ValueError(
        f"{domain.domain_str or domain} is not supported; use tune.choice, uniform, quniform, loguniform or randint"
    )


def _check(space: Space) -> Iterator[str]:
    """Problems of a space whose shape is right: unknown keys, values out of range, blocks that the backbone lacks."""
    seen: set[str] = set()
    for key, values in {"": [None], **{key: _corners(dist) for key, dist in space.distributions.items()}}.items():
        for value in values:
            try:
                space.recipe({key: value} if key else {}, max_epochs=1)
            except ValidationError as error:
                for one in error.errors():
                    place = ".".join(str(part) for part in one["loc"] if not _is_union_tag(part))
                    message = f"{place or 'recipe'}: {one['msg']}, got {one['input']!r}" if place else one["msg"]
                    if one["type"] == "extra_forbidden":
                        message = f"{place}: nothing reads this key{_near(place)}"
                    if message not in seen:
                        seen.add(message)
                        yield message
    if seen:
        return
    default = space.recipe({}, max_epochs=1)
    blocks = BACKBONES[default.backbone].block_names if default.backbone in BACKBONES else None
    for key in (key for key in flatten(space.tree) if key.endswith(".depth")):
        for depth in _values(space, key):
            if blocks is not None and not 0 <= depth <= len(blocks):
                have = f"{default.backbone} has {len(blocks)}: {', '.join(blocks)}"
                yield f"{key}: {depth} blocks to unfreeze, but {have}"
    for key in space.distributions:
        parent, _, leaf = key.rpartition(".")
        if leaf in _READ_WHEN:
            other, wanted = _READ_WHEN[leaf]
            other = other if "." in other else f"{parent}.{other}"
            if not wanted & set(_values(space, other)):
                yield f"{key} is searched, but it is read only when {other} is {' or '.join(sorted(wanted))}"
    if space.search.heads and (len(space.tree["schedule"]) < 2 or 0 not in _values(space, "schedule.0.depth")):
        yield "search.heads is above 0, but the schedule does not begin with a stage of depth 0 that others follow"


def _corners(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]


def _values(space: Space, key: str) -> list[Any]:
    """The values that a field takes: all choices, or both ends, or the fixed one, or the recipe's own default."""
    if key in space.distributions:
        return [decode(value) for value in _corners(space.distributions[key])]
    return [flatten(space.recipe({}, max_epochs=1).model_dump()).get(key)]


def _is_union_tag(part: Any) -> bool:
    """Pydantic names the branch of a union in an error's place ("literal[...]"); people need not see it."""
    return isinstance(part, str) and ("[" in part or part in ("float", "int", "str"))


def _near(place: str) -> str:
    fields = flatten(Recipe.model_construct().model_dump() | Recipe.model_fields).keys() | _stage_fields()
    near = difflib.get_close_matches(place.rpartition(".")[2], fields, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _stage_fields() -> set[str]:
    from raysearch.recipe import Augmentation, Head, Stage

    return set(Stage.model_fields) | set(Head.model_fields) | set(Augmentation.model_fields)


optuna.logging.set_verbosity(optuna.logging.WARNING)
