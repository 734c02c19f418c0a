"""A recipe says all of a trial, refuses what it does not know, and survives JSON."""

from __future__ import annotations

import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from raysearch.recipe import Augmentation, Head, Recipe, Stage, flatten

RECIPE = Recipe(backbone="simple_cnn", image_size=32, schedule=(Stage(depth=0, epochs=2), Stage(depth=1, epochs=3)))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("poling",), "avg"),
        (("pooling",), "mean"),
        (("image_size",), 0),
        (("seed",), -1),
        (("schedule",), []),
        (("schedule", 0, "epochs"), 0),
        (("schedule", 0, "epochs"), -3),
        (("schedule", 0, "depth"), -1),
        (("schedule", 1, "learning_rate"), 0.0),
        (("schedule", 1, "learning_rat"), 1e-3),
        (("schedule", 1, "weight_decay"), -1e-4),
        (("schedule", 1, "dropout"), 1.0),
        (("schedule", 1, "strength"), 1.1),
        (("schedule", 1, "class_weights"), "heavy"),
        (("schedule", 1, "class_weights"), "effective:1.5"),
        (("schedule", 1, "loss"), "hinge"),
        (("schedule", 1, "focal_gamma"), -1.0),
        (("schedule", 1, "class_weights"), {"cat": 0.0}),
        (("schedule", 1, "batch_size"), 0),
        (("schedule", 1, "early_stopping_epochs"), 0),
        (("head", "hidden_units"), 0),
        (("augmentation", "zoom"), 1.0),
        (("augmentation", "rotation_degrees"), 181),
    ],
)
def test_what_a_recipe_cannot_be_is_refused_where_it_is(place, value):
    tree = RECIPE.model_dump(mode="json")
    inner = tree
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(tree)
    assert caught.value.errors()[0]["loc"][: len(place)] == place


def test_blocks_that_are_open_stay_open():
    stages = (Stage(depth=2, epochs=1), Stage(depth=1, epochs=1))
    with pytest.raises(ValidationError, match=r"depth must never decrease along the schedule, got \[2, 1\]"):
        Recipe(backbone="vgg19", image_size=32, schedule=stages)
    assert RECIPE.depth == 1


def test_a_recipe_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        RECIPE.seed = 1


@given(st.floats(1e-9, 1e3), st.sampled_from(["none", "balanced", 0.3, {"größe": 2.0, "a.b": 1.0}]))
def test_a_recipe_survives_json(rate, weights):
    stage = Stage(depth=1, epochs=3, learning_rate=rate, class_weights=weights)
    recipe = RECIPE.model_copy(update={"schedule": (RECIPE.schedule[0], stage)})
    assert Recipe.model_validate(json.loads(json.dumps(recipe.model_dump(mode="json")))) == recipe


@pytest.mark.parametrize("model", [Recipe, Stage, Head, Augmentation])
def test_every_field_is_explained(model: type[BaseModel]):
    """By a docstring below it, which says the unit; head and augmentation are explained by their own classes."""
    source = inspect.getsource(model)
    for name in set(model.model_fields) - {"head", "augmentation"}:
        after = source.partition(f"\n    {name}: ")[2].partition("\n")[2]
        assert after.startswith('    """'), name


def test_flatten_names_every_leaf_once():
    flat = flatten(RECIPE.model_dump(mode="json"))
    assert flat["schedule.1.epochs"] == 3
    assert flat["head.kind"] == "linear"
    assert not any(isinstance(value, dict | list) for value in flat.values())


def test_class_weights_stay_one_value_for_their_keys_are_the_users():
    weights = {"a.b": 2.0}
    assert flatten({"schedule": [{"class_weights": weights}]}) == {"schedule.0.class_weights": weights}
    assert flatten({"head": {"kind": 1}, "x": 2}, whole=["head"]) == {"head": {"kind": 1}, "x": 2}


def test_the_first_stage_inherits_nothing():
    with pytest.raises(ValidationError, match="no stage before it whose learning rate it could inherit"):
        Recipe(backbone="vgg19", image_size=32, schedule=(Stage(depth=0, epochs=1, inherit=1.0),))
