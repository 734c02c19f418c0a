"""A trial trains the same on cached activations as on live ones, whatever is cached and by whom."""

from __future__ import annotations

import pytest
import torch

from raysearch.activations.cache import CachedActivations, CacheSettings
from raysearch.activations.kept import KeptActivations
from raysearch.activations.live import LiveActivations
from raysearch.activations.upkeep import list_entries
from raysearch.recipe import Stage
from raysearch.training.stage import open_stage
from tests.training.bench import bench, handed_over, recipe, trained
from tests.training.tiny import timeless


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path))


def settings(*depths, **changes):
    return CacheSettings(depths, **({"views": 8, "dtype": "fp32"} | changes))


def stage(depth=1, **changes):
    return Stage(**({"depth": depth, "epochs": 4, "batch_size": 4, "learning_rate": 0.01, "strength": 0.5} | changes))


def losses(table, plan, steps=20):
    """The losses of single steps, in training: what the loop fills for each batch."""
    trainer, found = open_stage(table, plan, 0), []
    fill = trainer._fill_gradients

    def noting(*arguments):
        loss, hits = fill(*arguments)
        found.append(loss.item())
        return loss, hits

    trainer._fill_gradients = noting
    while len(found) < steps:
        trainer.run_epoch()
    return found[:steps]


@pytest.mark.parametrize("backbone", ["simple_cnn", "densenet121"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_first_20_losses_are_those_of_live_activations(backbone, depth):
    # At a rate that a person would use: at many times that, Adam makes of a last digit a difference to be seen.
    plan = recipe(backbone, schedule=(stage(depth, learning_rate=2e-4),))
    cached = losses(bench(backbone, cache=settings(0, 1, 2)), plan)
    assert cached == pytest.approx(losses(bench(backbone), plan), abs=1e-4)


def test_who_reads_what_another_filled_trains_the_same_to_the_last_bit():
    plan = recipe(schedule=(stage(1, dropout=0.3),))
    curves = []
    for _ in range(2):
        trainer = open_stage(bench(cache=settings(1)), plan, 0)
        curves.append([timeless(trainer.run_epoch()) for _ in range(3)])
    assert curves[0] == curves[1]


def test_the_gate_lets_through_between_depths_in_fp16():
    plan = recipe(schedule=(stage(0), stage(1), stage(2)))
    table = bench(cache=settings(0, 1, 2, dtype="fp16"))
    head = trained(table, plan, 0)
    block = trained(table, plan, 1, **handed_over(head))
    deeper = open_stage(table, plan, 2, **handed_over(block))
    for trainer in (block, deeper):
        assert abs(trainer.handover_delta) < 1e-5, "validation images are stored exactly"


def test_what_is_cached_is_what_the_settings_say():
    table = bench(cache=settings(1, 4, seed=0))

    def train_of(depth, **changes):
        return open_stage(table, recipe(schedule=(stage(depth, **changes),)), 0).images.train.activations

    assert isinstance(train_of(1), CachedActivations)
    assert isinstance(train_of(2), LiveActivations)
    assert isinstance(train_of(4), LiveActivations), "nothing is frozen"
    assert isinstance(train_of(2, strength=0.0), KeptActivations)
    assert isinstance(train_of(1, strength=0.0), CachedActivations)
    refit = open_stage(table, recipe(schedule=(stage(1),), seed=1000), 0)
    assert isinstance(refit.images.train.activations, LiveActivations), "its views are read once"
    assert isinstance(refit.images.val.activations, CachedActivations)


def test_pixels_pass_the_network_once_for_both_depths():
    table = bench(cache=settings(1, 2))
    plans = [recipe(schedule=(stage(depth, epochs=1),)) for depth in (1, 2)]
    trained(table, plans[0])
    entries = {entry.path for entry in list_entries()}
    trained(table, plans[1])
    assert {entry.path for entry in list_entries()} == entries
    assert sorted((e.about["boundary"], e.about["key"]["split"]) for e in list_entries()) == [
        ("block2", "train"),
        ("block2", "val"),
        ("block3", "train"),
        ("block3", "val"),
    ]


def test_a_quick_look_does_not_share_with_a_long_one():
    plan = recipe(schedule=(stage(1, batch_size=8),))
    trained(bench(cache=settings(1)), plan)
    quick = open_stage(bench(cache=settings(1), max_batches=1), plan, 0)
    assert torch.equal(
        quick.images.train.activations.batch(torch.arange(8).numpy(), 0),
        open_stage(bench(max_batches=1), plan, 0).images.train.activations.batch(torch.arange(8).numpy(), 0),
    )
