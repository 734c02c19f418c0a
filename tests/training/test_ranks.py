"""Several processes train one suffix as one alone would: the same batches, the same sums, the same decisions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysearch.recipe import Stage
from raysearch.training.epoch import NonFiniteLossError
from raysearch.training.loop import Trainer
from raysearch.training.range_test import sweep_rates
from raysearch.training.ranks import ALONE, Ranks
from raysearch.training.stage import open_stage
from tests.training.bench import bench, recipe
from tests.training.tiny import InMemory, images, limited, run, suffix, timeless, trainer
from tests.training.together import together

STAGES = {
    "a ragged last batch": Stage(depth=1, epochs=3, batch_size=8, learning_rate=0.02),
    "odd batches": Stage(depth=1, epochs=3, batch_size=13, learning_rate=0.02, course="constant"),
    "focal loss": Stage(depth=1, epochs=3, batch_size=7, loss="focal", class_weights="balanced"),
    "class weights": Stage(depth=1, epochs=3, batch_size=7, class_weights={"owl": 5.0}, label_smoothing=0.1),
    "balanced, on a part of the images": Stage(depth=1, epochs=3, batch_size=7, class_weights="balanced", part="2/3"),
    "cutmix": Stage(depth=1, epochs=3, batch_size=7, mixing="cutmix", class_weights={"owl": 5.0}),
    "mixup": Stage(depth=1, epochs=3, batch_size=9, mixing="mixup", mixing_rate=1.0, label_smoothing=0.1),
    "penalties": Stage(depth=1, epochs=3, batch_size=9, l1=0.01, l2=0.02, weight_decay=0.1, layer_decay=0.5),
    "fewer images than ranks in a batch": Stage(depth=1, epochs=2, batch_size=2, learning_rate=0.01),
    "stopped early": Stage(
        depth=1, epochs=30, batch_size=8, course="constant", learning_rate=0.3, early_stopping_epochs=2
    ),
    "plateau": Stage(depth=1, epochs=6, batch_size=8, course="plateau", learning_rate=1.0, plateau_patience_epochs=0),
}


def trained(training: Trainer) -> dict[str, Any]:
    """What a stage ends with."""
    rows = run(training)
    held = training.best_held_out
    return {"rows": rows, "best": timeless(training.best), "tensors": training.suffix.state_dict(), "held_out": held}


def of_stage(ranks: Ranks, stage: Stage, **changes: Any) -> dict[str, Any]:
    """The stage, with images held out, of which there are fewer than three ranks' worth of equal shares."""
    return trained(trainer(stage, ranks=ranks, held_out=InMemory(images(7, 3)[0]), **changes))


def all_stages(ranks: Ranks) -> dict[str, dict[str, Any]]:
    return {name: of_stage(ranks, stage) for name, stage in STAGES.items()}


@pytest.fixture(scope="module", params=[2, 3])
def in_company(request) -> list[dict[str, dict[str, Any]]]:
    """Every stage, by so many ranks."""
    return together(request.param, all_stages)


def assert_close(rows: list[dict[str, float]], expected: list[dict[str, float]], rel: float = 1e-4) -> None:
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=rel, abs=1e-5)


@given(n=st.integers(0, 1000), size=st.integers(1, 17))
def test_shares_are_disjoint_cover_everything_and_differ_by_one_at_most(n, size):
    parts = [range(n)[Ranks(rank, size).share(n)] for rank in range(size)]
    assert [i for part in parts for i in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("name", STAGES)
def test_several_train_the_curve_of_one(name, in_company):
    alone = of_stage(ALONE, STAGES[name])
    for one in in_company:
        assert_close(one[name]["rows"], alone["rows"])
        assert one[name]["held_out"] == pytest.approx(alone["held_out"], rel=1e-3)
        for key, tensor in alone["tensors"].items():
            torch.testing.assert_close(one[name]["tensors"][key], tensor, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize("name", STAGES)
def test_all_ranks_end_with_the_same_bits(name, in_company):
    first, *others = (one[name] for one in in_company)
    for other in others:
        assert other["rows"] == first["rows"]
        assert other["best"] == first["best"]
        assert all(torch.equal(other["tensors"][key], tensor) for key, tensor in first["tensors"].items())


# ---- what one rank alone meets -----------------------------------------------------------------------------------


class _Seen(InMemory):
    """Notes which images it was asked for."""

    def __init__(self, values: np.ndarray) -> None:
        super().__init__(values)
        self.seen: list[list[int]] = []

    def batch(self, indices: np.ndarray, view: int) -> torch.Tensor:
        self.seen.append(indices.tolist())
        return super().batch(indices, view)


def seen_images(ranks: Ranks) -> dict[str, list[list[int]]]:
    train, val = _Seen(images(26, 1)[0]), _Seen(images(15, 2)[0])
    trainer(Stage(depth=1, epochs=1, batch_size=8), ranks=ranks, train=train, val=val).run_epoch()
    return {"train": train.seen, "val": val.seen}


def short_of_memory(ranks: Ranks) -> dict[str, Any]:
    training = trainer(STAGES["class weights"], suffix=limited(1 if ranks.rank else 100), ranks=ranks)
    return trained(training) | {"micro_batch": training.counters.micro_batch}


def not_finite(ranks: Ranks) -> tuple[str, str]:
    """What is said of one image that is not finite, once in training and once in validation."""
    stage, (train, _), (val, _) = Stage(depth=1, epochs=3, batch_size=8), images(26, 1), images(15, 2)
    bad, errors = np.random.default_rng([0, 0]).permutation(26)[17], []
    train[bad], val[2] = np.inf, np.nan
    for broken in ({"train": InMemory(train)}, {"val": InMemory(val)}):
        with pytest.raises(NonFiniteLossError) as caught:
            trainer(stage, ranks=ranks, **broken).run_epoch()
        errors.append(str(caught.value))
    return errors[0], errors[1]


def frozen_parts(ranks: Ranks) -> dict[str, torch.Tensor]:
    """The tensors after two epochs of a block of which only the norm's affine is trained."""
    network = suffix()
    network.block2.conv.requires_grad_(False)
    return trained(trainer(Stage(depth=1, epochs=2, batch_size=8), suffix=network, ranks=ranks))["tensors"]


def moved_statistics(ranks: Ranks) -> dict[str, Any]:
    stage = Stage(depth=1, epochs=1, batch_size=13, batch_norm="train")
    moved = trained(trainer(stage, ranks=ranks))["tensors"]
    too_small = trainer(Stage(depth=1, epochs=1, batch_size=4, batch_norm="train"), ranks=ranks)
    with pytest.raises(ValueError, match=r"two images of each batch in each of the 3 workers, .* batches of 3: raise"):
        too_small.run_epoch()
    return moved


def with_dropout(ranks: Ranks) -> dict[str, Any]:
    stage = Stage(depth=1, epochs=2, batch_size=8, dropout=0.5)
    return {"once": of_stage(ranks, stage), "again": of_stage(ranks, stage)}


def broken_off(ranks: Ranks) -> dict[str, Any]:
    training = trainer(STAGES["penalties"], ranks=ranks)
    training.run_epoch()
    return training.state()


def real_network(ranks: Ranks) -> list[dict[str, Any]]:
    """A head, and then blocks of a backbone under it, handed over, on augmented images."""
    stages = (Stage(depth=0, epochs=2, batch_size=8), Stage(depth=2, epochs=3, batch_size=7, strength=1.0))
    table, path = bench(ranks=ranks), recipe(schedule=stages)
    head = open_stage(table, path, 0)
    found = [trained(head)]
    start = {"expected_loss": head.best["val_loss"], "expected_signature": head.signature}
    found.append(trained(open_stage(table, path, 1, head.best_state, **start)))
    return found


def swept(ranks: Ranks) -> list[float]:
    return sweep_rates(trainer(STAGES["class weights"], ranks=ranks), [1e-3, 1e-2, 1e-1])


CASES = (
    seen_images,
    short_of_memory,
    not_finite,
    moved_statistics,
    with_dropout,
    broken_off,
    real_network,
    swept,
)


def all_cases(ranks: Ranks) -> dict[str, Any]:
    return {case.__name__: case(ranks) for case in CASES}


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    """Every case, by three ranks."""
    return together(3, all_cases)


def test_each_image_of_each_global_batch_is_seen_by_one_rank(cases):
    alone, ranks = seen_images(ALONE), [case["seen_images"] for case in cases]
    for step, batch in enumerate(alone["train"]):
        assert [image for rank in ranks for image in rank["train"][step]] == batch
    assert [image for rank in ranks for batch in rank["val"] for image in batch] == [*range(15)]


def test_a_rank_that_runs_out_of_memory_takes_smaller_pieces_and_the_step_stays_the_same(cases):
    alone, ranks = of_stage(ALONE, STAGES["class weights"]), [case["short_of_memory"] for case in cases]
    assert [rank["micro_batch"] for rank in ranks] == [7, 1, 1]
    for rank in ranks:
        for row, other in zip(rank["rows"], alone["rows"], strict=True):
            assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
            assert row["val_loss"] == pytest.approx(other["val_loss"], rel=1e-4)


def test_a_loss_that_is_not_finite_in_one_rank_fails_all_in_the_same_step(cases):
    assert {case["not_finite"] for case in cases} == {
        (
            "the training loss is nan at step 3 of epoch 1: try a lower learning rate",
            "the validation loss is nan after step 4 of epoch 1: try a lower learning rate",
        )
    }


def test_what_is_frozen_keeps_its_bits():
    """Seven show it: a seventh of seven times a number is often another number, a third of three times one never."""
    before = suffix().state_dict()
    for after in together(7, frozen_parts):
        for name in ("conv.weight", "conv.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
            assert torch.equal(after[f"block2.{name}"], before[f"block2.{name}"]), name
        assert not torch.equal(after["block2.norm.weight"], before["block2.norm.weight"])


def test_batch_statistics_are_each_ranks_own_and_end_as_their_mean(cases):
    """The one step has three shares; the running variance moves by the unbiased one of each."""
    stage = Stage(depth=1, epochs=1, batch_size=26, batch_norm="train")
    alone = trained(trainer(stage))["tensors"]["block2.norm.running_mean"]
    first, *others = (case["moved_statistics"] for case in cases)
    for other in others:
        assert all(torch.equal(other[name], first[name]) for name in first)
    assert not torch.equal(first["block2.norm.running_mean"], suffix().state_dict()["block2.norm.running_mean"])
    assert not torch.equal(first["block2.norm.running_mean"], alone)


def test_dropout_can_be_drawn_again_and_trains(cases):
    for case in cases:
        assert case["with_dropout"]["once"]["rows"] == case["with_dropout"]["again"]["rows"]
        assert all(math.isfinite(row["train_loss"]) for row in case["with_dropout"]["once"]["rows"])


def test_three_train_a_path_through_a_backbone_as_one_does(cases):
    alone = real_network(ALONE)
    for case in cases:
        for stage, expected in zip(case["real_network"], alone, strict=True):
            assert_close(stage["rows"], expected["rows"], rel=1e-3)


def test_a_range_test_sees_the_loss_of_the_whole_batch(cases):
    for case in cases:
        assert case["swept"] == pytest.approx(swept(ALONE), rel=1e-4)


def test_one_goes_on_where_three_were_stopped(cases):
    expected, alone = of_stage(ALONE, STAGES["penalties"]), trainer(STAGES["penalties"])
    alone.load_state(cases[0]["broken_off"])
    assert_close(run(alone), expected["rows"][1:])
