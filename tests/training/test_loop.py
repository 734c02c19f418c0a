"""The loop: its numbers, what it leaves alone, what it does when something goes wrong, and which epoch is the best."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from raysearch.recipe import Stage
from raysearch.training.epoch import NonFiniteLossError
from raysearch.training.metrics import classification_metrics
from raysearch.training.optimizer import is_weight
from tests.networks import spec_of
from tests.training.tiny import CLASSES, InMemory, images, limited, run, suffix, timeless, trainer


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tensors(training) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in training.suffix.state_dict().items()}


def test_golden_losses_of_a_few_epochs():
    """Recorded once (torch 2.14, one thread); a change here changes every run that anybody has made."""
    rows = run(trainer(Stage(depth=1, epochs=3, batch_size=8, learning_rate=0.02, class_weights={"owl": 2.0}, l1=1e-3)))
    assert [row["train_loss"] for row in rows] == pytest.approx(GOLDEN_TRAIN, rel=1e-4)
    assert [row["val_loss"] for row in rows] == pytest.approx(GOLDEN_VAL, rel=1e-4)


GOLDEN_TRAIN = [1.06499482, 0.95433308, 0.84565975]
GOLDEN_VAL = [1.01429692, 0.87616511, 0.84409854]


@pytest.mark.parametrize("course", ["constant", "one_cycle"])
def test_is_a_plain_loop_written_out(course):
    """The reference: torch's AdamW, torch's own mean of the weighted loss, L2 by hand, no accumulation."""
    stage = Stage(
        depth=1, epochs=1, batch_size=13, course=course, learning_rate=0.02, class_weights="balanced", l2=0.01,
        label_smoothing=0.1, weight_decay=0.1,
    )  # fmt: skip
    ours = trainer(stage, wobble=0)
    network, weights = suffix().train(), ours.loss.weights
    network.block2.norm.eval()
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": plain, "weight_decay": 0.0}], weight_decay=0.1)
    order = np.random.default_rng([0, 0]).permutation(26)
    for step in range(2):
        rate = 0.02
        if course == "one_cycle":  # at 0.25 and at 0.75 of the stage, the peak being at 0.3
            rise = 0.02 / 25 + 0.02 * (1 - 1 / 25) * (1 - math.cos(math.pi * 0.25 / 0.3)) / 2
            rate = (rise, 0.02 * (1 + math.cos(math.pi * 0.45 / 0.7)) / 2)[step]
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = order[13 * step : 13 * (step + 1)]
        inputs, target = torch.from_numpy(ours.images.train.activations.values[chosen]), ours.train_labels[chosen]
        loss = functional.cross_entropy(network(inputs), target, weights, label_smoothing=0.1)
        optimizer.zero_grad()
        (loss + 0.01 / 2 * sum(p.square().sum() for p in decayed)).backward()
        optimizer.step()
    ours.run_epoch()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(ours.suffix.state_dict()[name], tensor, rtol=1e-4, atol=2e-6, msg=name)


def test_the_row_says_everything_once():
    row = trainer().run_epoch()
    assert list(row)[:4] == ["epoch", "lr", "train_loss", "train_accuracy"]
    assert {"val_loss", "val_accuracy", "val_macro_f1", "micro_batch", "seconds"} <= row.keys()
    assert {f"val_{kind}:{name}" for kind in ("recall", "precision", "f1") for name in CLASSES} <= row.keys()
    assert all(type(value) in (int, float) for value in row.values())
    assert (row["epoch"], row["micro_batch"]) == (1, 8)


def test_learns_what_can_be_learned():
    rows = run(trainer(Stage(depth=1, epochs=12, batch_size=4, learning_rate=0.05)))
    assert rows[-1]["val_accuracy"] >= 0.8 > rows[0]["val_accuracy"] or rows[0]["val_accuracy"] >= 0.8
    assert rows[-1]["val_loss"] < rows[0]["val_loss"]


def test_frozen_batch_norm_keeps_its_statistics_bit_for_bit_and_learns_its_affine():
    training = trainer(Stage(depth=1, epochs=2, batch_norm="frozen", batch_size=8))
    before = tensors(training)
    run(training)
    after = tensors(training)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(before[f"block2.norm.{name}"], after[f"block2.norm.{name}"]), name
    for name in ("weight", "bias"):
        assert not torch.equal(before[f"block2.norm.{name}"], after[f"block2.norm.{name}"]), name


def test_trained_batch_norm_moves_its_statistics():
    training = trainer(Stage(depth=1, epochs=1, batch_norm="train", batch_size=8))
    before = tensors(training)
    training.run_epoch()
    assert not torch.equal(before["block2.norm.running_mean"], tensors(training)["block2.norm.running_mean"])
    assert int(tensors(training)["block2.norm.num_batches_tracked"]) == 4


def test_tensors_without_gradient_are_bit_identical_afterwards():
    network = suffix()
    network.block2.conv.requires_grad_(False)
    training = trainer(suffix=network)
    before = tensors(training)
    run(training)
    assert torch.equal(before["block2.conv.weight"], tensors(training)["block2.conv.weight"])


def test_weight_decay_shrinks_weights_only():
    small, large = (
        trainer(Stage(depth=1, epochs=1, batch_size=26, course="constant", weight_decay=decay), wobble=0)
        for decay in (0.0, 100.0)
    )
    before = tensors(small)
    small.run_epoch()
    large.run_epoch()
    for name, undecayed in tensors(small).items():
        shrunk = undecayed - 0.1 * before[name] if before[name].ndim > 1 else undecayed
        torch.testing.assert_close(tensors(large)[name], shrunk, msg=name)


def test_order_and_dropout_come_from_seed_and_epoch_and_leave_the_process_alone():
    stage = Stage(depth=1, epochs=3, batch_size=8, dropout=0.5)
    torch.manual_seed(1)
    first = run(trainer(stage))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert run(trainer(stage)) == first
    assert run(trainer(stage, seed=1)) != first
    assert run(trainer(stage, view_offset=3)) != first
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_each_epoch_sees_the_next_view_and_validation_the_first():
    training = trainer(Stage(depth=1, epochs=2, batch_size=26), view_offset=5)
    run(training)
    assert training.images.train.activations.views == [5, 6]
    assert set(training.images.val.activations.views) == {0}


@pytest.mark.parametrize("mixing", ["none", "mixup", "cutmix"])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_out_of_memory_halves_the_batch_and_keeps_the_step(weights, mixing, caplog):
    """Accumulated gradients are the unsplit ones: the loss is normalised by the weights of the whole batch."""
    stage = Stage(
        depth=1, epochs=2, batch_size=13, class_weights=weights, label_smoothing=0.1, l1=0.01, mixing=mixing,
        mixing_rate=1.0,
    )  # fmt: skip
    small, whole = trainer(stage, suffix=limited(4)), trainer(stage)
    rows, expected = run(small), run(whole)
    assert [row["micro_batch"] for row in rows] == [4, 4] != [row["micro_batch"] for row in expected]
    assert "out of memory" in caplog.text
    for row, unsplit in zip(rows, expected, strict=True):
        assert row["train_loss"] == pytest.approx(unsplit["train_loss"], rel=1e-4)
        assert row["val_loss"] == pytest.approx(unsplit["val_loss"], rel=1e-3)


def test_out_of_memory_with_a_single_image_is_raised():
    with pytest.raises(torch.OutOfMemoryError):
        trainer(suffix=limited(0)).run_epoch()


def test_batch_statistics_are_never_of_one_image():
    """25 images in batches of 8 leave one over, which batch statistics cannot be made of."""
    train, stage = images(25, 1)[0], Stage(depth=1, epochs=1, batch_size=8, batch_norm="train")
    network = nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), norm=nn.BatchNorm2d(3), flat=nn.Flatten()))
    training = trainer(stage, suffix=network, train=InMemory(train))
    assert math.isfinite(training.run_epoch()["train_loss"])


def test_a_loss_that_is_not_finite_names_its_step():
    train, stage = images(26, 1)[0], Stage(depth=1, epochs=3, batch_size=8)
    bad = np.random.default_rng([0, 0]).permutation(26)[17]  # seen in the third step of the first epoch
    train[bad] = np.inf
    with pytest.raises(NonFiniteLossError, match="step 3 of epoch 1") as caught:
        trainer(stage, train=InMemory(train)).run_epoch()
    assert (caught.value.step, caught.value.epoch, caught.value.split) == (3, 1, "training")


def test_a_validation_loss_that_is_not_finite_fails_too():
    val = images(15, 2)[0]
    val[3] = np.nan
    with pytest.raises(NonFiniteLossError, match="validation loss is nan after step 4 of epoch 1"):
        trainer(val=InMemory(val)).run_epoch()


def test_the_best_epoch_is_by_the_metric_then_by_the_loss_and_its_tensors_are_kept():
    training = trainer(Stage(depth=1, epochs=10, batch_size=8, learning_rate=1.0, course="constant"), metric="macro_f1")
    states, rows = [], []
    while not training.finished:
        rows.append(training.run_epoch())
        states.append(tensors(training))
    best = max(range(10), key=lambda i: (rows[i]["val_macro_f1"], -rows[i]["val_loss"]))
    assert training.best == rows[best]
    assert best != 9, "the last epoch is the best: the test shows nothing"
    for name, tensor in states[best].items():
        assert torch.equal(training.best_state[name], tensor), name
    training.suffix.load_state_dict(training.best_state)
    assert training.evaluate() == {name: value for name, value in rows[best].items() if name.startswith("val_")}


def test_a_lower_loss_breaks_ties_but_does_not_put_off_early_stopping():
    """On few images the accuracy stands still while the loss still falls."""
    stage = Stage(depth=1, epochs=10, batch_size=8, learning_rate=0.5, course="constant", early_stopping_epochs=3)
    rows = run(training := trainer(stage))
    first = max(range(len(rows)), key=lambda i: rows[i]["val_accuracy"])
    tied = [row for row in rows if row["val_accuracy"] == rows[first]["val_accuracy"]]
    assert len(tied) > 1, "there is no tie: the test shows nothing"
    assert timeless(training.best) == min(tied, key=lambda row: row["val_loss"]) != rows[first]
    assert len(rows) == first + 1 + 3


def test_a_stage_may_end_with_its_last_epoch_whatever_the_metric_says():
    stage = Stage(depth=1, epochs=3, batch_size=8, course="constant", learning_rate=3.0, keep="last")  # gets worse
    training = trainer(stage, metric="loss")
    training.evaluate_start()
    rows = run(training)
    assert timeless(training.best) == timeless(rows[-1])
    assert all(torch.equal(training.best_state[name], value) for name, value in tensors(training).items())


def test_the_start_is_a_candidate_once_it_is_evaluated():
    stage = Stage(depth=1, epochs=2, batch_size=8, course="constant", learning_rate=3.0)  # makes everything worse
    training = trainer(stage, metric="loss")
    start = tensors(training)
    row = training.evaluate_start()
    run(training)
    assert training.best == row
    assert row["epoch"] == 0
    assert all(torch.equal(training.best_state[name], start[name]) for name in start)
    with pytest.raises(ValueError, match="2 epochs"):
        training.evaluate_start()


def test_stops_early_and_counts_the_start():
    stage = Stage(depth=1, epochs=30, batch_size=8, course="constant", learning_rate=3.0, early_stopping_epochs=2)
    training = trainer(stage, metric="loss")
    training.evaluate_start()
    assert len(run(training)) == 2


def test_the_plateau_course_drops_the_rate_when_the_loss_stalls():
    stage = Stage(
        depth=1, epochs=8, batch_size=8, course="plateau", learning_rate=1.0, plateau_patience_epochs=0,
        plateau_factor=0.1, min_learning_rate=1e-4,
    )  # fmt: skip
    rows = run(trainer(stage))
    rates = [row["lr"] for row in rows]
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert 1e-4 <= rates[-1] < 1.0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_trains_near_fp32_and_evaluates_in_fp32(precision):
    stage = Stage(depth=1, epochs=4, batch_size=8, learning_rate=0.01)
    training = trainer(stage, precision=precision)
    rows, exact = run(training), run(trainer(stage))
    assert rows[-1]["val_loss"] == pytest.approx(exact[-1]["val_loss"], rel=0.05)
    assert rows[-1]["val_loss"] != exact[-1]["val_loss"]
    with torch.no_grad():
        logits = training.suffix.eval()(training.images.val.activations.batch(np.arange(15), 0))
    assert logits.dtype == torch.float32
    figures = classification_metrics(logits, training.val_labels, CLASSES)
    assert training.evaluate()["val_loss"] == pytest.approx(figures["loss"], rel=1e-6)
    assert timeless(rows[-1])["val_loss"] == pytest.approx(figures["loss"], rel=1e-6)


def test_positions_and_class_tokens_are_no_weights_that_decay():
    network = spec_of("mini_vit").build_blocks(0)["stem"]
    plain = [name for name, parameter in network.named_parameters() if not is_weight(name, parameter)]
    assert plain == ["tokens.class_token", "tokens.pos_embedding", "tokens.conv_proj.bias"]
    scale = spec_of("mini_convnext").build_blocks(0)["stage1"]
    assert [n for n, p in scale.named_parameters() if p.ndim > 1 and not is_weight(n, p)] == ["0.layer_scale"]


def test_each_block_learns_at_a_fixed_share_of_the_next_ones_rate():
    """AdamW's first step moves a weight by the learning rate, whatever its gradient."""
    network = nn.Sequential(OrderedDict(block1=nn.Conv2d(3, 3, 1), **dict(suffix().named_children())))
    stage = Stage(
        depth=2, epochs=1, batch_size=26, course="constant", learning_rate=1e-3, weight_decay=0.0, layer_decay=0.5
    )
    training = trainer(stage, suffix=network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    training.run_epoch()
    moved = {name: (tensor - before[name]).abs().max().item() for name, tensor in network.state_dict().items()}
    for name, share in (("head.linear.weight", 1.0), ("block2.conv.weight", 0.5), ("block1.weight", 0.25)):
        assert moved[name] == pytest.approx(1e-3 * share, rel=0.01), name
