"""Proposals: a pure function of the log and the seed; in their ranges; from a head of the right shape."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.recipe import Recipe
from raysearch.record.goal import Goal
from raysearch.search import compared
from raysearch.search.asha import rungs_for
from raysearch.search.compared import comparable
from raysearch.search.controller import Controller
from raysearch.search.rules import Rules
from raysearch.search.sampler import OptunaProposer
from raysearch.search.study_file import export_study
from raysearch.space.first import first_recipes
from raysearch.space.load import load_space
from raysearch.space.space import Space
from raysearch.training.heads.pack import pack_key
from tests.search.simulated import Play, World, read_again

FIXED = {"backbone": "densenet121", "weights": "random", "image_size": 32, "fit": "squash", "seed": 3}
MAX_EPOCHS = 6
SHAPES = """
from ray import tune
from raysearch.space import Search

balance = {"cat": 2.0, "dog": 1.0}
space = {
    "pooling": tune.choice(["max", "avg"]),
    "head": {"kind": "hidden", "hidden_units": tune.choice([32, 64])},
    "augmentation": {"zoom": tune.uniform(0.0, 0.5)},
    "schedule": [
        {"depth": 0, "epochs": 2, "dropout": tune.quniform(0.0, 0.5, 0.1)},
        {
            "depth": tune.randint(1, 4),
            "strength": 1.0,
            "class_weights": tune.choice(["none", 0.5, balance]),
            "early_stopping_epochs": tune.choice([None, 2]),
        },
    ],
}
default = {
    "pooling": "avg",
    "head": {"hidden_units": 64},
    "augmentation": {"zoom": 0.1},
    "schedule": [{"dropout": 0.2}, {"depth": 2, "class_weights": balance, "early_stopping_epochs": None}],
}
search = Search(sampler="SAMPLER", heads=6)
"""


@pytest.fixture(scope="module", params=["tpe", "random"])
def space(request, tmp_path_factory) -> Space:
    path = tmp_path_factory.mktemp("space") / f"{request.param}.py"
    path.write_text(SHAPES.replace("SAMPLER", request.param))
    return load_space(str(path), fixed=FIXED)


def controller_of(space: Space, seed: int = 3, metric: str = "val_accuracy") -> Controller:
    rules = Rules(rungs_for(MAX_EPOCHS, 3), 3, metric, metric != "val_loss", levels=tuple(space.levels))
    return Controller(rules, OptunaProposer(space, rules, seed, MAX_EPOCHS))


def searched(space: Space, trials: int = 15, world: World | None = None, **how) -> Play:
    world = world or World(fails=0.1, lost=0.1, early=0.1)
    metric = world.metric
    return Play(controller_of(space, metric=metric), world).to_the_end(space.search.heads, trials, **how)


@pytest.fixture(scope="module")
def played(space) -> Play:
    return searched(space, concurrent=3)


def made(play: Play, kind: str) -> list[dict]:
    return [event for event in play.log if event["event"] == "trial" and event["trial"][0] == kind]


def test_replaying_any_prefix_proposes_the_same(space, played):
    """What Optuna is told survives JSON, and nothing hangs on the process that asks."""
    for k in played.writes[:-1]:
        if played.log[k]["event"] != "trial":
            continue
        replayed = controller_of(space)
        replayed.replay(json.loads(json.dumps(played.log[:k])))
        name, written = played.log[k]["trial"], [played.log[k]]
        if name[0] == "t":
            proposed = [replayed.proposer.trial(int(name[1:]), replayed, level=1, role=written[0].get("role"))]
        else:
            written = [event for event in made(played, "h") if event["pack"] == written[0]["pack"]]
            proposed = replayed.proposer.pack(int(name[1:]), space.search.heads - int(name[1:]), replayed)
        assert [
            event | read_again(again.made(event["trial"])) for event, again in zip(written, proposed, strict=True)
        ] == written


def test_another_seed_proposes_otherwise(space, played):
    other = Play(controller_of(space, seed=4), played.world).to_the_end(space.search.heads, 15, concurrent=3)
    same = [a["params"] == b["params"] for a, b in zip(made(played, "t"), made(other, "t"), strict=True)]
    assert same[0], "the default does not hang on the seed"
    assert not any(same[1:])


def test_heads_cover_every_shape_the_default_first(space, played):
    events = made(played, "h")
    firsts = [
        one["recipe"] for one, before in zip(events, [{}, *events], strict=False) if one["pack"] != before.get("pack")
    ]
    shapes = [(head["pooling"], head["head"]["hidden_units"]) for head in firsts]
    assert shapes[0] == ("avg", 64)
    assert set(shapes) == {("avg", 32), ("avg", 64), ("max", 32), ("max", 64)}
    assert [head["schedule"][0]["dropout"] for head in firsts] == [0.2] * 4
    assert len({event["recipe"]["schedule"][0]["dropout"] for event in events}) > 1, "then the sampler goes on"
    assert all(event["depth"] == 0 and event["stage"] == 0 and event["parent"] is None for event in made(played, "h"))


def test_trial_0_is_the_default(space, played):
    first = made(played, "t")[0]
    default = space.recipe({}, MAX_EPOCHS)
    proposed = Recipe.model_validate(first["recipe"])
    assert proposed.schedule[1] == default.schedule[1]
    assert (proposed.pooling, proposed.head, proposed.augmentation) == (
        default.pooling,
        default.head,
        default.augmentation,
    )


def test_a_trial_starts_from_the_best_head_of_its_shape_and_says_what_that_was_trained_with(space):
    play = searched(space, world=World(seed=1))
    heads = {event["trial"]: event["recipe"] for event in made(play, "h")}
    scores = {name: play.controller.trials[name].best["val_accuracy"] for name in heads}
    for event in made(play, "t"):
        recipe, head = event["recipe"], heads[event["parent"]]
        rivals = [name for name in heads if all(heads[name][key] == recipe[key] for key in ("pooling", "head"))]
        assert event["parent"] in rivals
        assert scores[event["parent"]] == max(scores[name] for name in rivals)
        assert recipe["schedule"][0] == head["schedule"][0]
        assert event["depth"] == recipe["schedule"][event["stage"]]["depth"]
        assert event["params"]["pooling"] == recipe["pooling"], "what the sampler is told is what was trained"


def test_where_all_heads_of_a_shape_failed_a_trial_takes_another_shape_and_says_so(space):
    play = Play(controller_of(space), World())
    play.to_the_end(space.search.heads, 0)
    for head in made(play, "h"):
        if head["recipe"]["pooling"] == "avg":
            play.controller.trials[head["trial"]].best = None
    proposed = play.controller.proposer.trial(0, play.controller, level=1, role="default")
    assert proposed.recipe.pooling == "max"
    assert play.controller.trials[proposed.parent].recipe.pooling == "max"


def test_every_proposal_is_in_its_distribution_and_a_valid_recipe(space, played):
    for kind, paths in (("h", space.head_paths()), ("t", space.trial_paths(1))):
        for event in made(played, kind):
            assert list(event["params"]) == paths
            for path, value in event["params"].items():
                distribution = space.distributions[path]
                assert distribution._contains(distribution.to_internal_repr(value))
            assert Recipe.model_validate(event["recipe"]).model_dump(mode="json") == event["recipe"]


def test_a_space_without_heads_trains_from_the_weights(tmp_path):
    space = load_space("baseline", fixed=FIXED)
    play = searched(space, 6, World())
    assert [event["parent"] for event in made(play, "t")] == [None] * 6
    assert {event["depth"] for event in made(play, "t")} == {4}


ONLY_HEADS = """
from ray import tune
from raysearch.space import Search

space = {
    "pooling": tune.choice(["max", "avg"]),
    "schedule": [
        {
            "depth": 0,
            "epochs": 4,
            "strength": tune.quniform(0.0, 0.5, 0.25),
            "dropout": tune.quniform(0.0, 0.5, 0.1),
            "batch_size": tune.choice([32, 64]),
        }
    ],
}
default = {"pooling": "avg", "schedule": [{"strength": 0.0, "dropout": 0.2, "batch_size": 64}]}
search = Search(sampler="SAMPLER", heads=40, pack=PACK)
"""


def heads_only(tmp_path, sampler: str, pack: int) -> Space:
    path = tmp_path / "heads.py"
    path.write_text(ONLY_HEADS.replace("SAMPLER", sampler).replace("PACK", str(pack)))
    return load_space(str(path), fixed=FIXED)


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_the_heads_of_a_pack_may_train_together(tmp_path, sampler):
    space = heads_only(tmp_path, sampler, 8)
    play = searched(space, 0, concurrent=2)
    packs: dict[int, list[Recipe]] = {}
    for event in made(play, "h"):
        packs.setdefault(event["pack"], []).append(Recipe.model_validate(event["recipe"]))
    assert len(made(play, "h")) == 40
    assert made(play, "t") == []
    for recipes in packs.values():
        assert len({pack_key(recipe) for recipe in recipes}) == 1
        assert len(recipes) <= 8
    assert len({pack_key(recipes[0]) for recipes in packs.values()}) > 2, "and packs differ"
    assert packs[0][0] == space.recipe({}, MAX_EPOCHS), "the first head is the default"
    assert play.controller.winner == play.controller.best_head()


def test_a_grid_has_every_combination_once(tmp_path):
    space = heads_only(tmp_path, "grid", 5)
    paths = space.head_paths()
    assert space.grid_size(paths) == 2 * 3 * 6 * 2
    play = Play(controller_of(space), World()).to_the_end(72, 0)
    points = [tuple(event["params"][path] for path in paths) for event in made(play, "h")]
    assert len(set(points)) == len(points) == 72


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_any_seed_will_do(seed):
    space = load_space("baseline", fixed=FIXED)
    controller = controller_of(space, seed=seed)
    proposed = controller.proposer.trial(1, controller, level=0, role=None)
    assert Recipe.model_validate(proposed.recipe.model_dump()).seed == FIXED["seed"]


def test_tpe_goes_where_it_was_good():
    """The sampler learns from the trials' own scores: a far better region is proposed more often than at random."""
    space = load_space("baseline", fixed=FIXED)

    def low_rates(informed: bool) -> int:
        rules = Rules(rungs=(2,), levels=(0,))
        play = Play(Controller(rules, OptunaProposer(space, rules, 3, max_epochs=2)), World())
        play.emit({"event": "budget", "heads": 0, "trials": 40})
        rates = []
        while events := play.controller.decide():
            for event in events:
                play.emit(event)
            rates.append(events[0]["params"]["schedule.0.learning_rate"])
            of = {"trial": events[0]["trial"], "segment": events[1]["segment"]}
            accuracy = float(rates[-1] < 6e-4) if informed else 0.5
            row = {"epoch": 2, "val_accuracy": accuracy, "val_loss": 1.0}
            play.emit({"event": "epoch", **of, **row})
            play.emit({"event": "segment_end", **of, "epoch": 2, "finished": True, "seconds": 1.0, "best": row})
        assert len(rates) == 40
        return sum(rate < 6e-4 for rate in rates[10:])

    assert low_rates(informed=True) > 1.5 * low_rates(informed=False)


def test_tpe_looks_at_the_latest_trials_only(monkeypatch, tmp_path):
    """Or a proposal would take ever longer, and a resume would not know which trials were looked at."""
    monkeypatch.setattr(compared, "_COMPARED", 14)
    (tmp_path / "shapes.py").write_text(SHAPES.replace("SAMPLER", "tpe"))
    space = load_space(str(tmp_path / "shapes.py"), fixed=FIXED)
    play = searched(space, trials=30)

    def proposals(forgotten: str | None) -> list[dict]:
        """What is asked next, had this trial been a failure."""
        state = copy.deepcopy(play.controller)
        if forgotten is not None:
            state.trials[forgotten].error = "forgotten"
        return [state.proposer.trial(number, state, level=1, role=None) for number in range(30, 40)]

    asked = proposals(None)
    finished = [trial.name for trial in play.controller.trials.values() if play.controller.rungs.climb(trial)]
    assert proposals(next(name for name in finished if name < "t0016")) == asked
    assert proposals(finished[-1]) != asked


def test_trials_that_run_do_not_take_the_place_of_those_that_were_compared(monkeypatch, space):
    monkeypatch.setattr(compared, "_COMPARED", 8)
    monkeypatch.setattr(compared, "_RUNNING", 3)
    play = searched(space, trials=20, world=World())
    play.emit({"event": "budget", "heads": 6, "trials": 40})
    for _ in range(20):
        play.start()
    known = compared.recent(play.controller.tree.latest_first(1))
    assert [trial.name for trial in known if trial.running is None] == [f"t{number:04d}" for number in range(12, 20)]
    running = [trial.name for trial in play.controller.running]
    assert [trial.name for trial in known if trial.running] == running[-3:]


def test_to_have_been_trained_long_is_no_merit(space):
    """Every trial gains the same from rung to rung: what the sampler is told is what they were at the first."""
    rules = Rules(rungs=(1, 3, 9), reduction=3)
    play = Play(Controller(rules, OptunaProposer(space, rules, 0, 9)), World())
    play.to_the_end(6, 0)
    play.emit({"event": "budget", "heads": 6, "trials": 12})
    first: dict[str, float] = {}
    while events := play.controller.decide():
        play.emit(*events)
        segment = events[-1]
        name, epoch = segment["trial"], segment["to_epoch"]
        quality = first.setdefault(name, len(first) % 5 / 10)
        row = {"epoch": epoch, "val_accuracy": quality + rules.rungs.index(epoch) / 10, "val_loss": 1.0}
        play.emit({"event": "epoch", "trial": name, "seconds": 1.0, **row})
        end = {"epoch": epoch, "finished": epoch == 9, "seconds": 1.0, "best": row}
        play.emit({"event": "segment_end", "trial": name, "segment": segment["segment"], **end})
    trials = [trial for trial in play.controller.trials.values() if not trial.is_head]
    rungs = play.controller.rungs
    assert len({len(rungs.climb(trial)) for trial in trials}) == 3
    told = comparable(trials, rungs)
    assert {name: score for name, (score,) in told.items()} == pytest.approx(first)


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_the_exported_study_opens_in_optuna(tmp_path, metric):
    space = load_space("fine_tune", fixed=FIXED)
    play = searched(space, 12, World(metric=metric, fails=0.15, early=0.1), concurrent=2)
    play.to_the_end(space.search.heads, 13, concurrent=2, steps=0)
    play.start()
    controller, path = play.controller, Path(tmp_path / "study.db")
    export_study(path, controller, space, "a run")
    export_study(path, controller, space, "a run")  # replaces the file, adds nothing to it
    assert [one.name for one in tmp_path.iterdir()] == ["study.db"]
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    study = optuna.load_study(study_name="a run", storage=storage)
    trials = [trial for trial in controller.trials.values() if not trial.is_head]
    assert [trial.user_attrs["trial"] for trial in study.trials] == [trial.name for trial in trials]
    states = {"done": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL", "running": "RUNNING"}
    assert [trial.state.name for trial in study.trials] == [states[trial.state] for trial in trials]
    assert {trial.state.name for trial in study.trials} == set(states.values())
    for exported, trial in zip(study.trials, trials, strict=True):
        assert exported.params == trial.params
        assert exported.user_attrs["parent"] == trial.parent
        if trial.state in ("done", "stopped"):
            assert exported.value == trial.best[metric]
            assert exported.intermediate_values == {trial.epochs: trial.best[metric]}
    best = min if metric == "val_loss" else max
    assert study.best_value == best(trial.best[metric] for trial in trials if trial.state == "done")
    storage.remove_session()
    storage.engine.dispose()


def test_learning_rates_keep_their_place_between_tested_bounds(tmp_path):
    space = load_space("fine_tune", fixed=FIXED | {"backbone": "densenet121"})
    controller = controller_of(space)
    Play(controller, World()).to_the_end(24, 0)
    controller.apply({"event": "budget", "heads": 24, "trials": 40})
    plain = [controller.proposer.trial(n, controller, level=1, role=None) for n in range(1, 12)]
    bounds = {"1": {"low": 1e-6, "high": 1e-4}, "2": {"low": 1e-3, "high": 1e-1}, "3": {"low": 1.0, "high": 2.0}}
    controller.apply({"event": "lr_find", "level": 1, "start": "h0000", "depths": bounds})
    moved = [controller.proposer.trial(n, controller, level=1, role=None) for n in range(1, 12)]
    span = space.distributions["schedule.1.learning_rate"]
    for before, after in zip(plain, moved, strict=True):
        assert before.params == after.params, "the sampler is told where in the range, whatever the bounds"
        rates = [one.recipe.schedule[1].learning_rate for one in (before, after)]
        found = bounds[str(after.recipe.depth)]
        places = [math.log(rates[0] / span.low) / math.log(span.high / span.low)]
        places.append(math.log(rates[1] / found["low"]) / math.log(found["high"] / found["low"]))
        assert places[0] == pytest.approx(places[1])
    default = controller.proposer.trial(0, controller, level=1, role="default")
    assert default.recipe.schedule[1].learning_rate == 5e-4, "the known-good one stays as it is"


RATES = """
from ray import tune
from raysearch.space import Search

space = {"schedule": [{"depth": 1, "epochs": 4, "learning_rate": tune.loguniform(1e-4, 1e-1)}]}
default = {"schedule": [{"learning_rate": 1e-2}]}
search = Search(heads=0)
"""


@pytest.mark.parametrize("require", [(), ("recall:ill>=0.6",)])
def test_a_bound_leads_the_search_to_where_it_is_kept(tmp_path, require):
    """Accuracy rises with the learning rate and recall falls: the lower two fifths of the range keep the bound."""
    (tmp_path / "rates.py").write_text(RATES)
    space = load_space(str(tmp_path / "rates.py"), fixed=FIXED)
    rules = Rules((4,), levels=(0,), require=Goal.of("accuracy", require).require)
    play = Play(Controller(rules, OptunaProposer(space, rules, 0, 4)), World())
    play.emit({"event": "budget", "heads": 0, "trials": 40})
    places = {}
    while events := play.controller.decide():
        play.emit(*events)
        segment, name = events[-1], events[-1]["trial"]
        rate = play.controller.trials[name].recipe.schedule[0].learning_rate
        place = places[name] = math.log10(rate / 1e-4) / 3
        row = {"epoch": 4, "val_accuracy": place, "val_recall:ill": 1 - place, "val_loss": 1.0}
        play.emit({"event": "epoch", "trial": name, "seconds": 1.0, **row})
        end = {"epoch": 4, "finished": True, "seconds": 1.0, "best": row}
        play.emit({"event": "segment_end", "trial": name, "segment": segment["segment"], **end})
    late = sorted(list(places.values())[-20:])
    keeping = [place for place in places.values() if not require or 1 - place >= 0.6]
    assert places[play.controller.leader.name] == max(keeping)
    median = late[len(late) // 2]
    assert 0.2 < median < 0.5 if require else median > 0.8


# ---- recipes that the space names ----------------------------------------------------------------------------------


def named(tmp_path, text: str, first: str) -> Space:
    path = tmp_path / "named.py"
    path.write_text(text.replace("SAMPLER", "tpe").replace("PACK", "8"))
    source = path.read_text()
    at = source.rindex(")")
    path.write_text(f"{source[:at]}, first={first}{source[at:]}")
    return load_space(str(path), fixed=FIXED)


FIRST = """[
    {"schedule": [{}, {"depth": 3, "early_stopping_epochs": 2}]},
    {"pooling": "max"},
    {"schedule.1.depth": 1, "schedule.1.class_weights": balance},
]"""


def test_first_recipes_come_after_the_default_in_their_order_whatever_turn_depths_have(tmp_path):
    space = named(tmp_path, SHAPES, FIRST)
    trials = made(searched(space, 8), "t")
    wanted = [one.values for one in first_recipes(space)]
    assert [event["params"] for event in trials[1:4]] == [read_again({"params": one})["params"] for one in wanted]
    assert [event["depth"] for event in trials[:4]] == [2, 3, 2, 1]
    assert [event.get("first") for event in trials] == [None, 0, 1, 2, None, None, None, None]
    assert [event["recipe"]["pooling"] for event in trials[1:3]] == ["avg", "max"]


def test_with_few_trials_the_first_of_them_are_tried(tmp_path):
    trials = made(searched(named(tmp_path, SHAPES, FIRST), 3), "t")
    assert [event.get("first") for event in trials] == [None, 0, 1]


def test_first_recipes_are_tried_once_whenever_the_search_was_killed(tmp_path):
    space = named(tmp_path, SHAPES, FIRST)
    whole = searched(space, 6, concurrent=2)
    for k in (n for n in whole.writes[:-1] if whole.log[n]["event"] == "trial" and whole.log[n]["trial"][0] == "t"):
        replayed = controller_of(space)
        replayed.replay(json.loads(json.dumps(whole.log[:k])))
        written = whole.log[k]
        again = replayed.proposer.trial(int(written["trial"][1:]), replayed, level=1, role=written.get("role"))
        assert written | read_again(again.made(written["trial"])) == written


def test_first_heads_are_the_first_heads_by_packs_where_heads_are_all_that_is_searched(tmp_path):
    space = named(
        tmp_path,
        ONLY_HEADS,
        """[
    {"schedule": [{"dropout": 0.5}]},
    {"pooling": "max", "schedule": [{"dropout": 0.1}]},
    {"schedule": [{"dropout": 0.4}]},
]""",
    )
    heads = made(searched(space, 0), "h")
    assert [event.get("first") for event in heads[:3]] == [None, 0, 2], "which train with the default"
    packs = {event["first"]: event["pack"] for event in heads if "first" in event}
    assert packs == {0: 0, 2: 0, 1: 1}
    assert {event["recipe"]["pooling"] for event in heads if event["pack"] == 1} == {"max"}
    assert len(heads) == 40
