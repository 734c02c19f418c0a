"""Finds and reads the file of a space."""

from __future__ import annotations

import runpy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from pydantic import ValidationError
from ray.tune.search import sample

from raysearch.errors import InputError
from raysearch.models.registry import backbone_spec
from raysearch.recipe import AT_HAND, NATIVE, Shared, Tree, flatten, named_network
from raysearch.space.check import space_problems
from raysearch.space.domains import choice_of, contains, distribution_of
from raysearch.space.first import read_first
from raysearch.space.names import find_space
from raysearch.space.networks import as_depths, in_sizes, native_size, networks_at_hand
from raysearch.space.own import Own, why_not_moved
from raysearch.space.search import Search
from raysearch.space.space import Space, _fill, decode, describe, encode


def load_space(name: str, *, fixed: Shared | None = None, networks: Sequence[str] = ()) -> Space:
    """Read and check a space.

    Args:
        name: a name in search_spaces/ or the path of a space file.
        fixed: recipe fields that the command sets; they give way to what the space itself says.
        networks: that the command chooses among, where the space leaves the backbone to it: says nothing of it, or
            "at_hand", which is those whose weights are on this machine where the command says nothing.

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
        tree, default = module["space"], module["default"]
        try:
            tree, default = _with_networks(tree, default, networks, fixed or {})
        except InputError as error:
            problems = list(error.problems)
    if not problems:
        space, problems = _read(path, source, tree, default, search, fixed or {})
        space = replace(space, at_hand=module["space"].get("backbone") == AT_HAND and not networks)
    if problems:
        raise InputError([f"{path}: {problem}" for problem in problems])
    return space


def _run(path: Path) -> tuple[str, Mapping[str, Any]]:
    """The file's text, and what it defines, by name."""
    try:
        source = path.read_text(encoding="utf-8")
        return source, runpy.run_path(str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise InputError(f"{error.filename or path}{line}: {error.msg}") from error
    except ValidationError as error:  # Search(…) raises it
        told = [f"{error.title}.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise InputError([f"{path}: {one}" for one in told]) from error
    except (Exception, SystemExit) as error:  # a space is somebody's code: whatever it raises is a problem of the file
        raise InputError(f"{path} cannot be run: {type(error).__name__}: {error}") from error


def _with_networks(tree: Tree, default: Tree, networks: Sequence[str], fixed: Shared) -> tuple[Tree, Tree]:
    """The space and its default with the networks that are chosen among, where the space leaves them open.

    A searched image size makes several of each network: what is learned at one size is not what another needs.
    """
    own, size = tree.get("backbone"), tree.get("image_size")
    sizes = list(size.categories) if isinstance(size, sample.Categorical) else [NATIVE] if size == NATIVE else []
    open_ = own is None or own == AT_HAND
    if isinstance(own, sample.Categorical):
        names = [str(one) for one in own.categories]
    elif not open_:
        names = [str(own)]
    elif own == AT_HAND and not networks:
        names = networks_at_hand(str(tree.get("weights", fixed.get("weights", "auto"))))
    else:
        names = list(networks) or ([str(fixed["backbone"])] if sizes and "backbone" in fixed else [])
    said = not sizes and (not open_ or not names or (own is None and len(names) == 1))
    if said:  # by the space, or by the command, which fixes it
        return tree, default
    named = in_sizes(names, sizes)
    parts = {"backbone", *(["image_size"] if sizes else [])}
    kept, rest = ({key: value for key, value in one.items() if key not in parts} for one in (tree, default))
    if len(named) > 1:
        first = _default_network(str(default.get("backbone", names[0])), default, sizes)
        return {"backbone": sample.Categorical(named)} | kept, rest | {"backbone": first}
    backbone, weights, pixels = named_network(named[0])
    pixels = native_size(backbone) if pixels == NATIVE else pixels
    more = ({"weights": weights} if weights else {}) | ({} if pixels is None else {"image_size": pixels})
    return kept | {"backbone": backbone} | more, rest


def _default_network(name: str, default: Tree, sizes: Sequence[Any]) -> str:
    """The default's network, in the size that the default names; in the first, if it names none."""
    if not sizes or named_network(name).image_size is not None:
        return name
    return f"{name}@{default.get('image_size', sizes[0])}"


def _read(path: Path, source: str, tree: Tree, default: Tree, search: Search, fixed: Shared) -> tuple[Space, list[str]]:
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
                distributions[key] = distribution_of(value)
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
        if key in given and not contains(distribution, given[key])
    ]
    known = _without(_fill(tree, "", dict.fromkeys(distributions)), "", unusable)
    space = Space(path.stem, source, known, distributions, {}, search, fixed)
    fine = {
        key: given[key] if key in given and contains(distribution, given[key]) else space.corners(key)[0]
        for key, distribution in distributions.items()
    }
    space = replace(space, default=fine)
    own, wrong = _own(space, search)
    space = replace(space, own=own)
    first, amiss = read_first(space, unusable)
    return replace(space, first=first), [*problems, *wrong, *space_problems(space, unusable), *amiss]


def _own(space: Space, search: Search) -> tuple[Own, list[str]]:
    """What `per_backbone` says, as distributions, and what is wrong with it."""
    found: dict[str, dict[str, BaseDistribution]] = {}
    problems: list[str] = []
    known = flatten(space.tree, whole=space.distributions)
    for backbone, values in search.per_backbone.items():
        for path, value in values.items():
            where = f"search.per_backbone[{backbone!r}][{path!r}]"
            try:
                backbone_spec(backbone)
                if path not in known or not path.startswith("schedule."):
                    stages = ", ".join(key for key in known if key.startswith("schedule."))
                    raise ValueError(f"there is no such value of a stage in `space`; there are {stages}")
                if isinstance(value, sample.Domain):
                    own = distribution_of(value)
                else:
                    choices = list(value) if isinstance(value, list | tuple) else [value]
                    choices = as_depths(backbone, choices) if path.endswith(".depth") else choices
                    own = CategoricalDistribution([choice_of(one) for one in choices])
                if (reason := why_not_moved(space.distributions.get(path), own)) is not None:
                    raise ValueError(reason)
                found.setdefault(backbone, {})[path] = own
            except InputError as error:
                problems += [f"{where}: {problem}" for problem in error.problems]
            except (ValueError, TypeError) as error:
                problems.append(f"{where}: {error}")
    return found, problems


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
