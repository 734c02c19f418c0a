"""The hand-over gate lets an honest stage through, and names each way in which stacking goes wrong."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from raysearch.models import boundary
from raysearch.models.weights import load_weights
from raysearch.recipe import Stage
from raysearch.training.checkpoint import best_metadata, load_tensors, save_tensors
from raysearch.training.handover import HandoverError, batch_statistics, check_handover
from raysearch.training.signature import differences
from raysearch.training.stage import open_stage
from tests.training.bench import bench, handed_over, recipe, trained


def test_every_stage_begins_where_the_one_before_ended(tmp_path):
    """Hands over through files, as the search does it; from the head to the whole backbone."""
    plan, table, start = recipe(depths=(0, 1, 1, 2, 3)), bench(), {}
    for index in range(5):
        trainer = trained(table, plan, index, **start)
        if index:
            assert abs(trainer.handover_delta) < 1e-5
        save_tensors(tmp_path / "best.safetensors", trainer.best_state, best_metadata(trainer))
        tensors, says = load_tensors(tmp_path / "best.safetensors")
        start = {"start": tensors, "expected_loss": says["val_loss"], "expected_signature": says["signature"]}


def test_statistics_moved_by_the_stage_before_are_handed_over_too():
    stage = {"epochs": 2, "batch_size": 8, "batch_norm": "train"}
    plan = recipe(schedule=(Stage(depth=1, **stage), Stage(depth=2, **stage)))
    table = bench()
    first = trained(table, plan)
    assert abs(open_stage(table, plan, 1, **handed_over(first)).handover_delta) < 1e-5


def test_the_start_is_the_best_until_an_epoch_is_better():
    table, plan = bench(), recipe()
    head = trained(table, plan)
    trainer = open_stage(table, plan, 1, **handed_over(head))
    assert trainer.best["epoch"] == 0
    assert trainer.best["val_accuracy"] == head.best["val_accuracy"]


def plant_pooling(table, plan, start):
    return table, plan.model_copy(update={"pooling": "max"}), start


def plant_wider_pooling(table, plan, start):
    return table, plan.model_copy(update={"pooling": "both"}), start


def plant_permuted_labels(table, plan, start):
    val = table.dataset.val
    moved = dataclasses.replace(val, labels=(val.labels + 1) % 3)
    return dataclasses.replace(table, dataset=dataclasses.replace(table.dataset, val=moved)), plan, start


def plant_permuted_classes(table, plan, start):
    dataset = dataclasses.replace(table.dataset, classes=("red", "green", "blue"))
    return dataclasses.replace(table, dataset=dataset), plan, start


def plant_other_weights(table, plan, start):
    return dataclasses.replace(table, weights=load_weights("simple_cnn", "random", 1)), plan, start


def plant_missing_tensor(table, plan, start):
    return table, plan, start | {"start": {n: t for n, t in start["start"].items() if n != "head.linear.bias"}}


def plant_unexpected_tensor(table, plan, start):
    return table, plan, start | {"start": start["start"] | {"head.extra.weight": torch.zeros(3)}}


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (plant_pooling, 'pooling: was "avg", is "max"'),
        (plant_wider_pooling, "tensors of another shape: head.linear.weight"),
        (plant_wider_pooling, 'pooling: was "avg", is "both"'),
        (plant_permuted_labels, "label order: digest of the validation labels"),
        (
            plant_permuted_classes,
            r'label order: classes: was \["blue", "green", "red"\], is \["red", "green", "blue"\]',
        ),
        (plant_other_weights, "base weights"),
        (plant_missing_tensor, "tensors missing from what was handed over: head.linear.bias"),
        (plant_unexpected_tensor, "unexpected tensors, which this stage does not train: head.extra.weight"),
    ],
)
def test_each_planted_fault_is_named(plant, says):
    table, plan = bench(), recipe()
    start = handed_over(trained(table, plan))
    table, plan, start = plant(table, plan, start)
    with pytest.raises(HandoverError, match=says):
        open_stage(table, plan, 1, **start)


def test_other_normalization_is_named(monkeypatch):
    """The head learned on pixels in [0, 1]; the next stage normalises by ImageNet's mean and spread."""
    with monkeypatch.context() as patch:
        patch.setattr(boundary, "IMAGENET_MEAN", (0.0, 0.0, 0.0))
        patch.setattr(boundary, "IMAGENET_STD", (1.0, 1.0, 1.0))
        boundary._scale_and_shift.cache_clear()
        start = handed_over(trained(bench(), recipe()))
    boundary._scale_and_shift.cache_clear()
    with pytest.raises(HandoverError, match="normalization of the pixels") as caught:
        open_stage(bench(), recipe(), 1, **start)
    assert abs(caught.value.delta) > 1e-3


class StuckInTraining(nn.BatchNorm2d):
    """What a framework does that puts its modules back into training mode."""

    def train(self, mode: bool = True) -> StuckInTraining:
        return super().train(True)


@pytest.mark.parametrize("where", ["prefix", "suffix"])
def test_batch_norm_in_training_mode_is_named(where):
    table, plan = bench(), recipe()
    start = handed_over(trained(table, plan))
    trainer = open_stage(table, plan, 1, start["start"])
    part = {"prefix": trainer.images.val.activations._source._prefix, "suffix": trainer.suffix}[where]
    (name, norm), *_ = [(name, m) for name, m in part.named_modules() if isinstance(m, nn.BatchNorm2d)]
    norm.__class__ = StuckInTraining
    norm.train()
    with pytest.raises(HandoverError, match=f"BatchNorm in training mode .*: {name}"):
        check_handover(trainer, start["expected_loss"], prefix=trainer.images.val.activations._source._prefix)


def test_batch_norm_without_statistics_normalises_by_the_batch():
    assert batch_statistics(nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)).eval()) == ["0"]
    assert batch_statistics(nn.Sequential(nn.BatchNorm2d(2)).eval()) == []


def test_a_tensor_that_was_not_loaded_is_named():
    table, plan = bench(), recipe()
    start = handed_over(trained(table, plan))
    trainer = open_stage(table, plan, 1, start["start"])
    with torch.no_grad():
        trainer.suffix.get_parameter("head.linear.bias").add_(0.5)
    with pytest.raises(HandoverError, match="tensors that were not loaded: head.linear.bias"):
        check_handover(trainer, start["expected_loss"], start=start["start"], saved=start["expected_signature"])


def test_a_difference_without_a_recorded_cause_still_fails_with_both_losses():
    table, plan = bench(), recipe()
    start = handed_over(trained(table, plan))
    altered = table.dataset.val.pixels.copy()
    altered[::2] = 255 - altered[::2]
    val = dataclasses.replace(table.dataset.val, pixels=altered)
    table = dataclasses.replace(table, dataset=dataclasses.replace(table.dataset, val=val))
    with pytest.raises(HandoverError, match="nothing that is recorded differs") as caught:
        open_stage(table, plan, 1, **start)
    assert f"{start['expected_loss']:.6g} was saved" in str(caught.value)


def test_without_an_expected_loss_tensors_must_still_fit():
    table, plan = bench(), recipe()
    with pytest.raises(HandoverError, match=r"missing .*: head.linear.weight, head.linear.bias"):
        open_stage(table, plan, 1, {})


def test_a_signature_is_json_and_equals_itself_afterwards():
    saved = open_stage(bench(), recipe(), 0).signature
    assert json.loads(json.dumps(saved)) == saved
    assert differences(saved, open_stage(bench(), recipe(), 2).signature) == []
    assert np.asarray(saved["normalization"]).shape == (2, 3)
