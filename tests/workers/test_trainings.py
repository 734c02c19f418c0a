"""Trainings after a search: through Ray Train, what is left when its job is lost; and the board that they stand on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ray.exceptions import RayActorError
from ray.train import PreemptionError, TrainingFailedError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from raysearch.recipe import Recipe, Stage
from raysearch.record.folder import BEST
from raysearch.storage.remote import Storage
from raysearch.training.checkpoint import load_tensors, save_tensors
from raysearch.workers import training_job
from raysearch.workers.board import Board
from raysearch.workers.capacity import Cluster
from raysearch.workers.order import Training
from raysearch.workers.session import ray_session
from raysearch.workers.training_job import train_all, train_one
from raysearch.workers.trainings import Backlog
from tests.training.bench import bench

RECIPE = Recipe(backbone="simple_cnn", weights="random", image_size=32, schedule=(Stage(depth=0, epochs=1),))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # Ray Train sets Ray Data's own defaults
def test_a_job_that_is_lost_costs_what_it_had_not_trained(tmp_path):
    """Once is too often here; that it is started again where it may be is tested with `test_final_training`."""
    trained, untrained = (
        Training(f"refit-t0001-{seed}", "t0001", RECIPE.model_copy(update={"seed": seed}), seed, "train")
        for seed in (1000, 1001)
    )
    row = {"epoch": 1, "val_loss": 0.5}
    save_tensors(tmp_path / "checkpoints" / trained.name / BEST, {"bias": torch.ones(3)}, {"row": row, "seconds": 2.0})
    gone = tmp_path / "gone"  # every worker fails over it, as it would on a machine that loses its disk
    told = {"dataset": str(gone), "backbone": "simple_cnn", "weights": "random", "seed": 0, "device": "cpu"}
    told |= {"precision": "fp32", "metric": "accuracy"}
    took, lost = [], []
    with ray_session(None, cpus=2):
        found = train_all(
            tmp_path,
            told,
            lambda done: [trained, untrained],
            workers=2,
            gpus=0.0,
            max_failures=0,
            took=took.append,
            lost=lost.append,
        )
    assert (found[trained.name].seconds, found[trained.name].row) == (2.0, row)
    assert torch.equal(found[trained.name].suffix()["bias"], torch.ones(3))
    assert str(gone) in found[untrained.name].error
    assert [outcome.training.name for outcome in took] == [trained.name, untrained.name]
    assert lost == []


@pytest.mark.parametrize("error", [RuntimeError("diverged"), ValueError("nothing to concatenate")])
def test_a_training_that_breaks_off_says_why_and_costs_no_other(tmp_path, monkeypatch, error):
    def breaks_off(*arguments, **keywords):
        raise error

    monkeypatch.setattr(training_job, "train_recipe", breaks_off)
    left = train_one(bench(), ONE, tmp_path / ONE.name, 0)
    assert left.read_text(encoding="utf-8") == f"{type(error).__name__}: {error}"


def backlog_on(tmp_path, *trainings: Training) -> tuple[Backlog, Storage, Path]:
    """A backlog with a storage, and where the first training's tensors come to lie on this machine."""
    (tmp_path / "bucket").mkdir(exist_ok=True)
    storage = Storage((tmp_path / "bucket" / "run").as_uri())
    backlog = Backlog(tmp_path / "checkpoints", lambda done: trainings, lambda *_: None, lambda outcome: None, storage)
    return backlog, storage, backlog.checkpoints / trainings[0].name / BEST


ONE = Training("refit-t0001-1000", "t0001", RECIPE, 1000, "train")
ABOUT = {"row": {"epoch": 1, "val_loss": 0.5}, "seconds": 2.0}


def test_a_training_is_done_when_its_tensors_are_where_every_machine_can_have_them(tmp_path):
    """Else a student may be given to a machine that has not its teachers."""
    backlog, storage, file = backlog_on(tmp_path, ONE)
    assert backlog.to_give() == [ONE]
    assert backlog.to_give() == []
    save_tensors(file, {"bias": torch.ones(3)}, ABOUT)  # its worker has still to hand it over
    backlog.look()
    assert backlog.missing() == [ONE]
    storage.put(file, f"checkpoints/{ONE.name}/{BEST}")
    assert backlog.missing() == []
    assert backlog.done[ONE.name].seconds == 2.0


@pytest.mark.parametrize("given", [False, True])
def test_what_a_job_that_is_gone_left_here_alone_is_handed_over_and_not_trained_again(tmp_path, given):
    backlog, storage, file = backlog_on(tmp_path, ONE)
    if given:
        assert backlog.to_give() == [ONE]
    save_tensors(file, {"bias": torch.ones(3)}, ABOUT)
    backlog.take_back()
    assert backlog.missing() == []
    assert storage.exists(f"checkpoints/{ONE.name}/{BEST}")


def without_storage(tmp_path, training: Training) -> Backlog:
    return Backlog(tmp_path / "checkpoints", lambda done: [training], lambda *_: None, lambda outcome: None, None)


def test_what_was_trained_is_known_by_its_recipe_and_its_teachers_too(tmp_path):
    train_one(bench(), ONE, tmp_path / "checkpoints" / ONE.name, 0)
    assert without_storage(tmp_path, ONE).missing() == []
    longer = replace(ONE, recipe=RECIPE.model_copy(update={"schedule": (Stage(depth=0, epochs=2),)}))
    for changed in (longer, replace(ONE, teachers=("refit-t0001-1001",))):
        train_one(bench(), ONE, tmp_path / "checkpoints" / ONE.name, 0)
        assert without_storage(tmp_path, changed).missing() == [changed]


def test_tensors_of_a_version_that_kept_no_digest_are_taken_as_they_are(tmp_path):
    save_tensors(tmp_path / "checkpoints" / ONE.name / BEST, {"bias": torch.ones(3)}, ABOUT)
    assert without_storage(tmp_path, ONE).missing() == []


def test_tensors_of_another_recipe_are_not_brought_again_and_again(tmp_path):
    """They would take the place of those that a worker has just left here, and has still to hand over."""
    backlog, storage, file = backlog_on(tmp_path, ONE)
    save_tensors(file, {"bias": torch.ones(3)}, {**ABOUT, "training": "of another"})
    storage.put(file, f"checkpoints/{ONE.name}/{BEST}")
    assert backlog.to_give() == [ONE]
    train_one(bench(), ONE, file.parent, 0)
    backlog.look()
    assert load_tensors(file)[1]["training"] == ONE.digest


def test_a_digest_stays_what_it_was_in_earlier_versions():
    """Else a run that is resumed would train all of it again."""
    assert ONE.digest == "ce9933410dfe43ab0b3b908ca8532467f590e7d372b967a616dd68cab34ed7c0"


def test_a_digest_knows_what_differs_from_the_defaults_and_no_more():
    assert ONE.digest == replace(ONE, name="refit-t0007-1000", trial="t0007").digest
    assert len({ONE.digest, replace(ONE, on="train+val").digest, replace(ONE, fold=(0, 2)).digest}) == 3
    said = RECIPE.model_copy(update={"schedule": (Stage(depth=0, epochs=1, dropout=0.0),)})
    assert replace(ONE, recipe=said).digest == ONE.digest


def gone(error: RayActorError) -> WorkerGroupError:
    """What Ray Train says where a worker is gone."""
    return WorkerGroupError("worker 0", {0: WorkerHealthCheckFailedError("rank 0", error)})


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (gone(RayActorError(preempted=True)), False),
        (PreemptionError(SimpleNamespace(preempted_ranks=[0])), False),
        (gone(RayActorError(error_msg="the worker was killed")), True),
        (WorkerGroupError("worker 0", {0: RuntimeError("no room")}), True),
        (TrainingFailedError("worker 0"), True),
    ],
)
def test_a_job_that_loses_its_machine_is_no_failure(tmp_path, monkeypatch, error, failed):
    left, lost = [2], []

    def job(backlog, *arguments):
        if left[0]:
            left[0] -= 1
            raise error
        save_tensors(backlog.checkpoints / ONE.name / BEST, {"bias": torch.ones(3)}, ABOUT)

    monkeypatch.setattr(training_job, "_job", job)
    monkeypatch.setattr(training_job, "look_at_cluster", lambda: Cluster(({"CPU": 1.0},)))
    found = train_all(tmp_path, {}, lambda done: [ONE], workers=1, gpus=0.0, max_failures=0, lost=lost.append)
    assert (found[ONE.name].error is not None) == failed
    assert lost == ([] if failed else ["its machine was lost"] * 2)


def test_a_board_gives_each_order_once_and_ends_who_waits():
    async def scene() -> tuple[list[str | None], list[str | None]]:
        board: Board[str] = Board()
        waiting = asyncio.ensure_future(board.take())
        await asyncio.sleep(0)
        await board.put(["one", "two", "three"])
        first = [await waiting, await board.take()]
        late = asyncio.ensure_future(board.take())
        await board.close()
        return first, [await late, await board.take(), await board.take()]

    assert asyncio.run(scene()) == (["one", "two"], ["three", None, None])
