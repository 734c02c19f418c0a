"""A space over several networks: which these are, what is each one's own, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from raysearch.errors import InputError
from raysearch.space.load import load_space
from raysearch.space.own import moved
from raysearch.space.space import Space

FIXED = {"backbone": "densenet121", "weights": "random", "image_size": 32, "fit": "squash", "seed": 0}
SPACE = """
from ray import tune
from raysearch.space import Search

space = {
    # MORE
    "schedule": [
        {"depth": 0, "epochs": 3},
        {"depth": tune.choice([1, 2]), "learning_rate": tune.loguniform(1e-4, 1e-2), "dropout": 0.1},
    ],
}
default = {"schedule": [{}, {"depth": 2, "learning_rate": 1e-3}]}
search = Search(heads=4)
"""
TWO = '"backbone": tune.choice(["simple_cnn", "resnet18=imagenet"]),'
DEFAULT = 'default = {"backbone": "simple_cnn", '


def read(folder: Path, *changes: tuple[str, str], networks: tuple[str, ...] = ()) -> Space:
    text = SPACE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "networks.py").write_text(text)
    return load_space(str(folder / "networks.py"), fixed=FIXED, networks=networks)  # type: ignore[arg-type]


def wrong(folder: Path, *changes: tuple[str, str], networks: tuple[str, ...] = ()) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, *changes, networks=networks)
    return "\n".join(caught.value.problems)


OF_ITS_OWN = [("# MORE", TWO), ("default = {", DEFAULT)]


def test_networks_are_said_by_the_space_or_by_the_command(tmp_path: Path) -> None:
    own, typed = read(tmp_path, *OF_ITS_OWN), read(tmp_path, networks=("simple_cnn", "resnet18=imagenet"))
    for space in (own, typed):
        assert space.networks == ("simple_cnn", "resnet18=imagenet")
        assert space.heads == 8, "as many as the space says for each"
        assert space.recipe({}, 6).network == "simple_cnn=random@32", "weights without a name are the command's"
        assert space.recipe({"backbone": "resnet18=imagenet"}, 6).network == "resnet18=imagenet@32"
    assert read(tmp_path).networks == read(tmp_path, networks=("vgg16",)).networks == ()


def test_what_is_at_hand_is_found_unless_the_command_names_networks(tmp_path: Path) -> None:
    at_hand = read(tmp_path, ("# MORE", '"backbone": "at_hand", "weights": "auto",'))
    found = at_hand.networks or (at_hand.recipe({}, 6).network.removesuffix("@32"),)
    assert "densenet121=bundled" in found
    named = read(tmp_path, ("# MORE", '"backbone": "at_hand",'), networks=("simple_cnn", "vgg16=random"))
    assert named.networks == ("simple_cnn", "vgg16=random")
    one = read(tmp_path, ("# MORE", '"backbone": "at_hand",'), networks=("vgg16=random",))
    assert one.networks == ()
    assert one.recipe({}, 6).network == "vgg16=random@32"
    assert "name the networks" in wrong(tmp_path, ("# MORE", '"backbone": "at_hand", "weights": "random",'))


def test_a_searched_image_size_makes_several_of_each_network(tmp_path: Path) -> None:
    sizes, default = ("# MORE", '"image_size": tune.choice([24, 32, "native"]),'), 'default = {"image_size": 32, '
    alone = read(tmp_path, sizes, ("default = {", default))
    assert alone.networks == ("densenet121@32", "densenet121@24", "densenet121@native"), "the default's first"
    assert alone.heads == 12
    assert alone.recipe({"backbone": "densenet121@24"}, 6).image_size == 24
    two = read(tmp_path, sizes, ("default = {", default), networks=("simple_cnn", "vgg16=random@64"))
    assert set(two.networks) == {"simple_cnn@24", "simple_cnn@32", "simple_cnn@native", "vgg16=random@64"}
    own = read(tmp_path, ("# MORE", TWO + '"image_size": "native",'), OF_ITS_OWN[1])
    assert own.networks == ("simple_cnn@native", "resnet18=imagenet@native")
    native = read(tmp_path, ("# MORE", '"image_size": "native",'))
    assert native.networks == ()
    assert native.recipe({}, 6).image_size == 224
    assert "give the sizes" in wrong(
        tmp_path, ("# MORE", '"image_size": tune.randint(24, 64),'), ("default = {", default)
    )


def test_a_network_has_ranges_of_its_own_place_for_place(tmp_path: Path) -> None:
    ranges = """Search(heads=4, per_backbone={"resnet18": {
        "schedule.1.depth": ["layer4", "layer2"],
        "schedule.1.learning_rate": tune.loguniform(1e-3, 1e-1),
        "schedule.1.dropout": 0.5,
    }})"""
    space = read(tmp_path, *OF_ITS_OWN, ("Search(heads=4)", ranges))
    drawn = {"schedule.1.depth": 2, "schedule.1.learning_rate": 1e-3}
    stages = {name: space.recipe(drawn | {"backbone": name}, 6).schedule[1] for name in space.networks}
    plain, own = stages.values()
    assert (plain.depth, plain.learning_rate, plain.dropout) == (2, 1e-3, 0.1)
    assert (own.depth, own.dropout) == (3, 0.5), "layer4, layer3 and layer2 are open"
    assert own.learning_rate == pytest.approx(1e-2), "the middle of the one range for the middle of the other"
    alone = space.only("resnet18=imagenet")
    assert alone.every_value("schedule.1.depth") == [3, 1], "the default's first"
    assert alone.networks == ()
    values = {path: space.own_value("resnet18", path, value) for path, value in drawn.items()}
    back = {path: space.common_value("resnet18", path, value) for path, value in values.items()}
    assert back == pytest.approx(drawn), "what was moved comes back"
    assert alone.recipe({}, 6) == space.recipe({"backbone": "resnet18=imagenet"}, 6)


@given(st.floats(0, 1), st.booleans(), st.booleans())
def test_what_is_moved_stays_in_bounds_and_comes_back(share: float, log: bool, own_log: bool) -> None:
    common, own = FloatDistribution(1e-4, 1e-1, log=log), FloatDistribution(2e-3, 0.7, log=own_log)
    value = common.low + share * (common.high - common.low)
    there = moved(value, common, own)
    assert own.low <= there <= own.high
    assert math.isclose(moved(there, own, common), value, rel_tol=1e-6, abs_tol=1e-12)


def test_whole_numbers_stay_whole_and_choices_keep_their_places() -> None:
    assert [moved(n, IntDistribution(1, 3), IntDistribution(2, 6, step=2)) for n in (1, 2, 3)] == [2, 4, 6]
    assert moved("b", CategoricalDistribution(["a", "b"]), CategoricalDistribution([5, 7])) == 7
    assert moved("b", CategoricalDistribution(["a", "b"]), CategoricalDistribution([5])) == 5


@pytest.mark.parametrize(
    ("changes", "networks", "said"),
    [
        ([("# MORE", '"backbone": tune.choice(["simple_cnn", "resnet81"]),'), OF_ITS_OWN[1]], (), "resnet18"),
        ([], ("simple_cnn", "vgg61"), "did you mean vgg"),
        ([], ("simple_cnn", "simple_cnn"), "more than once"),
        ([("tune.choice([1, 2])", "tune.choice([1, 2, 5])")], ("simple_cnn", "vgg16"), "simple_cnn has 4: block1"),
        ([("heads=4", "heads=4, lr_find=True")], ("simple_cnn", "vgg16"), "several are searched"),
        ([("# MORE", '"weights": tune.choice(["auto", "random"]),'), ("default = {", 'default = {"weights": "auto", ')],
         (), "weights cannot be searched"),
        ([("heads=4", 'heads=4, per_backbone={"vgg61": {"schedule.1.dropout": 0.2}}')], (), "did you mean vgg"),
        ([("heads=4", 'heads=4, per_backbone={"vgg16": {"schedule.1.drop": 0.2}}')], (), "there is no such value"),
        ([("heads=4", 'heads=4, per_backbone={"vgg16": {"schedule.1.depth": ["block5"] * 3}}')], (), "3 choices"),
        ([("heads=4", 'heads=4, per_backbone={"vgg16": {"schedule.1.depth": ["layer4", 1]}}')], (), "block1, block2"),
        ([("heads=4", 'heads=4, per_backbone={"vgg16": {"schedule.1.dropout": tune.uniform(0, 1)}}')], (), "a range"),
        ([("heads=4", 'heads=4, per_backbone={"vgg16": {"schedule.1.dropout": 1.5}}')], ("vgg16", "simple_cnn"), "1.5"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_with_the_reason(
    changes: list[tuple[str, str]], networks: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    assert said in wrong(tmp_path, *changes, networks=networks)
