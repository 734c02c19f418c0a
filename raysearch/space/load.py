"""Finds and reads the file of a space."""

from __future__ import annotations

import runpy
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from pydantic import ValidationError
from ray.tune.search import sample

from raysearch.errors import InputError
from raysearch.recipe import Shared, Tree, flatten
from raysearch.space.check import space_problems
from raysearch.space.domains import contains, distribution_of
from raysearch.space.names import find_space
from raysearch.space.space import Search, Space, _fill, decode, describe, encode


def load_space(name: str, *, fixed: Shared | None = None) -> Space:
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
        space, problems = _read(path, source, module["space"], module["default"], search, fixed or {})
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
    return space, [*problems, *space_problems(space, unusable)]


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
