"""A bench opens any stage of any backbone: frozen tensors stay, kept activations serve trial after trial."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from raysearch.activations.live import KeptActivations, LiveActivations, size_bytes
from raysearch.data.pixels import load
from raysearch.errors import InputError
from raysearch.models.registry import BACKBONES
from raysearch.recipe import Stage
from raysearch.training.stage import Bench, open_stage
from tests.training.bench import bench, handed_over, recipe, split, trained
from tests.training.tiny import timeless

SMALL = [name for name in BACKBONES if name != "vgg19"]  # 20 M parameters, which show nothing more here


def open_blocks(trainer) -> set[str]:
    return {name.split(".")[0] for name in trainer.suffix.state_dict()}


@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_trains_the_open_blocks_and_the_head_and_nothing_else(backbone, depth):
    table = bench(backbone)
    before = {name: tensor.clone() for name, tensor in table.weights.state.items()}
    trainer = open_stage(table, recipe(backbone, depths=(depth,)), 0)
    prefix = trainer.val._source._prefix
    trainer.run_epoch()
    blocks = BACKBONES[backbone].block_names
    assert open_blocks(trainer) == {*blocks[len(blocks) - depth :], "head"}
    frozen = prefix.state_dict()
    assert {name.split(".")[0] for name in frozen} == set(blocks[: len(blocks) - depth])
    assert all(torch.equal(frozen[name], before[name]) for name in frozen)
    assert all(torch.equal(table.weights.state[name], before[name]) for name in before)
    statistics = [name for name in before if "running" in name or "num_batches" in name]
    now = trainer.suffix.state_dict()
    assert all(torch.equal(now[name], before[name]) for name in statistics if name in now)
    moved = [
        name for name, p in trainer.suffix.named_parameters() if name not in before or not torch.equal(p, before[name])
    ]
    assert len(moved) == len(list(trainer.suffix.parameters()))


def test_densenet_passes_the_gate():
    """The backbone with the most BatchNorm, at the block where people lost a week."""
    table, plan = bench("densenet121"), recipe("densenet121", depths=(0, 1))
    trainer = open_stage(table, plan, 1, **handed_over(trained(table, plan)))
    assert abs(trainer.handover_delta) < 1e-5


def test_a_simple_cnn_from_scratch_learns():
    stage = Stage(depth=len(BACKBONES["simple_cnn"].block_names), epochs=8, batch_size=8, batch_norm="train",
                  learning_rate=0.01, strength=0.5)  # fmt: skip
    assert trained(bench(), recipe(schedule=(stage,))).best["val_accuracy"] >= 0.9


def test_the_same_recipe_gives_the_same_curve_in_whatever_order_trials_come():
    stage = {"epochs": 2, "batch_size": 8, "dropout": 0.3}
    plan = recipe(schedule=(Stage(depth=1, strength=0.5, **stage), Stage(depth=2, strength=0.0, **stage)))
    alone, busy = bench(), bench()
    trained(busy, recipe(seed=5))
    trained(busy, plan, 1)
    for index in (0, 1):
        curves = []
        for table in (alone, busy):
            trainer = open_stage(table, plan, index)
            curves.append([timeless(trainer.run_epoch()) for _ in range(2)])
        assert curves[0] == curves[1]


def test_dropout_seed_views_and_precision_come_from_recipe_and_bench():
    stage = {"epochs": 3, "batch_size": 8, "dropout": 0.25}
    plan = recipe(schedule=(Stage(depth=0, **stage), Stage(depth=1, **stage)), seed=4)
    head, block = (open_stage(bench(precision="bf16"), plan, index) for index in (0, 1))
    assert head.suffix.get_submodule("head.dropout").p == 0.25
    assert (head.seed, head.view_offset, block.view_offset) == (4, 0, 3)
    assert (head.precision, block.precision) == ("fp32", "bf16")


def test_what_does_not_change_is_kept_and_shared_between_trials():
    table = bench()
    one, other = (open_stage(table, recipe(depths=(1,), pooling=pooling), 0) for pooling in ("avg", "max"))
    assert isinstance(one.val, KeptActivations)
    assert other.val is one.val
    assert other.train is one.train
    pooled, maxed = (open_stage(table, recipe(depths=(0,), pooling=pooling), 0) for pooling in ("avg", "max"))
    assert pooled.val is not maxed.val
    augmented = open_stage(table, recipe(schedule=(Stage(depth=1, epochs=1, strength=0.5),)), 0)
    assert isinstance(augmented.train, LiveActivations)


def test_what_does_not_fit_in_memory_is_live_and_no_different():
    kept, live = (open_stage(bench(memory_bytes=limit), recipe(depths=(1,)), 0) for limit in (1 << 30, 10))
    assert isinstance(live.val, LiveActivations)
    assert live.run_epoch()["val_loss"] == pytest.approx(kept.run_epoch()["val_loss"], rel=1e-5)


def test_older_kept_activations_make_room():
    roomy = bench()
    first = open_stage(roomy, recipe(depths=(2,)), 0)
    table = bench(memory_bytes=size_bytes(first.train) + size_bytes(first.val))
    for depth in (1, 2, 1, 0):
        trainer = open_stage(table, recipe(depths=(depth,)), 0)
        assert isinstance(trainer.train, KeptActivations)
        assert sum(map(size_bytes, table._kept.values())) <= table.memory_bytes


def test_max_batches_bounds_an_epoch_and_keeps_every_class():
    table = bench(max_batches=1)
    trainer = open_stage(table, recipe(), 0)
    assert len(trainer.train_labels) == 8
    assert len(trainer.val_labels) == 12
    assert set(trainer.train_labels.tolist()) == {0, 1, 2}
    start = handed_over(trained(table, recipe()))
    assert abs(open_stage(table, recipe(), 1, **start).handover_delta) < 1e-5


def test_a_bench_opens_from_plain_values(tmp_path):
    arrays = {}
    for name, n in (("train", 24), ("val", 12), ("test", 6)):
        made = split(n, 0, 32)
        arrays |= {f"{name}_images": made.pixels, f"{name}_labels": made.labels[:, None]}
    np.savez(tmp_path / "made.npz", **arrays)
    dataset = load(str(tmp_path / "made.npz"), image_size=32, cache=tmp_path / "cache", progress=False)
    plain = {"backbone": "simple_cnn", "weights": "random", "seed": 3, "precision": "fp32", "metric": "macro_f1"}
    table = Bench.open(dataset=str(dataset.folder), device="cpu", **json.loads(json.dumps(plain)))
    assert table.dataset.fingerprint == dataset.fingerprint
    assert trained(table, recipe(), 0).best["val_macro_f1"] > 0


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(InputError, match="metric 'acuracy'"):
        bench(metric="acuracy")
    with pytest.raises(InputError, match=r"wants images of 64 px \(squash\).* loaded at 32 px"):
        open_stage(bench(), recipe(size=64), 0)
    with pytest.raises(InputError, match="are not those of densenet121"):
        open_stage(dataclasses.replace(bench()), recipe("densenet121"), 0)
