"""A space: a recipe with Ray Tune's domains in the place of some values, in one Python file.

A space file defines `space` (shaped like a Recipe), `default` (a value for every domain: the known-good recipe, trial
0) and, if it wants to, `search` (how the space is searched). All that is wrong with it is found before a trial starts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import BaseModel

from raysearch.recipe import Head, Recipe, Shared, Stage, Tree, Values, flatten, named_network
from raysearch.space.own import Own, moved
from raysearch.space.search import Search

_HEAD_EPOCHS = 30  # where the space does not say


@dataclass(frozen=True)
class Space:
    """A checked space, free of Ray: fixed values, and an Optuna distribution for every searched one, by dotted path."""

    name: str
    source: str
    """The file's text, as it is kept in the run folder."""
    tree: Tree
    """The recipe-shaped space; a searched value is None here."""
    distributions: dict[str, BaseDistribution]
    default: Values
    """The default's values for the distributions (categorical values encoded)."""
    search: Search
    fixed: Shared = field(default_factory=lambda: Shared())
    """What the command adds to every recipe."""
    own: Own = field(default_factory=dict)
    """What `Search.per_backbone` says."""
    first: tuple[Values, ...] = ()
    """What `Search.first` says, by dotted path, encoded: see `raysearch.space.first`."""
    at_hand: bool = False
    """Whether the networks are those whose weights were on this machine, and nobody has named them."""

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that are chosen among, as NAME[=WEIGHTS][@PX], the default's first; none if it is fixed."""
        return tuple(self.every_value("backbone")) if "backbone" in self.distributions else ()

    def among(self, networks: Sequence[str]) -> Space:
        """The space over these networks, of which the first is the default's."""
        return replace(
            self,
            tree=self.tree | {"backbone": None},
            distributions={"backbone": CategoricalDistribution(networks)}
            | {path: one for path, one in self.distributions.items() if path != "backbone"},
            default=self.default | {"backbone": networks[0]},
        )

    def only(self, network: str) -> Space:
        """The space of one network, with the ranges that it has for itself."""
        backbone, weights, size = named_network(network)
        own = self.own.get(backbone, {})
        kept = [path for path in self.distributions if path != "backbone"]
        default = {path: self.own_value(network, path, self.default.get(path)) for path in dict.fromkeys([*kept, *own])}
        return replace(
            self,
            tree=self.tree
            | {"backbone": backbone}
            | ({"weights": weights} if weights else {})
            | ({"image_size": size} if isinstance(size, int) else {}),
            distributions={path: own.get(path) or self.distributions[path] for path in default},
            default=default,
            first=tuple({path: self.own_value(network, path, one[path]) for path in one} for one in self.first),
            own={},
        )

    def own_value(self, network: str, path: str, value: Any) -> Any:
        """What a value of the space, encoded, is for a network."""
        own = self.own.get(named_network(network)[0], {}).get(path)
        return value if own is None else moved(value, self.distributions.get(path), own)

    def common_value(self, network: str, path: str, value: Any) -> Any:
        """The inverse of `own_value` for a searched value; the default's, where a network makes the same of all."""
        own = self.own.get(named_network(network)[0], {}).get(path)
        if isinstance(own, CategoricalDistribution) and len(own.choices) == 1:
            return self.default[path]
        return value if own is None else moved(value, own, self.distributions[path])

    @property
    def heads(self) -> int:
        """Recipes of the head search, of all networks together."""
        return self.search.heads * max(1, len(self.networks))

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
        """Searched fields that heads of one pack must agree in: see `raysearch.training.heads.pack.pack_key`."""
        shared = ("schedule.0.strength", "schedule.0.batch_size")
        parts = ("backbone", "pooling", "head", "augmentation")
        return [p for p in self.distributions if p in shared or p.split(".")[0] in parts]

    def head_epochs(self) -> int:
        """The longest that a head may train."""
        if (path := "schedule.0.epochs") in self.distributions:
            return int(max(self.corners(path)))
        return int(self.tree["schedule"][0].get("epochs", _HEAD_EPOCHS))

    def head_shape_paths(self) -> list[str]:
        """Searched fields that decide a head's tensors: a trial can only start from a head that agrees in them."""
        parts = ("backbone", "pooling", "head")  # one network's after the other's: its features are made once
        return sorted((p for p in self.distributions if p.split(".")[0] in parts), key=lambda p: p != "backbone")

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

    def grid_point(self, paths: Sequence[str], number: int) -> Values:
        """Combination `number`, the last path's values changing fastest; 0 is the default."""
        point = {}
        for path in reversed(paths):
            values = self.every_value(path)
            number, place = divmod(number, len(values))
            point[path] = values[place]
        return {path: point[path] for path in paths}

    def head_shapes(self) -> list[Values]:
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

    def head_recipe(self, params: Values, max_epochs: int) -> Recipe:
        """The recipe of a head alone: its own stage and no other, for if it wins, that is what is trained again."""
        recipe = self.recipe(params, max_epochs)
        return recipe.model_copy(update={"schedule": recipe.schedule[:1]})

    def recipe(self, params: Values, max_epochs: int) -> Recipe:
        """The recipe for sampled `params`; fields that `params` leaves out take the default's value.

        Each level trains for its share of `max_epochs`, or for fewer if the space says so; heads are bounded only where
        they are all that is searched. What is no field of a recipe (the parent) is passed over.
        """
        values = self.default | {path: value for path, value in params.items() if path in self.distributions}
        network = str(values.get("backbone", self.tree.get("backbone", self.fixed.get("backbone"))))
        for path in self.own.get(named_network(network)[0], {}):
            values = values | {path: self.own_value(network, path, values.get(path))}
        tree = _fill(self.tree, "", {path: decode(value) for path, value in values.items()})
        if "backbone" in self.distributions:
            backbone, weights, size = named_network(network)
            tree |= {"backbone": backbone} | ({"weights": weights} if weights else {})
            tree |= {"image_size": size} if isinstance(size, int) else {}
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


def _fill(tree: Any, prefix: str, values: Values) -> Any:
    """The tree with the leaves at the dotted paths of `values` replaced."""
    if prefix in values:
        return values[prefix]
    if isinstance(tree, dict):
        return {key: _fill(child, f"{prefix}.{key}" if prefix else key, values) for key, child in tree.items()}
    if isinstance(tree, list | tuple):
        return [_fill(child, f"{prefix}.{index}", values) for index, child in enumerate(tree)]
    return tree


optuna.logging.set_verbosity(optuna.logging.WARNING)
