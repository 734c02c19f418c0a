"""A space: a recipe with Ray Tune's domains in the place of some values, in one Python file.

A space file defines `space` (shaped like a Recipe), `default` (a value for every domain: the known-good recipe, trial
0) and, if it wants to, `search` (how the space is searched). All that is wrong with it is found before a trial starts.
"""

from __future__ import annotations

import difflib
import json
import math
import runpy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
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
from raysearch.recipe import Head, Recipe, Stage, flatten
from raysearch.space_check import space_problems

_HEAD_EPOCHS = 30  # of a head in a space that does not say
_HERE = Path(__file__).resolve().parent
# In a clone the spaces are beside the package; in an installed wheel they are inside it.
SPACES = _HERE / "search_spaces" if (_HERE / "search_spaces").is_dir() else _HERE.parent / "search_spaces"


class Search(BaseModel):
    """How a space is searched; the budget itself (trials, epochs) is the command's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """Optuna's TPE or random sampler; or every combination in turn, of values that are choices or in steps."""
    heads: int = Field(default=8, ge=0)
    """Recipes of the head search that comes first; 0: there is none, every trial starts from the weights alone. In a
    space of one stage, at depth 0, they are the whole search, and --trials says how many."""
    pack: int = Field(default=32, ge=1)
    """Heads that train together at most: more share each reading of the features, fewer try more kinds of features."""
    folds: int = Field(default=0, ge=0)
    """Heads are compared by cross-validation over the training split, in so many folds; 0: on validation images."""
    reduction: int = Field(default=3, ge=2)
    """ASHA: 1 in `reduction` goes on at each rung."""
    first_rung_epochs: int | None = Field(default=None, ge=1)
    """ASHA's shortest rung; None: about a sixth of the epochs."""
    beam: int = Field(default=3, ge=1)
    """How many of a level's best trials those of the next level start from."""
    levels: int | None = Field(default=None, ge=1)
    """Open all levels (so many stages after the head's), whatever they bring; None: a test stops the search. Untested,
    all validation images choose; else half of them only test."""
    winner: Literal["best", "deepest"] = "best"
    """Whose recipe is reported and kept: the best of all levels and heads, or the best of the deepest level."""
    lr_find: bool = False
    """Before a level begins, a range test at each of its depths (a few dozen steps) says between which bounds its
    learning rates are drawn; where in the space's own range they are drawn then says where between these."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Of the interval that decides whether a level brought a gain, none, or neither is certain."""
    min_gain: float = Field(default=0.01, ge=0.0)
    """The least gain in log-loss (nats an image) that is worth opening a level for."""


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

    def with_head(self, recipe: Recipe) -> Space:
        """The space with what decides a head fixed as in `recipe`: its pooling, head and first stage.

        Also its augmentation, if it was trained with any, for a recipe has one for all stages.
        """
        head = recipe.model_dump(mode="json")
        fixed = ["pooling", "head", *(["augmentation"] if recipe.schedule[0].strength else [])]
        own = [p for p in self.distributions if p.split(".")[0] in fixed or p.startswith("schedule.0.")]
        return replace(
            self,
            tree=self.tree
            | {name: head[name] for name in fixed}
            | {"schedule": [head["schedule"][0], *self.tree["schedule"][1:]]},
            distributions={path: value for path, value in self.distributions.items() if path not in own},
            default={path: value for path, value in self.default.items() if path not in own},
        )

    @property
    def heads_only(self) -> bool:
        """Whether the search is one of heads alone, on frozen features."""
        return self.search.heads > 0 and len(self.tree["schedule"]) == 1

    def head_paths(self) -> list[str]:
        """Searched fields of the head search: all but those of the stages after the first."""
        return [
            path for path in self.distributions if not path.startswith("schedule.") or path.startswith("schedule.0.")
        ]

    @property
    def levels(self) -> range:
        """The stages that trials search, by index: all but that of the heads, each a level of the tree."""
        return range(1 if self.search.heads else 0, len(self.tree["schedule"]))

    @property
    def tested(self) -> bool:
        """Whether the search stops at a level that brings nothing, as half of the validation images, held out, tell."""
        return len(self.levels) > 1 and self.search.levels is None

    def trial_paths(self, level: int) -> list[str]:
        """Searched fields of a trial of one level: its stage's, and at the first what is not of any stage."""
        return [
            path
            for path in self.distributions
            if path.startswith(f"schedule.{level}.") or (level in self.levels[:1] and not path.startswith("schedule."))
        ]

    def level_epochs(self, max_epochs: int) -> int:
        """Epochs of a stage of one level at most: a path through the tree has `max_epochs`, its head aside."""
        return max(1, max_epochs // max(1, len(self.levels)))

    def pack_paths(self) -> list[str]:
        """Searched fields that heads of one pack must agree in: see `raysearch.training.pack.pack_key`."""
        shared = ("schedule.0.strength", "schedule.0.batch_size")
        return [p for p in self.distributions if p in shared or p.split(".")[0] in ("pooling", "head", "augmentation")]

    def head_epochs(self) -> int:
        """The longest that a head may train."""
        if (path := "schedule.0.epochs") in self.distributions:
            return int(max(self.corners(path)))
        return int(self.tree["schedule"][0].get("epochs", _HEAD_EPOCHS))

    def head_shape_paths(self) -> list[str]:
        """Searched fields that decide a head's tensors: a trial can only start from a head that agrees in them."""
        return [path for path in self.distributions if path.split(".")[0] in ("pooling", "head")]

    def every_value(self, path: str) -> list[Any]:
        """All values that a field takes, encoded, a searched one's default first; none if it varies continuously."""
        distribution = self.distributions.get(path)
        if distribution is None:
            return self.values(path)
        found: list[Any] = []
        if isinstance(distribution, CategoricalDistribution):
            found = list(distribution.choices)
        elif isinstance(distribution, IntDistribution):
            found = list(range(distribution.low, distribution.high + 1, distribution.step))
        elif isinstance(distribution, FloatDistribution) and distribution.step is not None:
            steps = round((distribution.high - distribution.low) / distribution.step)
            found = [round(distribution.low + step * distribution.step, 12) for step in range(steps + 1)]
        default = self.default.get(path)
        return sorted(found, key=lambda value: value != default)  # stable

    def grid_size(self, paths: Collection[str]) -> int:
        """Combinations of these fields' values; 0 if one of them varies continuously."""
        return math.prod(len(self.every_value(path)) for path in paths)

    def grid_point(self, paths: Sequence[str], number: int) -> dict[str, Any]:
        """Combination `number`, the last path's values changing fastest; 0 is the default."""
        point = {}
        for path in reversed(paths):
            values = self.every_value(path)
            number, place = divmod(number, len(values))
            point[path] = values[place]
        return {path: point[path] for path in paths}

    def head_shapes(self) -> list[dict[str, Any]]:
        """Each combination of the choices that decide a head's tensors, the default's first."""
        choices = CategoricalDistribution
        paths = [path for path in self.head_shape_paths() if isinstance(self.distributions[path], choices)]
        return [self.grid_point(paths, number) for number in range(self.grid_size(paths))]

    def corners(self, path: str) -> list[Any]:
        """Values of a searched field, encoded, that are in range only if all are: all choices, or ends and a middle."""
        distribution = self.distributions[path]
        if isinstance(distribution, CategoricalDistribution):
            return list(distribution.choices)
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high = distribution.low, distribution.high
        if isinstance(distribution, IntDistribution):
            return [low, high]
        # A middle that is no whole number, so that a field of whole numbers is found out.
        middle = low + (distribution.step or (high - low) / 2**0.5)
        return [low, min(middle, high), high]

    def values(self, path: str) -> list[Any]:
        """The values that a field may take: those of `corners`, or the fixed one, or else the recipe's own default."""
        if path in self.distributions:
            return [decode(value) for value in self.corners(path)]
        given = flatten(self.tree, whole=[path])
        if path in given:
            return [given[path]]
        level, _, leaf = path.rpartition(".")
        model: type[BaseModel] = Stage if level.startswith("schedule.") else Head if level == "head" else Recipe
        known = model.model_fields.get(leaf)
        return [] if known is None or known.is_required() else [known.default]

    def head_recipe(self, params: dict[str, Any], max_epochs: int) -> Recipe:
        """The recipe of a head alone: its own stage and no other, for if it wins, that is what is trained again."""
        recipe = self.recipe(params, max_epochs)
        return recipe.model_copy(update={"schedule": recipe.schedule[:1]})

    def recipe(self, params: dict[str, Any], max_epochs: int) -> Recipe:
        """The recipe for sampled `params`; fields that `params` leaves out take the default's value.

        Each level trains for its share of `max_epochs`, or for fewer if the space says so; heads are bounded only where
        they are all that is searched. What is no field of a recipe (the parent) is passed over.
        """
        values = self.default | {path: value for path, value in params.items() if path in self.distributions}
        tree = _fill(self.tree, "", {path: decode(value) for path, value in values.items()})
        most, schedule = self.level_epochs(max_epochs), list(tree["schedule"])
        for stage in self.levels or [0]:
            epochs = schedule[stage].get("epochs", most)
            schedule[stage] = schedule[stage] | {
                "epochs": min(epochs, most) if isinstance(epochs, int | float) else epochs
            }
        return Recipe.model_validate(self.fixed | tree | {"schedule": schedule})


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


def _choice(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float | dict | list | tuple):
        return encode(value)
    raise ValueError(f"{value!r} cannot be one of the choices: it must be a number, text, None, a list or a dict")


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
    source, module = _run(path)
    wanted = [what for what in ("space", "default") if not isinstance(module.get(what), dict)]
    problems = [f"`{what}` must be a dict shaped like a Recipe" for what in wanted]
    search = module.get("search", Search())
    if not isinstance(search, Search):
        problems.append(f"`search` must be a raysearch.space.Search, got {search!r}")
        search = Search()
    schedule = module["space"].get("schedule") if "space" not in wanted else [{}]
    if not isinstance(schedule, list | tuple) or not schedule or not all(isinstance(one, dict) for one in schedule):
        problems.append(f"`space` needs a schedule: a list of stages, each a dict; got {schedule!r}")
    if not problems:
        space, problems = _read(path, source, module["space"], module["default"], search, dict(fixed or {}))
    if problems:
        raise InputError([f"{path}: {problem}" for problem in problems])
    return space


def _run(path: Path) -> tuple[str, dict[str, Any]]:
    """The file's text, and what it defines."""
    try:
        source = path.read_text(encoding="utf-8")
        return source, runpy.run_path(str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise InputError(f"{error.filename or path}{line}: {error.msg}") from error
    except ValidationError as error:  # of Search(…)
        told = [f"{error.title}.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise InputError([f"{path}: {one}" for one in told]) from error
    except (Exception, SystemExit) as error:  # a space is somebody's code: whatever it raises is a problem of the file
        raise InputError(f"{path} cannot be run: {type(error).__name__}: {error}") from error


def _read(
    path: Path, source: str, tree: dict[str, Any], default: dict[str, Any], search: Search, fixed: dict[str, Any]
) -> tuple[Space, list[str]]:
    """The space, and what is wrong with it; what cannot be used is left out of it, so that the rest can be judged."""
    problems: list[str] = []
    distributions: dict[str, BaseDistribution] = {}
    unusable: set[str] = set()
    for key, value in flatten(tree).items():
        place, is_grid, _ = f"{key}.".partition(".grid_search.")
        try:
            if is_grid or (isinstance(value, dict) and "grid_search" in value):
                key = place.removesuffix(".")
                raise ValueError("tune.grid_search is not supported; use tune.choice")
            if isinstance(value, sample.Domain):
                distributions[key] = _distribution(value)
            elif isinstance(value, dict) and any(isinstance(one, sample.Domain) for one in value.values()):
                raise ValueError("the weights of single classes cannot be searched; use tune.choice over whole dicts")
            elif callable(value):
                raise ValueError(f"{value!r} is neither a value nor one of tune's domains")
        except (ValueError, TypeError) as error:
            if key not in unusable:
                problems.append(f"{key}: {error}")
            unusable.add(key)
    given = {key: encode(value) for key, value in flatten(default, whole=distributions).items()}
    problems += [f"`default` has no value for {key}" for key in distributions if key not in given]
    problems += [
        f"`default` gives {key}, which is not searched" for key in given if key not in distributions.keys() | unusable
    ]
    problems += [
        f"`default` for {key} is {decode(given[key])!r}, which is not in {describe(distribution)}"
        for key, distribution in distributions.items()
        if key in given and not _contains(distribution, given[key])
    ]
    known = _without(_fill(tree, "", dict.fromkeys(distributions)), "", unusable)
    space = Space(path.stem, source, known, distributions, {}, search, fixed)
    fine = {
        key: given[key] if key in given and _contains(distribution, given[key]) else space.corners(key)[0]
        for key, distribution in distributions.items()
    }
    space = replace(space, default=fine)
    return space, [*problems, *space_problems(space, unusable)]


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if not isinstance(distribution, CategoricalDistribution) and not isinstance(value, int | float):
        return False
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except ValueError:
        return False


def _without(tree: Any, prefix: str, unusable: Collection[str]) -> Any:
    """The tree without the leaves at these dotted paths."""
    if not isinstance(tree, dict | list | tuple) or prefix.endswith(".class_weights"):
        return tree
    children = tree.items() if isinstance(tree, dict) else enumerate(tree)
    kept = {
        key: _without(child, path, unusable)
        for key, child in children
        if (path := f"{prefix}.{key}" if prefix else str(key)) not in unusable
    }
    return kept if isinstance(tree, dict) else list(kept.values())


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
        return CategoricalDistribution([_choice(value) for value in domain.categories])
    if log and step not in (None, 1):
        raise ValueError("a logarithmic domain with steps cannot be searched; use tune.loguniform or tune.quniform")
    if step is not None and isinstance(domain, sample.Float | sample.Integer):
        low, high = float(domain.lower or 0), float(domain.upper or 0)
        if abs((high - low) / step % 1 - 0.5) < 0.5 - 1e-8:
            raise ValueError(f"from {low:g} to {high:g} is not a whole number of steps of {step:g}")
    if isinstance(domain, sample.Float) and isinstance(sampler, sample.Uniform | sample.LogUniform):
        return FloatDistribution(domain.lower, domain.upper, log=log, step=step)
    if isinstance(domain, sample.Integer) and isinstance(sampler, sample.Uniform | sample.LogUniform):
        # Tune's upper bound is exclusive, but inclusive where it is quantized with a step above 1.
        upper = domain.upper - 1 if step in (None, 1) else domain.upper
        return IntDistribution(domain.lower, upper, log=log, step=int(step or 1))
    raise ValueError(
        f"{domain.domain_str or domain} is not supported; use tune.choice, uniform, quniform, loguniform or randint"
    )


optuna.logging.set_verbosity(optuna.logging.WARNING)
