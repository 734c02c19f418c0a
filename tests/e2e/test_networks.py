"""Several networks in one search, from the command to the page: heads of each, those that leave, one that wins."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from raysearch.predict import load_best
from tests.e2e.commands import DeskHere, events
from tests.e2e.conftest import Search
from tests.in_process import KilledError, killed_after

pytestmark = pytest.mark.slow

NETWORKS = ("simple_cnn=random@32", "resnet18=random@32")
SPACE = """
from ray import tune

from raysearch.space import Search

space = {
    "pooling": tune.choice(["avg", "max"]),
    "schedule": [
        {"depth": 0, "epochs": 2, "learning_rate": tune.loguniform(1e-3, 1e-2), "batch_size": 16},
        {"depth": tune.choice([1, 2]), "learning_rate": tune.loguniform(1e-4, 1e-2), "batch_size": 16},
    ],
}
default = {"pooling": "avg", "schedule": [{"learning_rate": 3e-3}, {"depth": 1, "learning_rate": 1e-3}]}
search = Search(heads=2, pack=2, per_backbone={"resnet18": {"schedule.1.depth": ["layer4", "layer3"]}})
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> DeskHere:
    made = DeskHere(tmp_path_factory.mktemp("networks"))
    (made.work / "several.py").write_text(SPACE)
    (made.work / "least.py").write_text(SPACE.replace("Search(heads=2", "Search(networks=1, heads=2"))
    return made


def flags_of(photos: Path, name: str, space: str = "several.py", **more: object) -> list[object]:
    named = {"trials": 4, "max-epochs": 1, "refits": 1, "folds": 2, "concurrent": 1, "cache": "on"} | more
    typed = [word for flag, value in named.items() for word in (f"--{flag}", value)]
    backbones = ["--backbone", "simple_cnn,resnet18", "--weights", "random"]
    return ["--space", space, "--data", photos, *backbones, "--run-name", name, *typed]


@pytest.fixture(scope="module")
def searched(desk: DeskHere, photos: Path) -> Search:
    return Search(desk, desk.work / "results" / "several", desk.tune(*flags_of(photos, "several")))


def test_each_network_has_heads_and_trials_and_one_is_shipped(searched: Search) -> None:
    assert searched.ended.code == 0, searched.ended
    log = events(searched.run)
    heads, trials = (
        pd.DataFrame([one["recipe"] for one in log if one["event"] == "trial" and one["trial"][0] == kind])
        for kind in "ht"
    )
    assert list(heads["backbone"]) == ["simple_cnn"] * 2 + ["resnet18"] * 2
    compared = [one for one in log if one["event"] == "networks"]
    assert len(compared) == 1
    standings = compared[0]["networks"]
    assert sorted(one["network"] for one in standings) == sorted(NETWORKS)
    going = {one["network"].partition("=")[0] for one in standings if one["stays"]}
    assert set(trials["backbone"]) == going
    best, other = standings
    assert best["behind"] is None
    heads_of = pd.read_csv(searched.run / "heads.csv").set_index("trial")
    figures = [heads_of.loc[one["head"], "val_accuracy"] for one in standings]
    assert figures == pytest.approx([one["figure"] for one in standings])
    assert other["behind"]["mean"] == pytest.approx(figures[0] - figures[1]), "image by image, and so in all"
    recipe = json.loads((searched.run / "best" / "recipe.json").read_text())
    assert load_best(searched.run / "best").recipe.network == f"{recipe['backbone']}=random@32"
    digests = {one["network"]: one["digest"] for one in json.loads((searched.run / "run.json").read_text())["networks"]}
    labels = json.loads((searched.run / "best" / "labels.json").read_text())
    assert labels["weights_digest"] == digests[f"{recipe['backbone']}=random@32"]


def test_each_has_its_own_features_on_disk_and_a_plan_of_its_own(searched: Search) -> None:
    plans = json.loads((searched.run / "run.json").read_text())["cache"]["networks"]
    assert list(plans) == list(NETWORKS)
    depths = {name: {one["depth"] for one in plan["plan"]["depths"]} for name, plan in plans.items()}
    assert list(depths.values()) == [{0, 1, 2}] * 2
    listed = searched.desk.raysearch("cache", "list")
    assert all(name.partition("=")[0] in listed.out for name in NETWORKS), listed.out


def test_the_page_and_the_terminal_say_how_networks_stand(searched: Search) -> None:
    assert re.search(r"simple_cnn \(random, 32 px\): heads come to accuracy [\d.]+", searched.ended.out)
    page = (searched.run / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="networks">') :]
    table = section[: section.index("</table>")]
    assert all(f"{name.partition('=')[0]} (random, 32 px)" in table for name in NETWORKS)
    assert "11.2 M" in table, "parameters of ResNet18's blocks"
    assert 'id="plot-networks"' in section


def test_a_killed_search_goes_on_to_the_same_networks_and_trials(
    searched: Search, desk: DeskHere, photos: Path
) -> None:
    with pytest.raises(KilledError):
        desk.tune(*flags_of(photos, "killed"), before_step=killed_after(3))
    ended = desk.tune("--resume", "killed")
    assert ended.code == 0, ended
    mine, whole = (
        [(one["trial"], one["parent"], one["params"]) for one in events(run) if one["event"] == "trial"]
        for run in (desk.work / "results" / "killed", searched.run)
    )
    assert mine == whole


def test_sizes_are_searched_each_on_images_of_its_own(desk: DeskHere, photos: Path) -> None:
    """Two sizes of one network, and a network in its own."""
    (desk.work / "sizes.py").write_text(
        SPACE.replace("space = {", 'space = {"image_size": tune.choice([16, 32]),').replace(
            "default = {", 'default = {"image_size": 32, '
        )
    )
    flags = flags_of(photos, "sizes", "sizes.py", trials=6, refits=2)
    flags[flags.index("simple_cnn,resnet18")] = "simple_cnn,resnet18@40"
    ended = desk.tune(*flags, "--ship", "ensemble")
    assert ended.code == 0, ended
    run = desk.work / "results" / "sizes"
    log = events(run)
    standings = next(event for event in log if event["event"] == "networks")["networks"]
    names = {"simple_cnn=random@16", "simple_cnn=random@32", "resnet18=random@40"}
    assert {one["network"] for one in standings} == names
    trials = [one["recipe"] for one in log if one["event"] == "trial"]
    assert {(one["backbone"], one["image_size"]) for one in trials} == {
        ("simple_cnn", 16),
        ("simple_cnn", 32),
        ("resnet18", 40),
    }
    networks = {one["network"]: one for one in json.loads((run / "run.json").read_text())["networks"]}
    assert {one["image_size"] for one in networks.values()} == {16, 32, 40}
    best = load_best(run / "best")
    picture = next(photos.glob("red/[0-9]*.png"))
    assert best.pixels(picture).shape == (best.recipe.image_size, best.recipe.image_size, 3)
    labels = json.loads((run / "best" / "labels.json").read_text())
    assert {one["recipe"]["image_size"] for one in labels["shipped"]["members"]} == {best.recipe.image_size}
    again = desk.tune("--resume", "sizes", "--trials", "7")
    assert again.code == 0, again
    evaluated = desk.raysearch("evaluate", "sizes", "--data", photos, "--split", "all")
    assert evaluated.code == 0, evaluated


def test_at_most_so_many_networks_go_on_as_the_space_says(desk: DeskHere, photos: Path) -> None:
    flags = flags_of(photos, "least", "least.py", folds=0, refits=0, trials=2)
    assert desk.tune(*flags).code == 0
    log = events(desk.work / "results" / "least")
    assert sum(one["stays"] for event in log if event["event"] == "networks" for one in event["networks"]) == 1
    networks = {one["recipe"]["backbone"] for one in log if one["event"] == "trial" and one["trial"][0] == "t"}
    assert len(networks) == 1


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--space", "several.py", "--backbone", "simple_cnn,resnet81"], "did you mean resnet18"),
        (
            ["--space", "several.py", "--backbone", "simple_cnn,resnet18", "--image-size", "24"],
            "resnet18 needs at least",
        ),
        (["--space", "several.py", "--backbone", "simple_cnn,simple_cnn=random"], "are one network"),
        (["--space", "several.py", "--backbone", "simple_cnn@16,simple_cnn@24", "--image-size", "32"], "leave it out"),
        (["--space", "baseline", "--backbone", "simple_cnn,resnet18"], "fixes it at 'simple_cnn'"),
        (["--recipe", "best.json", "--backbone", "simple_cnn,resnet18"], "--recipe trains one network"),
        (["--space", "several.py", "--backbone", "simple_cnn,resnet18", "--head", "several"], "is of one network"),
        (["--space", "which_network"], "at_hand takes what is on this machine"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    typed: list[str], said: str, searched: Search, desk: DeskHere, photos: Path
) -> None:
    ended = desk.tune(*typed, "--data", photos, "--weights", "random")
    assert ended.code == 2, ended
    assert said in ended.err.replace("\n", " "), ended.err


def test_one_recipe_of_a_space_of_several_networks_is_trained_alone(desk: DeskHere, photos: Path) -> None:
    own = SPACE.replace("space = {", 'space = {"backbone": tune.choice(["simple_cnn", "resnet18=random"]),')
    own = own.replace("default = {", 'default = {"backbone": "simple_cnn", ')
    (desk.work / "own.py").write_text(own)
    (desk.work / "point.json").write_text(json.dumps({"backbone": "resnet18=random", "pooling": "max"}))
    flags = ["--space", "own.py", "--parameters", "point.json", "--data", photos, "--max-epochs", "1", "--plan"]
    ended = desk.tune(*flags)
    assert ended.code == 0, ended
    assert "resnet18: what is trained at each depth" in ended.out
