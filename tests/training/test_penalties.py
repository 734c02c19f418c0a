"""L2-SP: what it adds, whom it pulls and where to."""

from __future__ import annotations

import pytest
import torch

from raysearch.recipe import Stage
from raysearch.training.penalties import Penalties, pretrained_weights
from raysearch.training.stage import open_stage
from tests.training import tiny
from tests.training.bench import bench, recipe, trained


def stage(**changes) -> Stage:
    return Stage(**({"depth": 1, "epochs": 3, "batch_size": 8, "l2_sp": 0.5, "weight_decay": 0.0} | changes))


def test_by_hand():
    suffix = tiny.suffix()
    start = pretrained_weights(stage(), suffix)
    assert list(start) == ["block2.conv.weight"]  # no bias, no norm, no head
    with torch.no_grad():
        suffix.block2.conv.weight += 0.1
        suffix.head.linear.weight += 5
    n = suffix.block2.conv.weight.numel()
    penalties = Penalties.of(stage(), suffix, start)
    assert penalties.total().item() == pytest.approx(0.5 / 2 * n * 0.01, rel=1e-4)
    penalties.total().backward()
    gradient = suffix.block2.conv.weight.grad
    assert torch.allclose(gradient, torch.full_like(gradient, 0.05), rtol=1e-4)
    assert suffix.head.linear.weight.grad is None
    both = Penalties.of(stage(l2=2.0), suffix, start).total().item()
    squares = sum(p.square().sum().item() for p in (suffix.block2.conv.weight, suffix.head.linear.weight))
    assert both == pytest.approx(0.5 / 2 * n * 0.01 + squares, rel=1e-4)


def test_none_asked_none_added():
    suffix = tiny.suffix()
    assert pretrained_weights(stage(l2_sp=0.0), suffix) == {}
    assert Penalties.of(stage(l2_sp=0.0), suffix, {}).total() is None


def test_a_strong_pull_keeps_the_block_and_lets_the_head_learn():
    moved = {}
    for l2_sp in (0.0, 100.0):
        suffix = tiny.suffix()
        before = {name: p.detach().clone() for name, p in suffix.named_parameters()}
        one = stage(l2_sp=l2_sp, epochs=6, learning_rate=1e-2)
        tiny.run(tiny.trainer(one, suffix=suffix, pretrained=pretrained_weights(one, suffix)))
        moved[l2_sp] = {name: (p.detach() - before[name]).norm().item() for name, p in suffix.named_parameters()}
    assert moved[100.0]["block2.conv.weight"] < moved[0.0]["block2.conv.weight"] / 3
    assert moved[100.0]["head.linear.weight"] > moved[0.0]["head.linear.weight"] / 2


def test_a_later_stage_is_pulled_to_the_pretrained_weights_not_to_where_it_begins():
    on = bench()
    path = recipe(schedule=(Stage(depth=1, epochs=2, learning_rate=3e-2, batch_size=8), stage(depth=2)))
    before = trained(on, path)
    opened = open_stage(on, path, 1, before.best_state)
    base = on.weights.state
    assert opened.penalties.pulled
    for weight, start in opened.penalties.pulled:
        name = next(name for name, p in opened.suffix.named_parameters() if p is weight)
        assert torch.equal(start, base[name])
    distance = opened.penalties.total().item()
    assert distance > 0, "the block that was trained before is away from them already"
    again = open_stage(on, path, 1)  # as a resume opens it
    again.load_state(opened.state())
    assert again.penalties.total().item() == distance
