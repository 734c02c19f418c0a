"""The recipes that a space names to be tried first, after its default: `Search(first=[{…}, …])`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from raysearch.recipe import Values, flatten, named_network
from raysearch.space.check import UNBOUNDED_EPOCHS
from raysearch.space.domains import contains
from raysearch.space.space import Space, decode, describe, encode


@dataclass(frozen=True)
class FirstRecipe:
    """A recipe that the space names."""

    number: int
    """Its place in `Search.first`, from 0."""
    values: Values
    """Of everything that its trial or head draws, encoded; what the space does not say is the default's."""


def first_paths(space: Space) -> list[str]:
    """What a first recipe may give: what a trial of the first level draws; where heads alone are searched, a head."""
    return space.head_paths() if space.heads_only else space.trial_paths(space.levels[0])


def first_recipes(space: Space) -> list[FirstRecipe]:
    """The recipes to try after the default, in order; those that are like the default or one before are left out."""
    paths = first_paths(space)
    known = [{path: space.default[path] for path in paths}]
    found: list[FirstRecipe] = []
    for number, given in enumerate(space.first):
        values = known[0] | {path: value for path, value in given.items() if path in paths}
        if "backbone" in given and "backbone" in paths:
            values["backbone"] = _network(given["backbone"], space)
        if values not in known:
            known.append(values)
            found.append(FirstRecipe(number, values))
    return found


def read_first(space: Space, unusable: Collection[str]) -> tuple[tuple[Values, ...], list[str]]:
    """What `search.first` gives, by dotted path and encoded, and what is wrong with it.

    Args:
        space: read but for this.
        unusable: dotted paths of the space in which something else is wrong.
    """
    given = [
        {path: encode(value) for path, value in flatten(one, whole=space.distributions).items()}
        for one in space.search.first
    ]
    problems = [problem for number, one in enumerate(given) for problem in _problems(space, number, one, unusable)]
    if given and space.search.sampler == "grid":
        problems.append("search.first has no place in a grid, which tries every combination; take another sampler")
    return tuple(given), problems


def _problems(space: Space, number: int, given: Values, unusable: Collection[str]) -> Iterator[str]:
    where, paths, fine = f"search.first[{number}]", first_paths(space), True
    for path, value in given.items():
        distribution = space.distributions.get(path)
        if path in unusable:
            fine = False
        elif distribution is None:
            fine = False
            yield f"{where} gives {path}, which is not searched; there are {', '.join(paths)}"
        elif path not in paths:
            fine = False
            yield f"{where} gives {path}, but it is tried as a trial of the first level, which draws {', '.join(paths)}"
        elif not contains(distribution, value):
            fine = False
            yield f"{where} for {path} is {decode(value)!r}, which is not in {describe(distribution)}"
    if fine:
        alone = _refused(space, {})  # which is wrong without it, and is told elsewhere
        yield from (f"{where}: {problem}" for problem in _refused(space, given) if problem not in alone)


def _refused(space: Space, given: Values) -> list[str]:
    """What a recipe of these values may not be."""
    try:
        space.recipe(given, UNBOUNDED_EPOCHS)
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return []


def _network(given: str, space: Space) -> str:
    """The network that a recipe means, which the search may have completed by weights and image size."""
    wanted = named_network(given)

    def agreement(network: str) -> tuple[bool, ...]:
        return tuple(mine == theirs for mine, theirs in zip(wanted, named_network(network), strict=True))

    return max(space.networks, key=agreement)
