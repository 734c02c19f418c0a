"""What a worker does with its tasks, without Ray: heads in packs with halving, trials with checkpoints."""

from __future__ import annotations

import dataclasses
import shutil
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from raysearch.activations.cache import CacheSettings
from raysearch.recipe import Head, Recipe, Stage
from raysearch.run import Run
from raysearch.search.controller import Controller
from raysearch.search.driver import Driver
from raysearch.search.messages import Failed, Pack, PackHead, RateTest, Result, Segment, Task, Trained, Unsaved
from raysearch.search.rules import Rules
from raysearch.search.sampler import OptunaProposer
from raysearch.space.load import load_space
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from raysearch.training.ranks import Ranks
from raysearch.training.stage import open_stage
from raysearch.workers import pack_work, work
from raysearch.workers.actor import TrialActor
from raysearch.workers.pack_work import PackWork
from raysearch.workers.stage_work import RangeTestWork, StageWork
from raysearch.workers.workplace import Workplace
from tests.full_disk import full_disk
from tests.in_process import KilledError, drive, killed_after, workplace
from tests.training.bench import bench, decoded, recipe
from tests.training.tiny import timeless
from tests.training.together import together

HEAD: dict[str, Any] = {"depth": 0, "epochs": 9, "batch_size": 8}
BAD = 1e-9  # a learning rate that teaches nothing
ABSURD = 1e38
RATES = (BAD, 0.03, 0.01, 3e-3, 1e-3, 0.1, 3e-4, 0.02, 1e-4)
HALVING: dict[str, Any] = {"reduction": 3, "first_rung_epochs": 1}
"""Rungs at 1, 3 and 9 epochs: of nine heads three go on, of these one."""


@pytest.fixture
def an_epoch_a_step(monkeypatch):
    """Of packs, whose steps have some epochs otherwise."""
    monkeypatch.setattr(pack_work, "_STEP_SECONDS", 0.0)


def heads(rates: tuple[float, ...] = RATES, kind: str = "linear", **changes: Any) -> list[Recipe]:
    stages = [Stage(**(HEAD | {"learning_rate": rate} | changes)) for rate in rates]
    return [recipe(head=Head(kind=kind, hidden_units=8), schedule=(stage,)) for stage in stages]


def of_pack(recipes: list[Recipe], ended: Collection[str] = ()) -> Pack:
    """A pack, as the driver gives it to a worker."""
    names = [f"h{number:04d}" for number in range(len(recipes))]
    return Pack(tuple(PackHead(name, one, name in ended) for name, one in zip(names, recipes, strict=True)))


def pack(checkpoints: Path, task: Pack, table: Any = None, folds: int = 0) -> PackWork:
    return PackWork(table or bench(), checkpoints, task, folds=folds, **HALVING)


def told(work: PackWork) -> dict[str, list[Result]]:
    """Everything that a pack says to its end, by trial."""
    results: dict[str, list[Result]] = {}
    while work.running:
        for result in work.step():
            results.setdefault(result.trial, []).append(result)
    return results


def saved(checkpoints: Path) -> dict[str, Path]:
    """Files of best tensors, by trial."""
    return {path.parent.name: path for path in checkpoints.rglob("best.safetensors")}


def ended(result: Result) -> bool:
    return isinstance(result, Failed) or (isinstance(result, Trained) and result.ended)


def worth(row: dict[str, Any]) -> tuple[float, float]:
    return row["val_accuracy"], -row["val_loss"]


def plain(result: Trained) -> Trained:
    """A result without seconds."""
    return dataclasses.replace(result, row=timeless(result.row), best=timeless(result.best))


# ---- packs -------------------------------------------------------------------------------------------------------


def test_every_head_tells_its_epochs_in_order_and_a_third_goes_on_at_each_rung(tmp_path):
    results = told(pack(tmp_path, of_pack(heads())))
    assert sorted(results) == [f"h{number:04d}" for number in range(len(RATES))]
    for of_head in results.values():
        assert [result.row["epoch"] for result in of_head] == list(range(1, len(of_head) + 1))
        assert [ended(result) for result in of_head] == [False] * (len(of_head) - 1) + [True]
        for number, result in enumerate(of_head, start=1):
            assert result.best == max((one.row for one in of_head[:number]), key=worth)
    lengths = {trial: len(of_head) for trial, of_head in results.items()}
    assert sorted(lengths.values()) == [1] * 6 + [3] * 2 + [9]
    for rung in (1, 3):
        stopped = [of_head[-1].best for of_head in results.values() if len(of_head) == rung]
        going = [of_head[rung - 1].best for of_head in results.values() if len(of_head) > rung]
        assert min(map(worth, going)) >= max(map(worth, stopped)), "the best go on"
    for of_head in results.values():
        assert of_head[-1].stopped == (len(of_head) < 9)
        assert of_head[-1].finished == (len(of_head) == 9)


def test_early_stopping_ends_a_head_by_itself(tmp_path):
    stages = [{"learning_rate": BAD, "early_stopping_epochs": 1}, {"learning_rate": 0.01}]
    recipes = [recipe(schedule=(Stage(**HEAD | {"epochs": 4} | stage),)) for stage in stages]
    work = PackWork(bench(), tmp_path, of_pack(recipes), folds=0, reduction=2, first_rung_epochs=4)
    results = told(work)
    assert len(results["h0000"]) < len(results["h0001"]) == 4
    assert [result[-1].finished for result in results.values()] == [True, True]
    assert not any(result.stopped for of_head in results.values() for result in of_head), "the end is no rung"


@pytest.mark.parametrize(("kind", "folds"), [("linear", 0), ("hidden", 0), ("linear", 3)])
def test_the_best_head_and_the_default_are_on_disk_when_the_last_end_is_told(kind, folds, tmp_path, an_epoch_a_step):
    table, recipes, ends = bench(), heads(kind=kind), {}
    work = pack(tmp_path, of_pack(recipes), table, folds)
    while work.running:
        ends |= {result.trial: result.best for result in work.step() if ended(result)}
    metric = "cv" if folds else "val"
    ranked = sorted(ends, key=lambda trial: (-ends[trial][f"{metric}_accuracy"], ends[trial][f"{metric}_loss"]))
    assert len(ranked) == len(RATES)
    assert "h0000" not in ranked[:1], "it is there because it is the default"
    assert saved(tmp_path).keys() == {*ranked[:1], "h0000"}
    for trial in (*ranked[:1], "h0000"):
        start, about = load_tensors(tmp_path / trial / "best.safetensors")
        assert about["row"] == ends[trial]
        first = recipes[int(trial[1:])]
        deeper = first.model_copy(update={"schedule": (first.schedule[0], Stage(depth=2, epochs=1, batch_size=8))})
        trainer = open_stage(
            table, deeper, 1, start, expected_loss=about["val_loss"], expected_signature=about["signature"]
        )
        assert abs(trainer.handover_delta) <= 1e-4
        assert trainer.best["val_accuracy"] == about["row"]["val_accuracy"]


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_pack_that_was_broken_off_trains_again_whole_and_tells_of_those_that_had_not_ended(
    steps, tmp_path, an_epoch_a_step
):
    """Without those that had ended, others would survive the halving."""
    recipes = [*heads(RATES[:-1]), *heads(RATES[-1:], early_stopping_epochs=1)]
    whole = told(pack(tmp_path / "whole", of_pack(recipes)))
    broken_off = pack(tmp_path / "again", of_pack(recipes))
    before = [result for _ in range(steps) for result in broken_off.step()]
    over = {result.trial for result in before if ended(result)}
    assert set(broken_off.running) == whole.keys() - over
    again = pack(tmp_path / "again", of_pack(recipes, over))
    assert set(again.running) == whole.keys() - over
    results = told(again)
    assert results.keys() == whole.keys() - over
    for trial, of_head in results.items():
        assert list(map(plain, of_head)) == list(map(plain, whole[trial]))
    there, here = saved(tmp_path / "whole"), saved(tmp_path / "again")
    assert there.keys() == here.keys()
    for trial, path in there.items():
        one, other = load_tensors(path)[0], load_tensors(here[trial])[0]
        assert all(torch.equal(other[name], tensor) for name, tensor in one.items())


def test_a_pack_whose_last_untold_head_ends_early_is_trained_to_its_end_and_saved(tmp_path, an_epoch_a_step):
    """It was broken off when only a head was left to tell of that ends before others, of which all was told."""
    recipes = heads()
    whole = told(pack(tmp_path / "whole", of_pack(recipes)))
    first = next(trial for trial, of_head in whole.items() if len(of_head) == 1 and trial != "h0000")
    results = told(pack(tmp_path / "again", of_pack(recipes, whole.keys() - {first})))
    assert [list(map(plain, of_head)) for of_head in results.values()] == [list(map(plain, whole[first]))]
    assert saved(tmp_path / "whole").keys() == saved(tmp_path / "again").keys()


@pytest.mark.parametrize("diverging", ["h0000", "h0004"])
def test_a_head_that_diverges_fails_and_the_others_go_on(diverging, tmp_path):
    number = int(diverging[1:])
    recipes = heads((*RATES[:number], ABSURD, *RATES[number + 1 :]), course="constant")
    results = told(pack(tmp_path, of_pack(recipes)))
    (failure,) = results.pop(diverging)
    assert failure.error.startswith("NonFiniteLossError: ")
    assert "try a lower learning rate" in failure.error
    assert not (tmp_path / diverging).exists()
    assert len(results) == 8
    assert sorted(map(len, results.values())) == [1] * 6 + [3] + [9], "a third of the eight that are left"
    assert all(ended(of_head[-1]) for of_head in results.values())


@pytest.mark.parametrize(
    ("epochs", "keep"),
    [pytest.param(4, "best", id="they diverge"), pytest.param(2, "last", id="they become worse and keep that")],
)
def test_the_best_head_is_on_disk_though_others_were_better_when_it_ended(epochs, keep, tmp_path):
    """Three heads explode, by their weight decay, but always say blue first."""
    recipes = heads((BAD, *(1e-4,) * 5), epochs=epochs) + heads(
        (1e4,) * 3, course="constant", weight_decay=1.0, keep=keep, epochs=epochs
    )
    results = told(pack(tmp_path, of_pack(recipes), bench(metric="recall:blue")))
    assert sorted(map(len, results.values())) == [1] * 6 + [epochs] * 3
    ends = {trial: of_head[-1] for trial, of_head in results.items() if not isinstance(of_head[-1], Failed)}
    best = max(ends, key=lambda trial: Rules((1,), metric="val_recall:blue").order(ends[trial].best))
    assert best not in ("h0000", "h0006", "h0007", "h0008")
    assert (tmp_path / best / "best.safetensors").exists()


def test_of_equal_heads_the_one_that_the_search_takes_for_the_best_is_on_disk(tmp_path):
    """At first a head says red: what it learns of the training images is bad for validation images that are red."""
    table = bench(metric="recall:green")
    labels = np.array([0, 1, *[2] * 10])
    table.dataset = dataclasses.replace(table.dataset, val=dataclasses.replace(table.dataset.val, labels=labels))
    rates = (5e-4, 2e-4, 3e-4, 4e-4, 6e-4, 7e-4, 8e-4, 9e-4)
    results = told(pack(tmp_path, of_pack(heads(rates, epochs=1)), table, folds=3))
    ends = {trial: of_head[-1].best for trial, of_head in results.items()}
    assert len({row["cv_recall:green"] for row in ends.values()}) == 1
    best = max(ends, key=lambda trial: Rules((1,), metric="val_recall:green").order(ends[trial]))
    assert (tmp_path / best / "best.safetensors").exists()


def test_a_pack_of_heads_that_all_diverge_ends(tmp_path):
    results = told(pack(tmp_path, of_pack(heads((ABSURD, ABSURD), course="constant"))))
    assert [len(of_head) for of_head in results.values()] == [1, 1]
    assert all(isinstance(of_head[0], Failed) for of_head in results.values())


def test_the_seconds_of_filling_are_shared_by_the_heads_that_waited(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    table = bench(cache=CacheSettings((0,), views=2, dtype="fp32"))
    results = told(pack(tmp_path / "checkpoints", of_pack(heads(strength=0.5)), table))
    rows = [result.row for of_head in results.values() for result in of_head]
    assert table.filled_seconds > 0
    assert sum(row.get("fill_seconds", 0.0) for row in rows) == pytest.approx(table.filled_seconds)
    filled = {row["epoch"]: row["fill_seconds"] for row in rows if "fill_seconds" in row}
    assert sorted(filled) == [1, 2], "there are two views, and the second epoch of the second is read"
    assert all(("fill_seconds" in row) == (row["epoch"] in filled) for row in rows)


# ---- the process around them -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> dict[str, Any]:
    """What an actor opens its bench from."""
    dataset = decoded(tmp_path_factory.mktemp("data"))
    plain = {"backbone": "simple_cnn", "weights": "random", "seed": 0, "precision": "fp32", "metric": "accuracy"}
    return {"dataset": str(dataset.folder), "device": "cpu", **plain}


def actor_of(settings: dict[str, Any], checkpoints: Path, task: Task, folds: int = 0) -> TrialActor:
    about = {"bench": settings, "checkpoints": str(checkpoints), "threads": 1, "heads": HALVING | {"folds": folds}}
    return TrialActor(about | {"task": task})


def test_an_actor_trains_a_pack_and_then_a_trial_from_its_best_head(settings, tmp_path):
    work, results = actor_of(settings, tmp_path, of_pack([TRIAL_HEAD])), []
    while not any(ended(result) for result in results):
        results += work.step()["results"]
    assert work.reset_config({"task": of_trial(0)})
    (result,) = work.step()["results"]
    assert (result.trial, result.row["epoch"]) == ("t0000", 1)
    assert abs(result.handover_delta) <= 1e-4


def test_what_cannot_be_opened_is_a_failure_of_its_trials_and_the_actor_goes_on(settings, tmp_path):
    work = actor_of(settings, tmp_path, of_pack(heads()), folds=20)
    results = work.step()["results"]
    assert [result.trial for result in results] == [f"h{number:04d}" for number in range(9)]
    assert all(result.error.startswith("InputError: 20 folds need 20 training images") for result in results)
    work.reset_config({"task": of_trial(0)})
    (result,) = work.step()["results"]
    assert result.error.startswith("CheckpointError: there is no checkpoint")
    work.reset_config({"task": of_trial(0, parent=None, stage=0)})
    (result,) = work.step()["results"]
    assert result.row["epoch"] == 1


def test_of_a_pack_that_cannot_be_opened_again_only_what_had_not_ended_fails(settings, tmp_path):
    work = actor_of(settings, tmp_path, of_pack(heads(), ended=["h0001", "h0002"]), folds=20)
    trials = [result.trial for result in work.step()["results"]]
    assert trials == [f"h{number:04d}" for number in (0, *range(3, 9))]


def test_a_pack_is_the_first_workers_work(settings, tmp_path):
    about = {"bench": settings, "checkpoints": str(tmp_path), "threads": 1, "heads": HALVING | {"folds": 0}}
    second = Workplace.open(about, Ranks(1, 2))
    second.take(of_pack(heads()))
    assert second.step() == []
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_has_all_of_a_trial_back_before_the_next_is_opened(tmp_path, monkeypatch):
    """Other workers may share it. That there is a GPU is made up; what the trial holds is asked when it is emptied."""
    place, held = Workplace(bench(), tmp_path, {"folds": 0, **HALVING}), []
    place.take(of_trial(0, parent=None, stage=0))
    place.step()
    suffix = weakref.ref(place._work._trainer.suffix)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.append(suffix()))
    place.take(of_trial(0, parent=None, stage=0))
    assert held == [None]


# ---- a whole search for heads, which may be killed after any step ------------------------------------------------

SPACE = """
from ray import tune
from raysearch.space import Search
space = {
    "pooling": tune.choice(["avg", "max"]),
    "schedule": [
        {
            "depth": 0,
            "epochs": 9,
            "batch_size": 8,
            "learning_rate": tune.loguniform(1e-4, 1e-1),
            "dropout": tune.choice([0.0, 0.3]),
            "early_stopping_epochs": tune.choice([1, None]),
        }
    ],
}
default = {"pooling": "avg", "schedule": [{"learning_rate": 1e-3, "dropout": 0.0, "early_stopping_epochs": None}]}
search = Search(heads=14, pack=7, reduction=2, first_rung_epochs=2)
"""


def search(folder: Path, table: Bench, steps: int | None = None, folds: int = 0) -> Run:
    """A new search, or the rest of one that was killed; killed itself after so many steps."""
    (folder.parent / "heads.py").write_text(SPACE)
    fixed = {"backbone": "simple_cnn", "weights": "random", "image_size": 32, "fit": "squash", "seed": 0}
    space = load_space(str(folder.parent / "heads.py"), fixed=fixed)
    rules, search = Rules((9,)), space.search
    halving = {"reduction": search.reduction, "first_rung_epochs": search.first_rung_epochs}
    run = Run.open(folder) if folder.exists() else Run.create(folder, {})
    controller = Controller(rules, OptunaProposer(space, rules, 0, 9))
    controller.replay(run.events())
    driver = Driver(run, controller, 1)
    if not controller.heads_wanted:
        driver.log({"event": "budget", "heads": 14, "trials": 0, "max_epochs": 9})
    drive(driver, workplace(driver, table, folds=folds, **halving), before_step=killed_after(steps))
    driver.close()
    return run


def heads_of(run: Run) -> pd.DataFrame:
    return run.heads.drop(columns=["seconds", "handover_delta"])


def never_killed(folder: Path, folds: int) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack_work, "_STEP_SECONDS", 0.0)
        table = heads_of(search(folder / "run", bench(), folds=folds))
    assert len(table) == 14
    assert set(zip(table["epochs"], table["state"], strict=True)) > {
        (2, "stopped"),
        (4, "stopped"),
        (9, "done"),
    }
    return table


@pytest.fixture(scope="module")
def judged_at_once(tmp_path_factory) -> pd.DataFrame:
    """The heads of a search that is never killed, chosen on the validation images; some end early by themselves."""
    table = never_killed(tmp_path_factory.mktemp("search"), folds=0)
    assert (2, "done") in set(zip(table["epochs"], table["state"], strict=True))
    return table


@pytest.fixture(scope="module")
def judged_in_folds(tmp_path_factory) -> pd.DataFrame:
    """The same, where cross-validation chooses."""
    table = never_killed(tmp_path_factory.mktemp("search"), folds=3)
    assert table["cv_loss"].notna().all()
    return table


@pytest.mark.parametrize("step", [0, 1, 2, 3, 5, 8, 9, 10, 11])
def test_a_search_killed_after_any_step_finds_the_same_heads(step, judged_at_once, tmp_path, an_epoch_a_step):
    assert_goes_on(step, judged_at_once, tmp_path / "run", folds=0)


@pytest.mark.parametrize("step", [2, 9])
def test_so_does_one_that_judges_its_heads_in_folds(step, judged_in_folds, tmp_path, an_epoch_a_step):
    """In the first pack, and in the second."""
    assert_goes_on(step, judged_in_folds, tmp_path / "run", folds=3)


def assert_goes_on(step: int, expected: pd.DataFrame, folder: Path, folds: int) -> None:
    table, figure = bench(), "cv" if folds else "val"
    with pytest.raises(KilledError):
        search(folder, table, steps=step, folds=folds)
    run = search(folder, table, folds=folds)
    pd.testing.assert_frame_equal(heads_of(run), expected, check_exact=True)
    ranked = expected.sort_values([f"{figure}_accuracy", f"{figure}_loss"], ascending=[False, True])
    assert (run.folder / "checkpoints" / ranked["trial"].iloc[0] / "best.safetensors").exists()


# ---- trials ------------------------------------------------------------------------------------------------------

TRIAL = recipe(
    schedule=(
        Stage(depth=0, epochs=2, batch_size=8, learning_rate=0.01),
        Stage(depth=2, epochs=6, batch_size=8, learning_rate=0.003, batch_norm="train", dropout=0.2, strength=0.5),
    )
)


TRIAL_HEAD = TRIAL.model_copy(update={"schedule": TRIAL.schedule[:1]})


def of_trial(from_epoch: int, to_epoch: int = 6, **changes: Any) -> Segment:
    segment = Segment("t0000.1", "t0000", TRIAL, 1, from_epoch, to_epoch, parent="h0000", ended_rate=1e-3)
    return dataclasses.replace(segment, **changes)


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Path:
    """A folder of checkpoints with the head that trials start from, trained in a pack."""
    folder = tmp_path_factory.mktemp("parent")
    told(pack(folder, of_pack([TRIAL_HEAD])))
    return folder


@pytest.fixture
def checkpoints(parent, tmp_path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(parent, tmp_path / "checkpoints"))


def lines(work: StageWork, steps: int = 10**9) -> list[Trained]:
    """What a segment says, without seconds: of so many steps, or to its end."""
    results: list[Trained] = []
    while len(results) < steps and not (results and results[-1].finished):
        (result,) = work.step()
        results.append(plain(result))
    return results


@pytest.fixture(scope="module")
def unbroken(parent, tmp_path_factory) -> tuple[list[Trained], dict[str, torch.Tensor]]:
    """What a trial says that is never stopped, and its best tensors."""
    folder = Path(shutil.copytree(parent, tmp_path_factory.mktemp("unbroken") / "checkpoints"))
    results = lines(StageWork(bench(), folder, of_trial(0)))
    assert [result.row["epoch"] for result in results] == [1, 2, 3, 4, 5, 6]
    return results, load_tensors(folder / "t0000" / "best.safetensors")[0]


def assert_same_tensors(checkpoints: Path, expected: dict[str, torch.Tensor]) -> None:
    found, _ = load_tensors(checkpoints / "t0000" / "best.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_trial_starts_from_its_parents_tensors_and_says_so_once(unbroken):
    deltas = [result.handover_delta for result in unbroken[0]]
    assert abs(deltas[0]) <= 1e-4
    assert deltas[1:] == [None] * 5


def test_a_trial_stopped_after_every_epoch_goes_on_as_if_it_never_was(checkpoints, unbroken):
    results = []
    for epoch in range(6):
        results += lines(StageWork(bench(), checkpoints, of_trial(epoch, epoch + 1)), steps=1)
    assert results == unbroken[0]
    assert_same_tensors(checkpoints, unbroken[1])


@pytest.mark.parametrize("epoch", [1, 2, 3, 5])
def test_a_kill_between_the_best_tensors_and_the_checkpoint_loses_nothing(epoch, checkpoints, unbroken):
    work, last = StageWork(bench(), checkpoints, of_trial(0)), checkpoints / "t0000" / "last.pt"
    lines(work, steps=epoch - 1)
    kept = last.read_bytes() if last.exists() else None
    lines(work, steps=1)
    if kept is None:
        last.unlink()
    else:
        last.write_bytes(kept)
    again = lines(StageWork(bench(), checkpoints, of_trial(epoch - 1)))
    assert again == unbroken[0][epoch - 1 :]
    assert_same_tensors(checkpoints, unbroken[1])


def test_epochs_that_the_checkpoint_has_and_the_log_has_not_are_told_not_trained(checkpoints, unbroken):
    lines(StageWork(bench(), checkpoints, of_trial(0)), steps=4)
    last = checkpoints / "t0000" / "last.pt"
    kept = last.read_bytes()
    work = StageWork(bench(), checkpoints, of_trial(0))
    for expected in unbroken[0][:4]:
        (result,) = work.step()
        assert timeless(result.row) == expected.row
        assert result.handover_delta == expected.handover_delta
        assert not result.finished
    assert last.read_bytes() == kept
    assert lines(work) == unbroken[0][4:]


def test_a_trial_whose_checkpoint_is_gone_starts_again(checkpoints, unbroken, caplog):
    lines(StageWork(bench(), checkpoints, of_trial(0)), steps=2)
    (checkpoints / "t0000" / "last.pt").unlink()
    assert lines(StageWork(bench(), checkpoints, of_trial(2))) == unbroken[0]
    assert "t0000 has no checkpoint: it starts again at its first epoch" in caplog.text


def test_a_checkpoint_of_another_recipe_is_passed_over(checkpoints, unbroken, caplog):
    """A search that goes on from an older log may draw another recipe for a trial that has left a checkpoint."""
    stage = TRIAL.schedule[1].model_copy(update={"dropout": 0.1})
    other = TRIAL.model_copy(update={"schedule": (TRIAL.schedule[0], stage)})
    lines(StageWork(bench(), checkpoints, of_trial(0, recipe=other)), steps=3)
    assert lines(StageWork(bench(), checkpoints, of_trial(0))) == unbroken[0]
    assert "t0000 has a checkpoint of another recipe" in caplog.text


def test_a_checkpoint_from_when_recipes_had_fewer_fields_is_gone_on_with(checkpoints, unbroken):
    lines(StageWork(bench(), checkpoints, of_trial(0)), steps=3)
    last = checkpoints / "t0000" / "last.pt"
    saved = load_checkpoint(last)
    assert saved["recipe"].pop("fit") == TRIAL.fit
    save_checkpoint(last, saved)
    assert lines(StageWork(bench(), checkpoints, of_trial(3))) == unbroken[0][3:]


def test_a_trial_without_a_parent_starts_from_the_weights_alone(tmp_path):
    results = lines(StageWork(bench(), tmp_path, of_trial(0, parent=None, stage=0)))
    trainer = open_stage(bench(), TRIAL, 0)
    assert [result.row for result in results] == [timeless(trainer.run_epoch()) for _ in range(2)]
    assert {result.handover_delta for result in results} == {None}


def by_one_of_two(ranks: Ranks, folder: Path) -> tuple[list[Trained], list[str]]:
    """What one of two workers says of a trial, and the files that it writes, in a folder of its own."""
    own = folder / str(ranks.rank)
    results = lines(StageWork(bench(ranks=ranks), own, of_trial(0, parent=None, stage=0)))
    return results, sorted(path.name for path in own.rglob("*.*"))


def test_of_two_workers_both_know_what_came_of_a_trial_and_the_first_writes_it(tmp_path):
    (first, written), (second, nothing) = together(2, by_one_of_two, tmp_path)
    assert first == second
    assert [result.row["epoch"] for result in first] == [1, 2]
    assert (written, nothing) == (["best.safetensors", "last.pt"], [])
    (told,) = StageWork(bench(), tmp_path / "0", of_trial(1, parent=None, stage=0)).step()
    assert plain(told) == first[1], "the search may go on with one worker"


# ---- storage that refuses ----------------------------------------------------------------------------------------


@pytest.fixture
def _without_pauses(monkeypatch):
    monkeypatch.setattr(work, "PAUSE_SECONDS", 0.0)


@pytest.mark.usefixtures("_without_pauses")
def test_a_trial_whose_checkpoint_is_refused_keeps_its_epoch_until_it_is_taken(checkpoints, unbroken):
    work = StageWork(bench(), checkpoints, of_trial(0))
    results = lines(work, steps=2)
    with full_disk(1000):
        for _ in range(2):
            (refused,) = work.step()
            assert refused.trial == "t0000"
            assert "too large" in refused.error
    results += lines(work)
    assert results == unbroken[0], "nothing was trained twice, or past what is saved"
    assert_same_tensors(checkpoints, unbroken[1])


@pytest.mark.usefixtures("_without_pauses")
def test_a_pack_whose_best_is_refused_tells_of_no_end_until_it_is_taken(tmp_path):
    work = pack(tmp_path, of_pack(heads()))
    results = []
    with full_disk(100):
        while not isinstance((step := work.step())[0], Unsaved):
            results += step
        assert {one.trial for one in work.step()} == set(work.running), "of all that is not told"
    results += work.step()
    assert not work.running
    expected = told(pack(tmp_path / "other", of_pack(heads())))
    assert {one.trial for one in results if ended(one)} == set(expected)
    assert sum(map(len, expected.values())) == len(results)
    assert set(saved(tmp_path)) >= {"h0000"}


@pytest.mark.usefixtures("_without_pauses")
def test_an_actor_that_cannot_open_its_segment_for_want_of_room_tries_again(settings, tmp_path):
    worker, results = actor_of(settings, tmp_path, of_pack([TRIAL_HEAD])), []
    while not any(ended(result) for result in results):
        results += worker.step()["results"]
    worker.reset_config({"task": of_trial(0)})
    (tmp_path / "t0000").write_text("in the way of the folder")
    (refused,) = worker.step()["results"]
    assert isinstance(refused, Unsaved)
    (tmp_path / "t0000").unlink()
    (result,) = worker.step()["results"]
    assert result.row["epoch"] == 1


# ---- range tests -------------------------------------------------------------------------------------------------


def test_a_range_test_says_what_it_found_at_each_depth(checkpoints):
    schedules = {str(depth): (TRIAL.schedule[0], Stage(depth=depth, epochs=2, batch_size=8)) for depth in (1, 2)}
    recipes = {depth: TRIAL.model_copy(update={"schedule": schedule}) for depth, schedule in schedules.items()}
    (result,) = RangeTestWork(bench(), checkpoints, RateTest("h0000", stage=1, recipes=recipes)).step()
    assert set(result.depths) == {"1", "2"}
    assert all(0 < one["low"] < one["high"] for one in result.depths.values())
