"""A recipe as a space in which nothing is searched (`--recipe FILE`): trained stage by stage from the weights alone.

Also one point of a space (`--parameters FILE`), which is such a recipe.
"""

from __future__ import annotations

import json
import pprint
from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from raysearch.errors import InputError
from raysearch.recipe import Recipe, flatten
from raysearch.space.check import read_fields
from raysearch.space.space import Space, encode


def recipe_space(file: Path, without: Collection[str] = ()) -> tuple[str, int]:
    """The text of a space file that trains a recipe, and the epochs of a path through it.

    Args:
        file: of the recipe, as JSON (best/recipe.json of a run).
        without: fields that the command gives instead.

    Raises:
        InputError: it cannot be read, or is no recipe.
    """
    try:
        recipe = Recipe.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        told = error.errors() if isinstance(error, ValidationError) else []
        reasons = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in told] or [str(error)]
        raise InputError([f"--recipe {file}: {reason}" for reason in reasons]) from error
    return space_of(recipe, f"--recipe {file}", without)


def space_of(recipe: Recipe, given: str, without: Collection[str] = ()) -> tuple[str, int]:
    """What `recipe_space` gives, made of a recipe that is there.

    Args:
        recipe: what to train.
        given: the flag that named it, for people.
        without: fields that the command gives instead.
    """
    depths = [stage.depth for stage in recipe.schedule]
    if depths[0] and len(depths) > 1:
        raise InputError(f"{given}: a schedule of several stages must begin with the head's; depths are {depths}")
    levels = len(depths) - 1 if depths[0] == 0 else 1
    heads = "heads=1, beam=1" if depths[0] == 0 else "heads=0"
    tree = {key: value for key, value in read_fields(recipe).items() if key not in without}
    most = max(stage.epochs for stage in (recipe.schedule[1:] or recipe.schedule))
    return (
        f"# The recipe of {given}, as it is.\n\n"
        "from raysearch.space.space import Search\n\n"
        f"space = {pprint.pformat(tree, width=100, sort_dicts=False)}\n\n"
        "default: dict = {}\n\n"
        f'search = Search({heads}, levels={levels or None}, winner="deepest")\n'
    ), most * max(1, levels)


def recipe_at(space: Space, file: Path, max_epochs: int) -> Recipe:
    """The recipe at one point of a space.

    Args:
        space: the space.
        file: values of what it searches, as JSON shaped like the recipe, with stages by index:
            {"schedule": {"1": {"learning_rate": 0.001}}}; what is left out has the default's value.
        max_epochs: as of a search of the space.

    Raises:
        InputError: it cannot be read, names what is not searched, or gives what a recipe cannot have.
    """
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise InputError(f"--parameters {file}: expected an object, got {tree!r}")
        given = {path: encode(value) for path, value in flatten(tree, whole=space.distributions).items()}
        unknown = [path for path in given if path not in space.distributions]
        if unknown:
            known = ", ".join(space.distributions)
            raise InputError(
                [f"--parameters {file}: {path!r} is not searched in {space.name}; that is {known}" for path in unknown]
            )
        return space.recipe(given, max_epochs)
    except ValidationError as error:
        raise InputError(
            [f"--parameters {file}: {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        ) from error
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"--parameters {file}: {error}") from error
