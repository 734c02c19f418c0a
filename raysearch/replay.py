"""A recipe as a space in which nothing is searched (`--recipe FILE`): trained stage by stage from the weights alone."""

from __future__ import annotations

import json
import pprint
from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from raysearch.errors import InputError
from raysearch.recipe import Recipe
from raysearch.space_check import read_fields


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
    depths = [stage.depth for stage in recipe.schedule]
    if depths[0] and len(depths) > 1:
        raise InputError(
            f"--recipe {file}: a schedule of several stages must begin with the head's; depths are {depths}"
        )
    levels = len(depths) - 1 if depths[0] == 0 else 1
    heads = "heads=1, beam=1" if depths[0] == 0 else "heads=0"
    tree = {key: value for key, value in read_fields(recipe).items() if key not in without}
    most = max(stage.epochs for stage in (recipe.schedule[1:] or recipe.schedule))
    return (
        f'"""The recipe of {file.name}, as it is."""\n\n'
        "from raysearch.space import Search\n\n"
        f"space = {pprint.pformat(tree, width=100, sort_dicts=False)}\n\n"
        "default: dict = {}\n\n"
        f'search = Search({heads}, levels={levels or None}, winner="deepest")\n'
    ), most * max(1, levels)
