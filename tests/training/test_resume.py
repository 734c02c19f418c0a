"""A trainer that went through a file goes on bit for bit as if it had never stopped."""

from __future__ import annotations

import pytest
import torch

from raysearch.recipe import Stage
from raysearch.training.checkpoint import load_checkpoint, save_checkpoint
from raysearch.training.loop import Trainer
from tests.training.tiny import run, timeless, trainer

EVERYTHING = {
    "depth": 1,
    "epochs": 6,
    "batch_size": 8,
    "learning_rate": 0.1,
    "dropout": 0.4,
    "class_weights": 0.5,
    "label_smoothing": 0.1,
    "l1": 1e-3,
    "l2": 1e-3,
    "warmup_epochs": 0.5,
    "plateau_patience_epochs": 0,
    "plateau_factor": 0.3,
    "mixing": "cutmix",
}


def same_end(one: Trainer, other: Trainer) -> None:
    assert timeless(one.best) == timeless(other.best)
    assert one.counters == other.counters
    for name in ("suffix", "best_state"):
        left, right = one.state()[name], other.state()[name]
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left), name


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
@pytest.mark.parametrize("course", ["constant", "plateau", "cosine", "one_cycle"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stopping_after_every_epoch_changes_nothing(course, batch_norm, precision, tmp_path):
    stage = Stage(**EVERYTHING, course=course, batch_norm=batch_norm)
    whole = trainer(stage, precision=precision)
    expected = run(whole)
    rows, stopped = [], trainer(stage, precision=precision)
    while not stopped.finished:
        rows.append(timeless(stopped.run_epoch()))
        save_checkpoint(tmp_path / "last.pt", stopped.state())
        torch.manual_seed(len(rows))  # whatever another process would have drawn
        stopped = trainer(stage, precision=precision)
        stopped.load_state(load_checkpoint(tmp_path / "last.pt"))
    assert rows == expected
    same_end(stopped, whole)


def test_fp16_keeps_its_loss_scale(tmp_path):
    stage = Stage(depth=1, epochs=3, batch_size=8)
    whole = trainer(stage, precision="fp16")
    expected = run(whole)
    first, second = trainer(stage, precision="fp16"), trainer(stage, precision="fp16")
    rows = [timeless(first.run_epoch())]
    second.load_state(first.state())
    assert rows + run(second) == expected


def test_early_stopping_remembers_how_long_it_has_waited():
    stage = Stage(
        depth=1, epochs=30, batch_size=8, course="constant", learning_rate=2.0, early_stopping_epochs=3, dropout=0.3
    )
    whole = trainer(stage)
    whole.evaluate_start()
    expected = run(whole)
    assert len(expected) < 30
    rows, stopped = [], trainer(stage)
    stopped.evaluate_start()
    while not stopped.finished:
        state, stopped = stopped.state(), trainer(stage)
        stopped.load_state(state)
        rows.append(timeless(stopped.run_epoch()))
    assert rows == expected
    same_end(stopped, whole)


def test_a_state_is_a_copy_that_training_on_does_not_touch():
    training = trainer()
    training.run_epoch()
    state = training.state()
    kept = {name: tensor.clone() for name, tensor in state["suffix"].items()}
    second = trainer()
    second.load_state(state)
    training.run_epoch()
    second.run_epoch()
    assert all(torch.equal(state["suffix"][name], kept[name]) for name in kept)
    again = trainer()
    again.load_state(state)
    assert timeless(again.run_epoch())["epoch"] == 2


def test_the_micro_batch_that_memory_allowed_is_remembered():
    training = trainer()
    training.counters.micro_batch = 4
    second = trainer()
    second.load_state(training.state())
    assert second.run_epoch()["micro_batch"] == 4


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stage": Stage(depth=1, epochs=9, batch_size=8)}, "stage.epochs was 4, is 9"),
        ({"seed": 7}, "seed was 0, is 7"),
        ({"metric": "loss"}, "metric was accuracy, is loss"),
        ({"classes": ("cat", "owl", "dog")}, "classes was"),
    ],
)
def test_the_state_of_another_training_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        trainer(**changes).load_state(trainer().state())


def test_a_machine_with_another_precision_can_go_on():
    for here, there in (("fp16", "fp32"), ("fp32", "fp16"), ("bf16", "fp32")):
        training = trainer(precision=here)
        training.run_epoch()
        second = trainer(precision=there)
        second.load_state(training.state())
        assert second.run_epoch()["epoch"] == 2
