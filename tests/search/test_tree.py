"""The search as a tree of levels: under random results and failures, then for real, killed, resumed and replayed."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.recipe import Recipe
from raysearch.record.events import Event
from raysearch.record.trial import Trial
from raysearch.run import Run
from raysearch.search.asha import rungs_for
from raysearch.search.controller import Controller, Proposal
from raysearch.search.driver import Driver
from raysearch.search.rules import Rules
from raysearch.search.sampler import OptunaProposer
from raysearch.search.state import SearchState
from raysearch.space.load import load_space
from raysearch.space.replay import recipe_space
from raysearch.space.space import Space
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import load_tensors
from tests.in_process import KilledError, drive, killed_after, workplace
from tests.search.simulated import HEAD_EPOCHS, Play, World, recipe
from tests.training.bench import bench
from tests.training.tiny import timeless

# ---- simulated ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Branches:
    """Recipes of a tree as a pure function of the state."""

    max_epochs: int
    seed: int = 0

    def pack(self, number: int, at_most: int, state: SearchState) -> list[Proposal]:
        return [Proposal(None, {}, recipe(((0, HEAD_EPOCHS),)), stage=0) for _ in range(at_most)]

    def trial(self, number: int, state: SearchState, *, level: int, role: str | None) -> Proposal:
        chance = zlib.crc32(f"{self.seed}/{number}".encode())
        if role == "control":
            leader = state.tree.leaders[level]
            parent = state.trials[leader.parent]
            return self._proposal(parent, leader.params, parent.depth, level)
        parents = state.tree.beam(level - 1) if level > 1 else [state.best_head()]
        return self._proposal(parents[chance % len(parents)], {"number": number}, level + chance % 2, level)

    def _proposal(self, parent: Trial, params: dict[str, Any], depth: int, level: int) -> Proposal:
        before = tuple((stage.depth, stage.epochs) for stage in parent.recipe.schedule[:level])
        return Proposal(parent.name, params, recipe((*before, (depth, self.max_epochs))), level)


def tree(levels=3, beam=2, tested=True, max_epochs=6, seed=0, most=None, lr_find=False) -> Controller:
    rules = Rules(
        rungs_for(max_epochs, 3),
        levels=tuple(range(1, levels + 1)),
        most=most or (float("inf"),) * levels,
        beam=beam,
        tested=tested,
        lr_find=lr_find,
    )
    return Controller(rules, Branches(max_epochs, seed))


@st.composite
def trees(draw):
    share = st.sampled_from([0.0, 0.05, 0.3])
    seed = draw(st.integers(0, 10**6))
    levels = draw(st.integers(2, 4))
    shape = {"levels": levels, "beam": draw(st.integers(1, 4)), "tested": draw(st.booleans()), "seed": seed}
    shape |= {"max_epochs": draw(st.integers(1, 12)), "lr_find": draw(st.booleans())}
    early, fails, lost = draw(st.sampled_from([0.0, 0.2])), draw(share), draw(share)
    verdicts = draw(st.lists(st.sampled_from(["gain", "none", "undecided"]), min_size=levels, max_size=levels))
    world = World(seed, early=early, fails=fails, lost=lost, crashes=draw(share), verdicts=tuple(verdicts))
    how = {"heads": draw(st.integers(1, 3)), "trials": draw(st.integers(1, 30))}
    return shape, world, how | {"concurrent": draw(st.integers(1, 5)), "seed": seed}


def check_tree(log, rules: Rules, trials: int) -> None:
    """What the log of any tree must obey."""
    closed: dict[int, str] = {}
    level_of: dict[str, int] = {}
    ended: dict[str, Event] = {}
    failed: set[str] = set()
    started: Counter[int] = Counter()
    controls: Counter[tuple[int, str]] = Counter()
    tested: set[int] = set()
    made = 0
    for event in log:
        match event["event"]:
            case "trial" if event["trial"][0] == "t":
                made += 1
                level, parent = event["stage"], event["parent"]
                level_of[event["trial"]] = level
                assert all(verdict != "none" for before, verdict in closed.items() if before < level)
                assert all(before in closed for before in rules.levels if before < level), "level after level"
                assert ended[parent]["finished"], "a parent was trained to its end"
                assert parent not in failed
                assert level_of.get(parent, 0) == level - 1
                if event.get("role") == "control":
                    assert rules.tested
                    controls[level, str(event["params"])] += 1
                else:
                    started[level] += 1
                    assert level in tested or not rules.lr_find
                    assert event["recipe"]["schedule"][level]["depth"] >= event["recipe"]["schedule"][level - 1].get(
                        "depth", 0
                    )
                if started[level] == 1 and event.get("role") != "control":
                    assert event["role"] == "default"
            case "lr_find":
                assert event["level"] not in tested
                assert not started[event["level"]], "before the level begins"
                assert event["start"] in ended
                tested.add(event["level"])
            case "segment_end":
                ended[event["trial"]] = event
            case "failed":
                failed.add(event["trial"])
            case "level":
                closed[event["level"]] = event["verdict"]
                assert ended[event["leader"]]["finished"], "only who was trained to the end is judged"
                if event["control"] is not None:
                    assert ended[event["control"]]["finished"]
    # A finished search that gets more trials may find a new leader where its level's one control was spent.
    again = sum(max(0, sum(1 for at, _ in controls if at == level) - 1) for level in rules.levels)
    assert made <= trials + again
    assert max(controls.values(), default=0) <= 1, "one control for a leader"


@given(trees())
@settings(max_examples=150, deadline=None)
def test_a_tree_grows_level_by_level_whatever_happens(case):
    shape, world, how = case
    controller = tree(**shape)
    play = Play(controller, world).to_the_end(**how)
    check_tree(play.log, controller.rules, how["trials"])
    assert controller.finished
    assert controller.to_judge is None
    winner = controller.winner
    if winner is not None and not winner.is_head:
        assert winner.finished
        verdict = controller.tree.verdicts.get(winner.stage, {}).get("verdict")
        assert winner.role == "control" or verdict != "none"
        gained = [level for level, one in controller.tree.verdicts.items() if one["verdict"] == "gain"]
        assert winner.stage - (winner.role == "control") >= max(gained, default=0), "what was left behind stays there"
        assert {one.name for one in controller.path(winner)[1:]} <= set(controller.trials)
        assert winner.name in controller.keepers()


@given(trees(), st.data())
@settings(max_examples=80, deadline=None)
def test_a_tree_killed_anywhere_grows_on(case, data):
    shape, world, how = case
    log = Play(tree(**shape), world).to_the_end(**how).log
    cut = data.draw(st.integers(0, len(log)))
    replayed, again = tree(**shape), tree(**shape)
    replayed.replay(log[:cut])
    again.replay(log[:cut])
    assert replayed == again
    resumed = Play(replayed, world, log=[]).to_the_end(**how | {"seed": how["seed"] + 1})
    check_tree([*log[:cut], *resumed.log], replayed.rules, how["trials"])
    assert replayed.finished


@given(trees(), st.integers(1, 12))
@settings(max_examples=80, deadline=None)
def test_a_finished_tree_goes_on_with_more_trials(case, more):
    shape, world, how = case
    controller = tree(**shape)
    play = Play(controller, world).to_the_end(**how)
    how["trials"] += more
    play.to_the_end(**how)
    check_tree(play.log, controller.rules, how["trials"])
    assert controller.finished


@pytest.mark.parametrize(
    ("verdicts", "levels"), [("gnn", [1, 2]), ("nnn", [1]), ("uug", [1, 2, 3]), ("ggg", [1, 2, 3])]
)
def test_no_gain_stops_the_search_and_anything_else_goes_on(verdicts, levels):
    words = {"g": "gain", "n": "none", "u": "undecided"}
    controller = tree()
    Play(controller, World(verdicts=tuple(words[v] for v in verdicts))).to_the_end(2, 12)
    assert sorted({trial.stage for trial in controller.trials.values() if not trial.is_head}) == levels
    assert list(controller.tree.verdicts) == levels
    if words[verdicts[len(levels) - 1]] == "none":
        assert controller.counts()["waiting"] == 0
        winner = controller.winner
        assert winner.stage < levels[-1] or winner.role == "control"


def test_each_level_has_its_share_of_the_trials_and_its_control():
    controller = tree(levels=3)
    Play(controller, World()).to_the_end(2, 13)
    trials = [trial for trial in controller.trials.values() if not trial.is_head]
    assert Counter(trial.stage for trial in trials) == {1: 5, 2: 4, 3: 4}
    controls = [trial for trial in trials if trial.role == "control"]
    assert [trial.stage for trial in controls] == [1, 2, 3]
    for control in controls:
        leader = controller.tree.leaders[control.stage]
        assert (control.parent, control.params) == (leader.parent, leader.params)
        assert control.depth == controller.trials[control.parent].depth


def test_untested_levels_have_no_controls_and_all_open():
    controller = tree(tested=False)
    Play(controller, World()).to_the_end(1, 9)
    assert [trial.role for trial in controller.trials.values()].count("control") == 0
    assert [verdict["verdict"] for verdict in controller.tree.verdicts.values()] == ["untested"] * 3


def test_where_nothing_differs_a_level_has_one_trial():
    controller = tree(tested=False, beam=1, most=(1.0, 1.0, 1.0))
    Play(controller, World()).to_the_end(1, 3)
    trials = [trial for trial in controller.trials.values() if not trial.is_head]
    assert [trial.stage for trial in trials] == [1, 2, 3]
    assert [trial.parent for trial in trials] == ["h0000", "t0000", "t0001"]
    assert controller.path(trials[-1]) == list(controller.trials.values())


# ---- for real ----------------------------------------------------------------------------------------------------

SPACE = """
from ray import tune
from raysearch.space import Search
def opened(depth):
    return {
        "depth": depth,
        "batch_size": 8,
        "learning_rate": tune.loguniform(1e-3, 1e-1),
        "inherit": tune.choice([None, 0.5]),
        "course": "plateau",
        "dropout": tune.choice([0.0, 0.3]),
        "strength": 0.5,
    }
head = {"depth": 0, "epochs": 4, "batch_size": 8, "learning_rate": tune.loguniform(1e-3, 1e-1), "course": "constant"}
space = {"schedule": [head, opened(1), opened(2)]}
fine = {"learning_rate": 1e-2, "inherit": None, "dropout": 0.0}
default = {"schedule": [{"learning_rate": 1e-2}, fine, fine]}
search = Search(heads=HEADS, pack=3, reduction=2, beam=2, LEVELS)
"""
EPOCHS = 8  # of a path; half of it a level


def space_of(folder: Path, heads: int = 3, levels: str = "levels=None") -> Space:
    file = folder / "tree.py"
    file.write_text(SPACE.replace("HEADS", str(heads)).replace("LEVELS", levels))
    fixed = {"backbone": "simple_cnn", "weights": "random", "image_size": 32, "fit": "squash", "seed": 0}
    return load_space(str(file), fixed=fixed)


def halved():
    table = bench()
    dataset, held_out = table.dataset.halved(0)
    return dataclasses.replace(table, dataset=dataset, held_out={dataset.image_size: held_out})


def search(folder: Path, space: Space, table: Bench, trials: int = 9, steps: int | None = None) -> Run:
    """A new search, or the rest of one that was killed; killed itself after so many steps."""
    rungs = rungs_for(space.level_epochs(EPOCHS), 2)
    rules = Rules(rungs, 2, levels=tuple(space.levels), most=(float("inf"),) * 2, beam=2, tested=space.tested)
    run = Run.open(folder) if folder.exists() else Run.create(folder, {})
    controller = Controller(rules, OptunaProposer(space, rules, 0, EPOCHS))
    controller.replay(run.events())

    def judge(leader: Trial, control: Trial | None) -> Event:
        files = [run.folder / "checkpoints" / one.name / "best.safetensors" for one in (control, leader) if one]
        losses = [load_tensors(file)[1]["held_out"] for file in files]
        images = 0 if table.held_out is None else len(table.held_out[table.dataset.image_size])
        assert [len(one) for one in losses] == [images] * len(losses)
        return {"verdict": "undecided" if control else "untested"}

    driver = Driver(run, controller, 1, judge=judge)
    if not controller.heads_wanted:
        driver.log({"event": "budget", "heads": space.search.heads, "trials": trials, "max_epochs": EPOCHS})
    drive(driver, workplace(driver, table, reduction=2), before_step=killed_after(steps))
    driver.close()
    return run


def results(run: Run) -> list[Any]:
    events = [event for event in run.events() if event["event"] in ("trial", "epoch", "level")]
    return [timeless({k: v for k, v in event.items() if k != "time"}) for event in events]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    """A search that nothing interrupts."""
    folder = tmp_path_factory.mktemp("tree")
    return search(folder / "run", space_of(folder), halved())


def test_every_prefix_is_trained_once_and_handed_over(whole):
    events = whole.events()
    trained = Counter((e["trial"], e["epoch"]) for e in events if e["event"] == "epoch")
    assert set(trained.values()) == {1}
    handed = {e["trial"]: e["delta"] for e in events if e["event"] == "handover"}
    made = {e["trial"]: e for e in events if e["event"] == "trial"}
    assert handed.keys() == {trial for trial in made if trial[0] == "t"}
    assert all(abs(delta) < 1e-5 for delta in handed.values())
    for event in made.values():
        if event["parent"] is not None:
            parents = made[event["parent"]]["recipe"]["schedule"]
            assert event["recipe"]["schedule"][:-1] == parents, "the path so far is the parent's"
    assert {e["stage"] for e in made.values()} == {0, 1, 2}
    assert [e["verdict"] for e in events if e["event"] == "level"] == ["undecided", "undecided"]


@pytest.mark.parametrize(("heads", "digits"), [(1, 0.0), (3, 1e-4)])
def test_a_path_trained_from_the_weights_alone_gives_what_the_search_saw(heads, digits, tmp_path):
    """To the last bit, where the head was trained alone too; heads that train together round in another order."""
    run = search(tmp_path / "run", space_of(tmp_path, heads), halved())
    made = {event["trial"]: event for event in run.events() if event["event"] == "trial"}
    deepest = [name for name, one in made.items() if one["stage"] == 2 and len(losses_of(run, name)) == EPOCHS // 2]
    assert deepest
    path = [deepest[-1]]
    while (parent := made[path[0]]["parent"]) is not None:
        path.insert(0, parent)
    (tmp_path / "recipe.json").write_text(json.dumps(made[path[-1]]["recipe"]))
    text, epochs = recipe_space(tmp_path / "recipe.json")
    assert epochs == EPOCHS
    (tmp_path / "recipe.py").write_text(text)
    again = search(tmp_path / "again", load_space(str(tmp_path / "recipe.py")), halved(), trials=2)
    for trained, seen in zip(("h0000", "t0000", "t0001"), path, strict=True):
        assert losses_of(again, trained) == pytest.approx(losses_of(run, seen), abs=digits, rel=0)


def losses_of(run: Run, trial: str) -> list[float]:
    return [event["val_loss"] for event in run.events() if event["event"] == "epoch" and event["trial"] == trial]


@pytest.mark.parametrize("steps", [3, 9, 14, 20, 27])
def test_a_tree_killed_in_the_middle_of_a_level_ends_as_if_it_never_was(steps, whole, tmp_path):
    space = space_of(tmp_path)
    with pytest.raises(KilledError):
        search(tmp_path / "killed", space, halved(), steps=steps)
    resumed = search(tmp_path / "killed", space, halved())
    made = [event for event in results(whole) if event["event"] == "trial"]
    assert [event for event in results(resumed) if event["event"] == "trial"] == made
    assert outcome(resumed) == outcome(whole)


def outcome(run: Run) -> tuple[dict[Any, Any], list[Any]]:
    rows = {(e["trial"], e["epoch"]): e for e in results(run) if e["event"] == "epoch"}
    return rows, [e for e in results(run) if e["event"] == "level"]


# ---- as shipped --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_every_schedule_that_is_proposed_is_sound(seed):
    fixed = {"backbone": "densenet121", "weights": "random", "image_size": 32, "fit": "squash", "seed": seed}
    space = load_space("unfreeze_schedule", fixed=fixed)
    most = 12
    rungs = rungs_for(space.level_epochs(most), 3)
    rules = Rules(rungs, levels=tuple(space.levels), most=(float("inf"),) * 3, beam=3, tested=True)
    controller = Controller(rules, OptunaProposer(space, rules, seed, most))
    world = World(seed, fails=0.05, lost=0.05, early=0.1, verdicts=("gain",) * 3)
    play = Play(controller, world).to_the_end(6, 24, seed=seed)
    made = {event["trial"]: event for event in play.log if event["event"] == "trial"}
    parents: dict[int, set[str]] = {}
    for event in made.values():
        recipe = Recipe.model_validate(event["recipe"])
        depths = [stage.depth for stage in recipe.schedule]
        assert depths == sorted(depths)
        assert depths[-1] == event["depth"]
        assert all(stage.learning_rate > 0 for stage in recipe.schedule)
        assert sum(stage.epochs for stage in recipe.schedule[1:]) <= most
        if event["parent"] is not None:
            parents.setdefault(event["stage"], set()).add(event["parent"])
            before = made[event["parent"]]["recipe"]
            assert event["recipe"]["schedule"][:-1] == before["schedule"]
            assert {key: value for key, value in event["recipe"].items() if key != "schedule"} == {
                key: value for key, value in before.items() if key != "schedule"
            }
    assert parents.keys() == {1, 2, 3}
    assert len(parents[2]) > 1, "which one a trial starts from is searched"
