"""A search may start from the best head of an earlier run: which that is, whether it fits, and that it is the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from raysearch.errors import InputError
from raysearch.job.starting_head import StartingHead, starting_head
from raysearch.models.weights import load_weights
from raysearch.recipe import Recipe
from raysearch.record.metric import larger_is_better
from raysearch.record.tables import heads_table
from raysearch.run import Run
from raysearch.search.controller import Controller
from raysearch.search.driver import Driver
from raysearch.search.messages import Trained
from raysearch.search.rules import Rules
from raysearch.search.sampler import OptunaProposer
from raysearch.space.load import load_space
from raysearch.space.space import Space
from raysearch.training.checkpoint import load_tensors
from raysearch.workers.stage_work import StageWork
from tests.in_process import drive, workplace
from tests.training.bench import CLASSES, bench, split

SEARCH_HEADS = """
from ray import tune
from raysearch.space import Search
space = {
    "pooling": tune.choice(["max", "both"]),
    "head": {"kind": "hidden", "hidden_units": 8},
    "schedule": [
        {"depth": 0, "epochs": 4, "batch_size": 8, "dropout": 0.2, "learning_rate": tune.loguniform(1e-4, 1e-1)}
    ],
}
default = {"pooling": "max", "schedule": [{"learning_rate": 1e-2}]}
search = Search(heads=6, pack=3, folds=FOLDS, first_rung_epochs=2)
"""

FINE_TUNE = """
from ray import tune
from raysearch.space import Search
space = {
    # MORE
    "schedule": [
        {"depth": 0, "epochs": 9, "learning_rate": tune.loguniform(1e-4, 1e-2)},
        {"depth": 2, "batch_size": 8, "learning_rate": tune.loguniform(1e-4, 1e-2)},
    ]
}
default = {"schedule": [{"learning_rate": 1e-3}, {"learning_rate": 1e-3}]}
search = Search(heads=4)
"""
POOLING = ("# MORE", '"pooling": tune.choice(["avg", "max"]),'), ("default = {", 'default = {"pooling": "avg", ')
FIXES_POOLING = (("# MORE", '"pooling": "avg",'),)

FIXED = {"backbone": "simple_cnn", "weights": "random", "image_size": 32, "fit": "squash", "seed": 0}
TRIAL_EPOCHS = 3


def space_of(folder: Path, text: str, *changes: tuple[str, str], **fixed: Any) -> Space:
    for old, new in changes:
        assert text.count(old) == 1, f"the test is stale: {old!r}"
        text = text.replace(old, new)
    path = folder / "mine.py"
    path.write_text(text)
    return load_space(str(path), fixed=FIXED | fixed)


def search(folder: Path, metric: str = "accuracy", folds: int = 0) -> Run:
    """A whole search for heads, as a run leaves it; without Ray."""
    folder.mkdir()
    space = space_of(folder, SEARCH_HEADS, ("FOLDS", str(folds)))
    table, rules = bench(metric=metric), Rules((4,), 3, f"val_{metric}", larger_is_better(metric))
    run = Run.create(folder / "heads", {"metric": metric})
    fingerprints = {"data": table.dataset.fingerprint, "weights": table.weights.digest}
    run.update_info(fingerprints=fingerprints, classes=list(CLASSES))
    driver = Driver(run, Controller(rules, OptunaProposer(space, rules, 0, 4)), 1)
    driver.log({"event": "budget", "heads": 6, "trials": 0, "max_epochs": 4})
    drive(driver, workplace(driver, table, folds=folds, first_rung_epochs=2))
    driver.close()
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Of six heads, in two packs."""
    return search(tmp_path_factory.mktemp("search") / "here")


@pytest.fixture(scope="module")
def head(run) -> StartingHead:
    return starting_head(run)


@pytest.fixture
def fine(tmp_path):
    """The fine-tuning space, with changes."""
    return lambda *changes, **fixed: space_of(tmp_path, FINE_TUNE, *changes, **fixed)


def copy_of(run: Run, folder: Path) -> Run:
    """Another run with the same events, but no tensors."""
    other = Run.create(folder, run.info["settings"])
    other.append(*run.events())
    return other


# ---- which one ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "folds"), [("accuracy", 0), ("loss", 0), ("accuracy", 3)])
def test_the_best_head_of_a_run_is_found(metric, folds, tmp_path):
    run = search(tmp_path / "here", metric, folds)
    head = starting_head(run)
    ends = {event["trial"]: event for event in run.events() if event["event"] == "segment_end"}
    assert len(ends) == 6
    figure, loss = (f"cv_{metric}", "cv_loss") if folds else (f"val_{metric}", "val_loss")
    sign = 1 if metric == "loss" else -1
    best = min(ends.values(), key=lambda event: (sign * event["best"][figure], event["best"][loss]))
    assert (head.trial, head.epochs) == (best["trial"], best["epoch"])
    assert head.about["row"] == best["best"]
    (made,) = (event for event in run.events() if (event["event"], event.get("trial")) == ("trial", best["trial"]))
    assert head.recipe == Recipe.model_validate(made["recipe"])
    tensors, _ = load_tensors(run.folder / "checkpoints" / best["trial"] / "best.safetensors")
    assert tensors.keys() == head.tensors.keys()
    assert all(torch.equal(head.tensors[name], tensor) for name, tensor in tensors.items())


def test_the_best_head_of_a_run_that_went_on_to_trials_is_found(run, head, tmp_path):
    other = copy_of(run, tmp_path / "other")
    space = space_of(tmp_path, FINE_TUNE).with_head(head.recipe)
    recipe = space.recipe({}, TRIAL_EPOCHS).model_dump(mode="json")
    other.append(
        {"event": "trial", "trial": "t0000", "parent": head.trial, "depth": 2, "params": {}, "recipe": recipe}
        | {"stage": 1},
        {"event": "segment", "trial": "t0000", "segment": "t0000.1", "stage": 1, "from_epoch": 0, "to_epoch": 3},
    )
    tensors = run.folder / "checkpoints" / head.trial / "best.safetensors"
    copy = other.folder / "checkpoints" / head.trial / "best.safetensors"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(tensors.read_bytes())
    assert starting_head(other).trial == head.trial


def test_a_run_without_a_trained_head_is_refused(run, tmp_path):
    empty = Run.create(tmp_path / "empty", {"metric": "accuracy"})
    with pytest.raises(InputError, match=r"--head empty: that run has no trained head; start from one of feature_ex"):
        starting_head(empty)
    failed = Run.create(tmp_path / "failed", {"metric": "accuracy"})
    failed.append(*(event for event in run.events() if event["event"] in ("trial", "segment")))
    failed.append(*({"event": "failed", "trial": f"h{number:04d}", "error": "loss is nan"} for number in range(6)))
    with pytest.raises(InputError, match="--head failed: that run has no trained head"):
        starting_head(failed)


def test_a_head_whose_tensors_cannot_be_read_is_refused(run, head, tmp_path):
    other = copy_of(run, tmp_path / "other")
    with pytest.raises(InputError, match=f"--head other: the tensors of its best head, {head.trial}, cannot be read"):
        starting_head(other)
    path = other.folder / "checkpoints" / head.trial / "best.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"these are no tensors")
    with pytest.raises(InputError, match=r"cannot be read: .*is not a readable safetensors file"):
        starting_head(other)


@pytest.mark.parametrize("info", [{"settings": {}}, {}])
def test_what_is_no_search_is_refused(info, tmp_path):
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "run.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=r"--head it: its run.json has no '(settings|metric)'; it is not a run of a"):
        starting_head(Run.open(tmp_path / "it"))


# ---- whether it fits ---------------------------------------------------------------------------------------------


def problems(head: StartingHead, space: Space, weights: Any = None, **of_the_data: Any) -> list[str]:
    table = bench()
    return head.problems(space, dataclasses.replace(table.dataset, **of_the_data), weights or table.weights)


def test_a_head_fits_where_everything_is_what_it_was_trained_with(head, fine):
    assert head.recipe.pooling in ("max", "both")
    assert problems(head, fine(("# MORE", f'"pooling": "{head.recipe.pooling}",'))) == []
    assert problems(head, fine(*POOLING)) == [], "the head's takes the place of what is searched"
    assert problems(head, fine()) == [], "and of what is not said"


def test_each_difference_is_named_with_both_values(head, fine):
    sound = [("# MORE", f'"pooling": "{head.recipe.pooling}",')]
    prefix = f"--head: {head.trial} of {head.run} was trained with another: "
    weights = load_weights("simple_cnn", "random", 1)
    cases = [
        (
            problems(head, fine(*sound, backbone="vgg19")),
            "the backbone is simple_cnn, here vgg19; give --backbone simple_cnn",
        ),
        (
            problems(head, fine(*sound), weights),
            f"the base weights (digest) is {bench().weights.digest[:12]}, here {weights.digest[:12]}; "
            "give --weights random",
        ),
        (
            problems(head, fine(*sound), classes=("green", "blue", "red")),
            "the classes is ['blue', 'green', 'red'], here ['green', 'blue', 'red']",
        ),
        (problems(head, fine(*sound), image_size=48), "the image size is 32, here 48; give --image-size 32"),
        (problems(head, fine(*sound), fit="crop"), "the fit is squash, here crop; give --fit squash"),
        (problems(head, fine(*FIXES_POOLING)), f"the pooling is {head.recipe.pooling}, here avg"),
        (
            problems(head, fine(("# MORE", '"head": {"kind": "linear"},'))),
            "the head is hidden, 8 units, here linear",
        ),
    ]
    for found, says in cases:
        assert found == [prefix + says]


def test_a_space_fixes_the_backbone_itself(head, fine):
    pooling = f'"pooling": "{head.recipe.pooling}", '
    space = fine(("# MORE", pooling + '"backbone": "simple_cnn",'), backbone="vgg19")
    assert problems(head, space) == []


def test_a_space_that_searches_heads_itself_or_has_none_cannot_start_from_one(head, tmp_path):
    (found,) = problems(head, space_of(tmp_path, SEARCH_HEADS, ("FOLDS", "0")))
    assert found == "--head cannot be used with the space mine: it searches heads itself"
    text = SEARCH_HEADS.replace("heads=6, pack=3", "heads=0").replace('"depth": 0', '"depth": 1')
    (found,) = problems(head, space_of(tmp_path, text, ("FOLDS", "0")))
    assert found == "--head cannot be used with the space mine: it trains from the weights alone, without heads"


def test_everything_that_does_not_fit_is_said_at_once(head, fine):
    weights = load_weights("simple_cnn", "random", 1)
    found = problems(
        head, fine(*FIXES_POOLING, backbone="vgg19"), weights, image_size=48, fit="pad", classes=("a", "b")
    )
    assert len(found) == 6


# ---- where it is adopted -----------------------------------------------------------------------------------------


def adopted(head: StartingHead, folder: Path, space: Space, table: Any) -> tuple[Driver, Controller]:
    """A new run that begins with this head and wants two trials; its controller is replayed from the log."""
    rules = Rules((TRIAL_EPOCHS,), 3)
    run = Run.create(folder, {"metric": "accuracy"})
    run.append({"event": "budget", "heads": 1, "trials": 2, "max_epochs": TRIAL_EPOCHS})
    run.append(*head.adopt(folder / "checkpoints" / "h0000", table))
    controller = Controller(rules, OptunaProposer(space.with_head(head.recipe), rules, 0, TRIAL_EPOCHS))
    controller.replay(run.events())
    return Driver(run, controller, 1), controller


def first_trial(driver: Driver, table: Any) -> Trained:
    """What it says after its first epoch, past the gate."""
    segment = driver.start("worker")
    assert (segment.trial, segment.parent) == ("t0000", "h0000")
    (result,) = StageWork(table, driver.checkpoints, segment).step()
    return result


def test_it_is_the_runs_only_head_and_trials_start_from_it_past_the_gate(head, fine, tmp_path):
    table = bench()
    driver, controller = adopted(head, tmp_path / "run", fine(*POOLING), table)
    mine = controller.best_head()
    assert list(controller.trials) == ["h0000"]
    assert (mine.name, mine.state, mine.epochs, mine.best) == ("h0000", "done", head.epochs, head.about["row"])
    assert mine.name in controller.keepers()
    result = first_trial(driver, table)
    assert abs(result.handover_delta) <= 1e-4
    recipe = controller.trials["t0000"].recipe
    assert (recipe.pooling, recipe.head) == (head.recipe.pooling, head.recipe.head)
    assert recipe.schedule[0] == head.recipe.schedule[0], "the recipe says what the head was trained with"
    assert recipe.schedule[1].depth == 2
    row = heads_table(driver.run.events()).iloc[0]
    assert (row["trial"], row["state"], row["epochs"]) == ("h0000", "done", head.epochs)
    assert row["val_accuracy"] == head.about["row"]["val_accuracy"]


def test_no_trial_asks_for_another_head(head, fine, tmp_path):
    _, controller = adopted(head, tmp_path / "run", fine(*POOLING), bench())
    for number in range(5):
        proposed = controller.proposer.trial(number, controller, level=1, role=None if number else "default")
        recipe = proposed.recipe
        assert proposed.parent == "h0000"
        assert (recipe.pooling, recipe.head) == (head.recipe.pooling, head.recipe.head)
        assert set(proposed.params) == {"schedule.1.learning_rate"}, "nothing of the head is searched"


def test_it_says_where_it_comes_from(head, fine, tmp_path):
    driver, _ = adopted(head, tmp_path / "run", fine(*POOLING), bench())
    (made,) = (event for event in driver.run.events() if event["event"] == "trial")
    assert made["origin"] == {"run": head.run, "trial": head.trial}
    assert not any(event["event"] == "epoch" for event in driver.run.events()), "nothing was trained here"


def other_images() -> Any:
    """A bench of the same classes and weights; the images for validation are others, and more."""
    table = bench()
    dataset = dataclasses.replace(table.dataset, val=split(15, 9, 32), fingerprint="other")
    return dataclasses.replace(table, dataset=dataset)


@pytest.mark.parametrize("table", [other_images(), bench(max_batches=1)], ids=["other images", "a quick look"])
def test_on_other_validation_images_its_loss_is_measured_anew(table, head, fine, tmp_path):
    if table.max_batches:
        dataset = dataclasses.replace(table.dataset, val=split(60, 1, 32))
        table = dataclasses.replace(table, dataset=dataset)
    driver, controller = adopted(head, tmp_path / "run", fine(*POOLING), table)
    _, about = load_tensors(tmp_path / "run" / "checkpoints" / "h0000" / "best.safetensors")
    assert abs(about["val_loss"] - head.about["val_loss"]) > 1e-4, "the test is stale"
    assert controller.trials["h0000"].best["val_loss"] == about["val_loss"]
    assert abs(first_trial(driver, table).handover_delta) <= 1e-4


@pytest.mark.parametrize("table", [bench(), other_images()], ids=["the same images", "other images"])
def test_a_stage_may_inherit_the_rate_at_which_it_was_kept(table, head, fine, tmp_path):
    driver, controller = adopted(head, tmp_path / "run", fine(*POOLING), table)
    assert controller.trials["h0000"].rate == head.about["row"]["lr"]
    assert driver.start("worker").ended_rate == head.about["row"]["lr"]


def test_a_head_that_was_cross_validated_is_compared_with_trials_on_the_validation_images(fine, tmp_path):
    head = starting_head(search(tmp_path / "folded", folds=3))
    assert "cv_accuracy" in head.about["row"]
    _, controller = adopted(head, tmp_path / "run", fine(*POOLING), bench())
    best = controller.trials["h0000"].best
    assert controller.rules.order(best) == (best["val_accuracy"], -best["val_loss"])
    assert controller.rules.figure(best) == best["val_accuracy"]
    assert "cv_accuracy" not in best
