"""What is wrong with a space whose file could be read: all of it, before a trial starts."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution
from pydantic import BaseModel, ValidationError

from raysearch.errors import InputError
from raysearch.models.registry import backbone_spec, usable_spec
from raysearch.models.spec import BackboneSpec
from raysearch.recipe import SHARED, Augmentation, Head, Recipe, Stage, Tree, flatten
from raysearch.space.networks import backbones_of, twice

if TYPE_CHECKING:
    from raysearch.space.space import Space

# A field that is read only if another one has a certain value: elsewhere it says nothing, and a search of it finds
# nothing. The leaf's name -> the other field (in the same stage, unless it is a whole path), what it must be, in words.
_READ_WHEN: dict[str, tuple[str, Callable[[Any], bool], str]] = {
    "hidden_units": ("head.kind", lambda kind: kind == "hidden", "hidden"),
    "dimensions": ("head.kind", lambda kind: kind == "embedding", "embedding"),
    "contrastive": ("head.kind", lambda kind: kind == "embedding", "embedding"),
    "contrastive_temperature": ("contrastive", lambda weight: weight > 0, "above 0"),
    "plateau_factor": ("course", lambda course: course == "plateau", "plateau"),
    "plateau_patience_epochs": ("course", lambda course: course == "plateau", "plateau"),
    "min_learning_rate": ("course", lambda course: course in ("plateau", "cosine"), "plateau or cosine"),
    "focal_gamma": ("loss", lambda loss: loss == "focal", "focal"),
    "adjustment_tau": ("loss", lambda loss: loss == "logit_adjusted", "logit_adjusted"),
    "mixing_rate": ("mixing", lambda mixing: mixing != "none", "mixup or cutmix"),
    "mixing_alpha": ("mixing", lambda mixing: mixing != "none", "mixup or cutmix"),
    "batch_norm": ("depth", lambda depth: depth > 0, "above 0"),
    "l2_sp": ("depth", lambda depth: depth > 0, "above 0"),
    "layer_decay": ("depth", lambda depth: depth > 0, "above 0"),
}

_TO_ZERO = {"one_cycle", "cosine"}
UNBOUNDED_EPOCHS = 1_000_000  # so that the space's own epochs are what is checked
_LEVELS: dict[str, type[BaseModel]] = {"": Recipe, "head": Head, "augmentation": Augmentation, "schedule": Stage}


def space_problems(space: Space, unusable: Collection[str] = ()) -> list[str]:
    """Unknown keys, values out of range, blocks that the backbone lacks, values that nothing reads; a sentence each.

    Args:
        space: its shape is right: a dict with a list of stages in it.
        unusable: dotted paths that are missing from the space because something else was wrong with them.
    """
    invalid = list(dict.fromkeys(_out_of_range(space, unusable)))
    vain, networks = _searched_in_vain(space, unusable), _networks(space)
    return [*invalid, *vain, *networks, *_depths(space), *_schedule(space, unusable)]


def _out_of_range(space: Space, unusable: Collection[str]) -> Iterator[str]:
    """What the recipe refuses, over the default and the corners of each searched value."""
    for network in space.networks or (None,):
        chosen = {} if network is None else {"backbone": network}
        for key in ("", *space.distributions):
            for value in space.corners(key) if key else [None]:
                try:
                    space.recipe(chosen | ({key: value} if key else {}), UNBOUNDED_EPOCHS)
                except ValidationError as error:
                    yield from _sentences(error, unusable)


def _sentences(error: ValidationError, unusable: Collection[str]) -> Iterator[str]:
    for one in error.errors():
        place = ".".join(map(str, one["loc"]))
        head, union, _ = place.partition(".class_weights.")
        if place in unusable or not place or one["loc"] == ("schedule",):  # the last two are checked in `_schedule`
            continue
        if union:  # pydantic tells what each branch of the union says
            allowed = (
                "none, balanced, a power from 0 to 1, effective:0.999 or the like, or a weight above 0 for each class"
            )
            if "literal" in place:
                yield f"{head}.class_weights: must be {allowed}, got {one['input']!r}"
        elif one["type"] in ("extra_forbidden", "invalid_key"):
            yield f"{place}: nothing reads this key{_nearest(place)}"
        elif one["type"] == "missing":
            yield f"{place} is missing"
        elif one["type"] == "int_from_float":
            yield f"{place}: must be a whole number, got {one['input']!r}; draw it by tune.randint or tune.choice"
        else:
            yield f"{place}: {one['msg']}, got {one['input']!r}"


def _nearest(place: str) -> str:
    """The field that may have been meant: one of the same level, or the same name elsewhere."""
    level, _, leaf = place.rpartition(".")
    here = _LEVELS.get(level.partition(".")[0], Recipe).model_fields
    if near := difflib.get_close_matches(leaf, here, n=1):
        return f"; did you mean {near[0]}?"
    for other, model in _LEVELS.items():
        if leaf in model.model_fields:
            return f"; {leaf} belongs " + (f"into {other}" if other else "beside schedule")
    return ""


def read_fields(recipe: Recipe) -> Tree:
    """The recipe as a space without distributions would give it: no defaults, and nothing that is not read."""
    tree = recipe.model_dump(mode="json", exclude_defaults=True)
    levels: list[tuple[BaseModel, Tree]] = [
        (recipe.head, tree.get("head", {})),
        *zip(recipe.schedule, tree["schedule"], strict=True),
    ]
    for level, given in levels:
        for leaf, (other, reads, _) in _READ_WHEN.items():
            if leaf in given and not reads(recipe.head.kind if other == "head.kind" else getattr(level, other)):
                del given[leaf]
                # It is back at its default, so that what is read only with it goes, too.
                level = level.model_copy(update={leaf: type(level).model_fields[leaf].default})
    if not tree.get("head"):
        tree.pop("head", None)
    if not any(stage.strength for stage in recipe.schedule):
        tree.pop("augmentation", None)
    return tree


def _searched_in_vain(space: Space, unusable: Collection[str]) -> Iterator[str]:
    """Values that nothing reads, whatever the others are."""
    for key in space.distributions:
        if key == "image_size":
            yield "image_size: give the sizes, for each is decoded and has heads of its own: tune.choice([64, 128])"
        elif key in SHARED and key != "backbone":
            yield f"{key} cannot be searched: a run has one, for all trials; fix it, or leave it to the command"
    for key in flatten(space.tree):
        parent, _, leaf = key.rpartition(".")
        verb = "searched" if key in space.distributions else "set"
        if leaf in _READ_WHEN:
            other, reads, words = _READ_WHEN[leaf]
            other = other if "." in other else f"{parent}.{other}"
            values = space.values(other)
            if other not in unusable and values and not any(_holds(reads, value) for value in values):
                yield f"{key} is {verb}, but it is read only when {other} is {words}"
        if parent == "augmentation" or key == "augmentation":
            strengths = [space.values(f"schedule.{stage}.strength") for stage in range(len(space.tree["schedule"]))]
            if not any(_holds(lambda strength: strength > 0, value) for values in strengths for value in values):
                yield f"{key} is {verb}, but it is read only when a stage's strength is above 0"


def _holds(condition: Callable[[Any], bool], value: Any) -> bool:
    try:
        return condition(value)
    except TypeError:  # not even the right type, which is reported elsewhere
        return True


def _depths(space: Space) -> Iterator[str]:
    """Blocks that a backbone lacks, and stages that might close blocks again."""
    backbone = space.tree.get("backbone") or space.fixed.get("backbone")
    names = backbones_of(space.networks) if "backbone" in space.distributions else [backbone]
    for name in names:
        spec = usable_spec(name)
        if "backbone" in space.tree and spec is None and isinstance(name, str):
            try:
                backbone_spec(name)
            except InputError as error:
                yield from error.problems
        yield from dict.fromkeys(_depths_of(space, name, spec))


def _depths_of(space: Space, backbone: Any, spec: BackboneSpec | None) -> Iterator[str]:
    before: tuple[str, float] | None = None
    for stage in range(len(space.tree["schedule"])):
        key = f"schedule.{stage}.depth"
        depths = [space.own_value(str(backbone), key, depth) for depth in space.values(key)]
        depths = [depth for depth in depths if isinstance(depth, int | float)]
        for depth in depths if spec is not None else []:
            assert spec is not None
            if depth > len(spec.block_names):
                names = ", ".join(spec.block_names)
                yield f"{key}: {depth:g} blocks to unfreeze, but {spec.name} has {len(spec.block_names)}: {names}"
        if before is not None and depths and before[1] > min(depths):
            yield (
                f"{before[0]} may be {before[1]:g} where {key} is {min(depths):g}: depth must never decrease along "
                "the schedule"
            )
        if depths:
            before = (key, max(depths))


def _networks(space: Space) -> Iterator[str]:
    """Whether the networks can be searched as the space asks for it."""
    search, distribution = space.search, space.distributions.get("backbone")
    if distribution is None:
        return
    if not isinstance(distribution, CategoricalDistribution) or not all(
        isinstance(one, str) for one in distribution.choices
    ):
        yield 'backbone: give the names of the networks: tune.choice(["densenet121", "resnet18=random", …])'
        return
    if found := twice(space.networks):
        yield f"backbone names {', '.join(found)} more than once; networks are told apart by name and weights"
    if search.lr_find:
        yield (
            "search.lr_find tests the learning rates of one network, but several are searched; fix the backbone, or "
            "give each its own range by search.per_backbone"
        )
    if search.sampler == "grid" and not space.heads_only:
        yield (
            'search.sampler is "grid", which covers every combination, but networks that are clearly behind leave; '
            "fix the backbone, or take another sampler"
        )
    if search.networks is not None and not search.heads:
        yield f"search.networks is {search.networks}, but without a head search (search.heads is 0) networks all go on"


def _levels(space: Space) -> Iterator[str]:
    """Whether the stages after the head's can be searched one after the other."""
    search = space.search
    if search.levels not in (None, len(space.levels)):
        yield (
            f"search.levels is {search.levels}, but the schedule has {len(space.levels)} stages after the head's; "
            "give as many, or None to let a test stop the search"
        )
    if len(space.levels) > 1 and search.sampler == "grid":
        yield 'search.sampler is "grid", which cannot cover a tree: what a level starts from is not known beforehand'
    for level in space.levels:
        ended, floor = f"schedule.{level - 1}.course", f"schedule.{level - 1}.min_learning_rate"
        inherits = any(value is not None for value in space.values(f"schedule.{level}.inherit"))
        to_zero = {"one_cycle"} if any(_holds(lambda rate: rate > 0, one) for one in space.values(floor)) else _TO_ZERO
        if inherits and (found := sorted(to_zero.intersection(map(str, space.values(ended))))):
            yield (
                f"schedule.{level}.inherit takes over the rate at which the stage before ends, but {ended} may be "
                f"{' or '.join(found)}, which ends near 0; use constant or plateau there"
            )


def _schedule(space: Space, unusable: Collection[str]) -> Iterator[str]:
    """Whether the search, as the space asks for it, trains every stage and has a head for every trial."""
    search, stages = space.search, len(space.tree["schedule"])
    heads = search.heads
    if search.sampler == "grid":
        paths = (
            space.head_paths() if space.heads_only else [p for level in space.levels for p in space.trial_paths(level)]
        )
        for key in paths:
            if key not in unusable and not space.every_value(key):
                yield (
                    f"{key} varies continuously, which a grid cannot cover; use tune.choice or tune.quniform, or "
                    'another sampler than "grid"'
                )
    if search.folds == 1:
        yield "search.folds is 1: cross-validation needs at least 2 folds (0: the validation images decide)"
    if search.folds and not space.heads_only:
        yield (
            f"search.folds is {search.folds}, but trials that unfreeze blocks are compared on the validation images; "
            "cross-validation is for spaces of one stage at depth 0, with search.heads above 0"
        )
    if not heads:
        if stages != 1:
            yield f"search.heads is 0, so a trial is one stage, but the schedule has {stages}"
        return
    if "schedule.0.depth" not in unusable and set(space.values("schedule.0.depth")) != {0}:
        yield (
            f"search.heads is {heads}, so the schedule must begin with the head's stage, of depth 0; its depths are "
            f"{[space.values(f'schedule.{stage}.depth') for stage in range(stages)]}"
        )
    if set(space.values("schedule.0.part")) != {"all"}:
        yield f"schedule.0.part: heads train on all images, got {space.values('schedule.0.part')[0]!r}"
    if any(_holds(lambda share: share > 0, value) for value in space.values("schedule.0.drop_label_errors")):
        yield "schedule.0.drop_label_errors: heads train on all images; let a later stage leave some out"
    yield from _levels(space)
    if space.heads_only:
        return
    shapes = 1
    for key in space.head_shape_paths():
        if key == "backbone":  # `heads` are those of each network
            continue
        distribution = space.distributions[key]
        if isinstance(distribution, CategoricalDistribution):
            shapes *= len(distribution.choices)
        else:
            yield f"{key}: each value needs a head of its own, so give the values: tune.choice([…])"
    if shapes > heads:
        yield (
            f"search.heads is {heads}, but pooling and head have {shapes} combinations, and each needs a head of its "
            "own; raise it, or search fewer"
        )
