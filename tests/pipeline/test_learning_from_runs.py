"""What earlier runs give to the next: `--learn-from RUN…`, `raysearch portfolio RUN…`, and recipes tried first."""

from __future__ import annotations

import json
import shutil

import pytest

from raysearch.cli.main import main as raysearch
from raysearch.job.images import settings_of
from raysearch.job.past import PastSearch
from raysearch.job.portfolio import portfolio
from raysearch.reporting.page import page_text
from raysearch.run import Run
from raysearch.search.controller import Controller
from raysearch.search.sampler import OptunaProposer
from raysearch.space.first import first_recipes
from raysearch.space.load import load_space
from raysearch.tune import main
from tests.in_process import KilledError, killed_after, without_ray
from tests.trained import write_pictures

SPACE = """
from ray import tune

from raysearch.space import Search

space = {
    "schedule": [
        {
            "depth": tune.choice([1, 2]),
            "learning_rate": tune.loguniform(1e-4, 1e-1),
            "batch_size": 16,
            "weight_decay": WEIGHT_DECAY,
        },
    ],
}
default = {"schedule": [{"depth": 1, "learning_rate": 1e-3}]}
search = Search(heads=0)
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Flags of small searches, and two runs on different images."""
    root = tmp_path_factory.mktemp("learning")
    (root / "space.py").write_text(SPACE.replace("WEIGHT_DECAY", "0.01"), encoding="utf-8")
    wider = SPACE.replace("WEIGHT_DECAY", "tune.loguniform(1e-3, 1e-1)").replace(
        'e": 1e-3}', 'e": 1e-3, "weight_decay": 0.01}'
    )
    (root / "wider.py").write_text(wider, encoding="utf-8")
    flags = ["--backbone", "simple_cnn", "--weights", "random", "--max-epochs", "1", "--refits", "0", "--quiet"]
    flags += ["--cache", "off", "--results", str(root / "results")]
    for seed, name in enumerate(("one", "two")):
        write_pictures(root / name, 8 + 2 * seed)
        more = ["--data", str(root / name), "--seed", str(seed), "--trials", "5", "--run-name", name]
        with without_ray():
            assert main(["--space", str(root / "space.py"), *flags, *more]) == 0
    return root, flags


@pytest.fixture(scope="module")
def third(desk) -> Run:
    """A run that learned from both, and began with a recipe of its own."""
    root, flags = desk
    text = (root / "wider.py").read_text().replace("heads=0", 'heads=0, first=[{"schedule.0.learning_rate": 0.05}]')
    (root / "mine.py").write_text(text, encoding="utf-8")
    more = ["--space", str(root / "mine.py"), "--data", str(root / "one"), "--seed", "5", "--trials", "4"]
    with without_ray():
        assert main([*flags, *more, "--learn-from", "one", "two", "--run-name", "third"]) == 0
    return Run.open("third", root / "results")


def trials_of(run: Run) -> list[dict]:
    return [event for event in run.events() if event["event"] == "trial"]


def test_trials_of_earlier_runs_stand_in_the_run_folder_and_in_no_table(third):
    prior = third.prior
    assert [(run["run"], run["compared"], run["left_out"]) for run in prior["runs"]] == [("one", 5, 0), ("two", 5, 0)]
    assert sorted(trial["place"] for trial in prior["trials"]) == pytest.approx(sorted([0.1, 0.3, 0.5, 0.7, 0.9] * 2))
    assert [(trial["run"], trial["place"]) for trial in prior["trials"][:2]] == [(0, 0.9), (1, 0.9)], "the best first"
    assert {trial["params"]["schedule.0.weight_decay"] for trial in prior["trials"]} == {0.01}, "which they had fixed"
    assert list(third.trials["trial"]) == ["t0000", "t0001", "t0002", "t0003"]


def test_the_search_says_which_trials_were_first_recipes_and_which_were_drawn_beside_earlier_ones(third):
    assert [(event.get("first"), event.get("prior")) for event in trials_of(third)] == [
        (None, None),
        (0, None),
        (None, 10),
        (None, 10),
    ]
    assert trials_of(third)[1]["recipe"]["schedule"][0]["learning_rate"] == 0.05
    page = page_text(third)
    assert "What came from where" in page
    assert "t0001 is a recipe that the space names to be tried first" in page
    assert "Of trials, t0002 was drawn with 10 of them in sight, t0003 with 10" in page


def test_a_search_that_was_killed_goes_on_the_same_without_the_earlier_runs(desk, third, tmp_path):
    root, flags = desk
    results = tmp_path / "results"
    for name in ("one", "two"):
        shutil.copytree(root / "results" / name, results / name)
    more = ["--space", str(root / "mine.py"), "--data", str(root / "one"), "--seed", "5", "--trials", "4"]
    flags = [*flags[:-1], str(results), *more, "--learn-from", "one", "two", "--run-name", "third"]
    with pytest.raises(KilledError), without_ray(killed_after(2)):
        main(flags)
    for name in ("one", "two"):
        shutil.rmtree(results / name)
    with without_ray():
        assert main(["--resume", "third", "--results", str(results), "--quiet"]) == 0
    resumed = Run.open("third", results)
    assert [event["params"] for event in trials_of(resumed)] == [event["params"] for event in trials_of(third)]


def test_what_a_run_learned_from_must_still_be_in_its_folder(desk, third, tmp_path, capsys):
    shutil.copytree(third.folder, tmp_path / "third")
    (tmp_path / "third" / "prior.json").unlink()
    assert main(["--resume", str(tmp_path / "third"), "--trials", "5", "--quiet"]) == 2
    assert "prior.json is gone, in which the run keeps what it learned from one and two" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([("heads=0", 'heads=0, sampler="random"')], 'is "random", which learns from no trial'),
        (
            [("1e-4, 1e-1", "1e-7, 1e-6"), ('rate": 1e-3', 'rate": 1e-6')],
            "--learn-from one: none of its trials could have been drawn here: schedule.0.learning_rate is ",
        ),
    ],
)
def test_runs_that_can_tell_nothing_are_refused_with_the_reason(desk, tmp_path, capsys, changes, told):
    root, flags = desk
    text = (root / "space.py").read_text()
    for change in changes:
        text = text.replace(*change)
    (tmp_path / "other.py").write_text(text)
    more = ["--space", str(tmp_path / "other.py"), "--data", str(root / "one"), "--learn-from", "one", "--plan"]
    assert main([*flags, *more]) == 2
    assert told in capsys.readouterr().err


def test_the_plan_says_what_comes_from_elsewhere(desk, third, capsys, monkeypatch, tmp_path):
    root, flags = desk
    monkeypatch.chdir(tmp_path)  # plan.png
    more = ["--space", str(root / "mine.py"), "--data", str(root / "one"), "--trials", "4", "--learn-from", "one"]
    assert main([*flags, *more, "--plan"]) == 0
    shown = capsys.readouterr().out
    assert "Tried first, after the default: 1 recipe(s) that the space names" in shown
    assert "Learning from trials of one (5 of 5): up to 16 of them stand beside" in shown


def test_runs_of_another_family_are_refused(desk, capsys):
    root, flags = desk
    more = ["--space", str(root / "space.py"), "--data", str(root / "one"), "--learn-from", "one", "--plan"]
    assert main([*("resnet18" if flag == "simple_cnn" else flag for flag in flags), *more]) == 2
    assert "its network is simple_cnn, of another family than resnet" in capsys.readouterr().err


def test_a_portfolio_is_a_space_that_begins_with_it(desk, capsys, monkeypatch):
    root, flags = desk
    monkeypatch.setenv("COLUMNS", "160")
    out, results = root / "portfolio.py", root / "results"
    assert raysearch(["portfolio", "one", "two", "--out", str(out), "--size", "3", "--results", str(results)]) == 0
    shown = capsys.readouterr().out
    assert f"python -m raysearch.tune --space {out} --data SOURCE" in shown
    assert out.read_text().startswith((root / "space.py").read_text().rstrip())
    space = load_space(str(out), fixed=settings_of(Run.open("one", results)).shared)
    picks = portfolio(["one", "two"], results, 3).picks
    assert [one.values for one in first_recipes(space)] == [pick.values for pick in picks]
    assert sorted((pick.regret_after for pick in picks), reverse=True) == [pick.regret_after for pick in picks]
    more = ["--space", str(out), "--data", str(root / "two"), "--trials", "4", "--run-name", "fourth"]
    with without_ray():
        assert main([*flags, *more]) == 0
    tried = trials_of(Run.open("fourth", results))
    assert [event.get("first") for event in tried] == [None, 0, 1, 2]
    assert [event["params"] for event in tried[1:]] == [pick.values for pick in picks]


def test_the_best_recipe_of_a_run_is_in_its_own_portfolio_unless_it_is_the_default(desk):
    past = PastSearch.open("one", desk[0] / "results")
    best = past.compared(0)[0]
    picks = portfolio(["one"], desk[0] / "results", 2).picks
    assert best.regret == 0
    if best.trial.role != "default":
        assert (picks[0].trial, picks[0].regret_after) == (best.trial.name, 0)


def test_runs_that_do_not_search_the_same_have_no_portfolio(desk, third, capsys):
    arguments = ["portfolio", "one", "third", "--out", str(desk[0] / "no.py"), "--results", str(desk[0] / "results")]
    assert raysearch(arguments) == 2
    assert "third searched schedule.0.weight_decay, but one did not" in capsys.readouterr().err
    assert not (desk[0] / "no.py").exists()


def test_the_prior_is_what_the_proposals_follow(third):
    """The log and what the run began with say all: asked again from them, the sampler answers the same."""
    past = PastSearch.open(str(third.folder), third.folder.parent)
    events = third.events()
    for made in trials_of(third)[2:]:
        proposer = OptunaProposer(past.space, past.state.rules, 5, 1, json.loads(json.dumps(third.prior["trials"])))
        again = Controller(past.state.rules, proposer)
        again.replay(events[: events.index(made)])
        assert proposer.trial(int(made["trial"][1:]), again, level=0, role=None).params == made["params"]
