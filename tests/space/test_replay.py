"""A recipe as a space in which nothing is searched."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.errors import InputError
from raysearch.recipe import Head, Recipe, Stage
from raysearch.space.load import load_space
from raysearch.space.replay import recipe_space


@st.composite
def stages(draw, depth):
    return Stage(
        depth=depth,
        epochs=draw(st.integers(1, 20)),
        learning_rate=draw(st.floats(1e-9, 10)),
        course=draw(st.sampled_from(["constant", "plateau", "cosine", "one_cycle"])),
        plateau_factor=draw(st.sampled_from([0.2, 0.5])),
        min_learning_rate=draw(st.sampled_from([0.0, 1e-6])),
        batch_norm=draw(st.sampled_from(["frozen", "train"])),
        layer_decay=draw(st.sampled_from([1.0, 0.5])),
        strength=draw(st.sampled_from([0.0, 0.5])),
        class_weights=draw(st.sampled_from(["none", 0.3, {"cat's": 2.0, "größe": 1.0}])),
        keep=draw(st.sampled_from(["best", "last"])),
        contrastive=0.0 if depth else draw(st.sampled_from([0.0, 2.0])),
        contrastive_temperature=draw(st.sampled_from([0.1, 0.5])),
    )


@st.composite
def recipes(draw):
    depths = draw(st.sampled_from([(0,), (0, 1), (0, 0), (0, 1, 2, 3), (0, 2, 2), (3,)]))
    head = Head(
        kind=draw(st.sampled_from(["linear", "hidden", "embedding"])), hidden_units=draw(st.sampled_from([8, 256]))
    )
    schedule = tuple(draw(stages(depth)) for depth in depths)
    return Recipe(backbone="simple_cnn", weights="random", image_size=32, head=head, schedule=schedule, seed=3)


@given(recipes())
@settings(max_examples=60, deadline=None)
def test_the_space_gives_the_recipe_back_as_far_as_it_is_read(tmp_path_factory, recipe):
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "best.json").write_text(recipe.model_dump_json())
    text, epochs = recipe_space(folder / "best.json")
    (folder / "recipe.py").write_text(text)
    space = load_space(str(folder / "recipe.py"))
    assert space.distributions == {}
    again = space.recipe({}, epochs)
    assert [stage.epochs for stage in again.schedule] == [stage.epochs for stage in recipe.schedule]
    for name in ("learning_rate", "course", "strength", "class_weights", "keep", "depth"):
        assert [getattr(s, name) for s in again.schedule] == [getattr(s, name) for s in recipe.schedule]
    assert (again.backbone, again.weights, again.seed, again.head.kind) == ("simple_cnn", "random", 3, recipe.head.kind)


def test_what_the_command_gives_is_left_out(tmp_path):
    recipe = Recipe(backbone="simple_cnn", image_size=32, schedule=(Stage(depth=0, epochs=1),), seed=3)
    (tmp_path / "r.json").write_text(recipe.model_dump_json())
    text, _ = recipe_space(tmp_path / "r.json", without=["seed", "image_size"])
    assert "seed" not in text
    assert "image_size" not in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "Expecting property name"),
        ('{"backbone": "vgg19"}', "schedule: Field required"),
        ("[1]", "Input should be"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path, content, says):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(InputError, match=says):
        recipe_space(tmp_path / "r.json")


def test_a_schedule_without_a_head_is_refused(tmp_path):
    tree = {"backbone": "vgg19", "image_size": 32, "schedule": [{"depth": 1, "epochs": 1}, {"depth": 2, "epochs": 1}]}
    (tmp_path / "r.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match=r"must begin with the head's; depths are \[1, 2\]"):
        recipe_space(tmp_path / "r.json")
    with pytest.raises(InputError, match="No such file"):
        recipe_space(tmp_path / "none.json")
