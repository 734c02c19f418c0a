"""A bench opens any stage of any backbone: frozen tensors stay, kept activations serve trial after trial."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from raysearch.activations.base import size_bytes
from raysearch.activations.cache import CacheSettings
from raysearch.activations.kept import KeptActivations
from raysearch.activations.live import LiveActivations
from raysearch.errors import InputError
from raysearch.recipe import Head, Stage
from raysearch.training.bench import Bench
from raysearch.training.calibration import fitted_temperature
from raysearch.training.checkpoint import best_metadata, load_checkpoint, save_checkpoint
from raysearch.training.path import assemble, train_recipe
from raysearch.training.stage import open_pack, open_stage
from raysearch.winner.evaluate import evaluate_model
from tests.networks import FEW, register_tiny, spec_of
from tests.training.bench import bench, decoded, handed_over, recipe, trained
from tests.training.tiny import timeless


@pytest.fixture(autouse=True)
def _tiny_networks(monkeypatch):
    register_tiny(monkeypatch)


def open_blocks(trainer) -> set[str]:
    return {name.split(".")[0] for name in trainer.suffix.state_dict()}


@pytest.mark.parametrize("backbone", FEW)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_trains_the_open_blocks_and_the_head_and_nothing_else(backbone, depth):
    table = bench(backbone)
    before = {name: tensor.clone() for name, tensor in table.weights.state.items()}
    trainer = open_stage(table, recipe(backbone, depths=(depth,)), 0)
    prefix = trainer.images.val.activations._source._prefix
    trainer.run_epoch()
    blocks = spec_of(backbone).block_names
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


@pytest.mark.parametrize("backbone", ["densenet121", "mini_swin", "mini_vit", "timm/mobilenetv3_small_050"])
def test_every_kind_of_network_passes_the_gate(backbone):
    """The backbone with the most BatchNorm, at the block where people lost a week; and those with tokens."""
    if backbone.startswith("timm/"):
        pytest.importorskip("timm")
    table, plan = bench(backbone), recipe(backbone, depths=(0, 1))
    trainer = open_stage(table, plan, 1, **handed_over(trained(table, plan)))
    assert abs(trainer.handover_delta) < 1e-5


def test_a_simple_cnn_from_scratch_learns():
    stage = Stage(depth=len(spec_of("simple_cnn").block_names), epochs=8, batch_size=8, batch_norm="train",
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
    one, other = (open_stage(table, recipe(depths=(1,), pooling=pooling), 0).images for pooling in ("avg", "max"))
    assert isinstance(one.val.activations, KeptActivations)
    assert other.val.activations is one.val.activations
    assert other.train.activations is one.train.activations
    pooled, maxed = (open_stage(table, recipe(depths=(0,), pooling=pooling), 0).images for pooling in ("avg", "max"))
    assert pooled.val.activations is not maxed.val.activations
    augmented = open_stage(table, recipe(schedule=(Stage(depth=1, epochs=1, strength=0.5),)), 0)
    assert isinstance(augmented.images.train.activations, LiveActivations)


def test_what_does_not_fit_in_memory_is_live_and_no_different():
    kept, live = (open_stage(bench(memory_bytes=limit), recipe(depths=(1,)), 0) for limit in (1 << 30, 10))
    assert isinstance(live.images.val.activations, LiveActivations)
    assert live.run_epoch()["val_loss"] == pytest.approx(kept.run_epoch()["val_loss"], rel=1e-5)


def test_older_kept_activations_make_room():
    roomy = bench()
    first = open_stage(roomy, recipe(depths=(2,)), 0).images
    table = bench(memory_bytes=size_bytes(first.train.activations) + size_bytes(first.val.activations))
    for depth in (1, 2, 1, 0):
        trainer = open_stage(table, recipe(depths=(depth,)), 0)
        assert isinstance(trainer.images.train.activations, KeptActivations)
        assert sum(map(size_bytes, table.sources._kept.values())) <= table.memory_bytes


def test_max_batches_bounds_an_epoch_and_keeps_every_class():
    table = bench(max_batches=1)
    trainer = open_stage(table, recipe(), 0)
    assert len(trainer.train_labels) == 8
    assert len(trainer.val_labels) == 12
    assert set(trainer.train_labels.tolist()) == {0, 1, 2}
    start = handed_over(trained(table, recipe()))
    assert abs(open_stage(table, recipe(), 1, **start).handover_delta) < 1e-5


def test_a_bench_opens_from_plain_values(tmp_path):
    dataset = decoded(tmp_path)
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


# ---- packs of heads ----------------------------------------------------------------------------------------------

HEAD = {"depth": 0, "epochs": 4, "batch_size": 8, "learning_rate": 0.01}
OF_A_PACK = (
    {},
    {"learning_rate": 0.03, "course": "cosine"},
    {"dropout": 0.4},
    {"class_weights": {"red": 3.0}, "l2": 0.1},
)


def packed(table, recipes, folds=0):
    """The pack trained to its end, its heads' rows, and their signature."""
    pack, about = open_pack(table, recipes, folds)
    rows = [[] for _ in recipes]
    while not pack.finished:
        for head, row in pack.run_epoch().items():
            rows[head].append(row)
    return pack, rows, about


@pytest.mark.parametrize("cached", [False, True], ids=["live", "cached"])
@pytest.mark.parametrize(
    ("strength", "pooling", "kind"), [(0.0, "both", "linear"), (0.5, "avg", "linear"), (0.5, "max", "hidden")]
)
def test_a_head_of_a_pack_is_the_same_recipes_stage(cached, strength, pooling, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path))
    recipes = [
        recipe(
            pooling=pooling,
            head=Head(kind=kind, hidden_units=8),
            schedule=(Stage(**HEAD | {"strength": strength} | changes),),
        )
        for changes in OF_A_PACK
    ]
    cache = CacheSettings((0,), views=2, dtype="fp32") if cached else None
    pack, rows, about = packed(bench(cache=cache), recipes)
    table = bench(cache=cache)
    for head, plan in enumerate(recipes):
        trainer = open_stage(table, plan, 0)
        expected = [trainer.run_epoch() for _ in range(4)]
        for row, reference in zip(rows[head], expected, strict=True):
            assert row | {"seconds": 0} == pytest.approx(reference | {"seconds": 0}, abs=1e-4)
        assert pack.best(head)["epoch"] == trainer.best["epoch"]
        assert about == trainer.signature
        state = pack.best_state(head)
        assert state.keys() == trainer.best_state.keys()
        for name, tensor in trainer.best_state.items():
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-4, msg=name)


def test_a_pack_is_the_same_on_cached_features_as_on_live_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path))
    recipes = [recipe(schedule=(Stage(**HEAD | {"strength": 0.5, "epochs": 2} | one),)) for one in OF_A_PACK]
    _, live, _ = packed(bench(), recipes)
    _, cached, _ = packed(bench(cache=CacheSettings((0,), views=2, dtype="fp32")), recipes)
    for rows, others in zip(live, cached, strict=True):
        for row, other in zip(rows, others, strict=True):
            assert row | {"seconds": 0} == pytest.approx(other | {"seconds": 0}, abs=1e-4)


def test_a_quick_look_at_a_pack_sees_the_images_that_a_stage_sees():
    table, plan = bench(max_batches=1), recipe(schedule=(Stage(**HEAD),))
    _, (rows,), about = packed(table, [plan])
    trainer = open_stage(table, plan, 0)
    assert about["val_labels"] == trainer.signature["val_labels"]
    assert rows[0]["train_loss"] == pytest.approx(trainer.run_epoch()["train_loss"], abs=1e-4)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_folds_judge_heads_on_the_training_images_and_leave_the_rest_as_it_was(strength):
    table, recipes = bench(), [recipe(schedule=(Stage(**HEAD | {"strength": strength} | one),)) for one in OF_A_PACK]
    folded, rows, about = packed(table, recipes, folds=3)
    _, plain, about_plain = packed(table, recipes)
    assert about == about_plain
    for of_head, reference in zip(rows, plain, strict=True):
        for row, other in zip(of_head, reference, strict=True):
            own = {name: value for name, value in row.items() if not name.startswith("cv_")}
            assert own | {"seconds": 0} == pytest.approx(other | {"seconds": 0}, abs=1e-6)
            figures = {name.removeprefix("val_") for name in other if name.startswith("val_")}
            judged = {name.removeprefix("cv_") for name in row if name.startswith("cv_")}
            assert judged == figures | {"accuracy_std"}
            assert 0 <= row["cv_accuracy"] <= 1
    for head, of_head in enumerate(rows):
        best = max(of_head, key=lambda row: (row["cv_accuracy"], -row["cv_loss"]))
        assert folded.best(head) == best


def test_a_pack_that_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"wants images of 64 px \(squash\)"):
        open_pack(bench(), [recipe(size=64, depths=(0,))])
    with pytest.raises(InputError, match="9 folds need 9 training images of every class"):
        open_pack(bench(), [recipe(depths=(0,))], folds=9)
    with pytest.raises(ValueError, match="one stage at depth 0"):
        open_pack(bench(), [recipe(depths=(0, 1))])
    with pytest.raises(ValueError, match="cannot share a pack"):
        open_pack(bench(), [recipe(depths=(0,)), recipe(depths=(0,), pooling="max")])


# ---- of one stage and the next -----------------------------------------------------------------------------------


def test_a_stage_takes_over_the_rate_at_which_the_one_before_ended():
    schedule = (Stage(depth=0, epochs=1), Stage(depth=1, epochs=2, inherit=0.5, course="constant", batch_size=8))
    plan, table = recipe(schedule=schedule), bench()
    row = open_stage(table, plan, 1, ended_rate=4e-3).run_epoch()
    assert row["lr"] == pytest.approx(2e-3)
    for nothing in (None, 0.0):
        with pytest.raises(ValueError, match="takes over the learning rate of the stage before, which ended at"):
            open_stage(table, plan, 1, ended_rate=nothing)


def test_a_path_hands_the_rate_on():
    plateau = {"course": "plateau", "plateau_patience_epochs": 0, "plateau_factor": 0.1, "batch_size": 8}
    first = Stage(depth=0, epochs=6, learning_rate=30.0, **plateau)  # so fast that the loss soon stalls
    then = Stage(depth=1, epochs=1, inherit=2.0, course="constant", batch_size=8)
    rates: list[list[float]] = [[], []]
    train_recipe(bench(), recipe(schedule=(first, then)), lambda stage, row: rates[stage].append(row["lr"]))
    assert rates[0][-1] < 30.0
    assert rates[1] == [pytest.approx(2 * rates[0][-1])]


def with_held_out() -> Bench:
    table = bench()
    dataset, held_out = table.dataset.halved(0)
    return dataclasses.replace(table, dataset=dataset, held_out={dataset.image_size: held_out})


def test_halves_of_the_validation_images_are_stratified_and_make_up_the_whole():
    whole = bench().dataset
    half, other = whole.halved(3)
    assert sorted((*half.val.paths, *other.paths)) == sorted(whole.val.paths)
    np.testing.assert_array_equal(np.bincount(half.val.labels), np.bincount(other.labels))
    assert half.train is whole.train
    again, _ = whole.halved(3)
    assert again.val.paths == half.val.paths != whole.halved(4)[0].val.paths


def test_the_held_out_losses_are_those_of_the_best_state_and_decide_nothing():
    plan = recipe(schedule=(Stage(depth=1, epochs=4, batch_size=8, learning_rate=0.03, dropout=0.3),))
    table = with_held_out()
    [held_out] = (table.held_out or {}).values()
    trainer = trained(table, plan)
    without = trained(dataclasses.replace(table, held_out=None), plan)
    assert timeless(trainer.best) == timeless(without.best)
    model = assemble(table, plan, trainer.best_state)
    evaluated = evaluate_model(model, held_out, table.dataset.classes, table.device)
    rows = np.arange(len(held_out))
    logits = torch.from_numpy(np.log(evaluated.probabilities))
    chose = evaluate_model(model, table.dataset.val, table.dataset.classes, table.device)
    temperature = fitted_temperature(
        torch.from_numpy(np.log(chose.probabilities)), torch.from_numpy(table.dataset.val.labels)
    )
    scaled = torch.log_softmax(logits / temperature, dim=1).numpy()
    np.testing.assert_allclose(trainer.best_held_out, -scaled[rows, held_out.labels], rtol=1e-3, atol=1e-3)
    assert best_metadata(trainer)["held_out"] == trainer.best_held_out
    assert best_metadata(without)["held_out"] == []


def test_the_held_out_losses_survive_a_checkpoint(tmp_path):
    plan, table = recipe(depths=(1,)), with_held_out()
    trainer = trained(table, plan)
    save_checkpoint(tmp_path / "last.pt", trainer.state())
    resumed = open_stage(table, plan, 0)
    resumed.load_state(load_checkpoint(tmp_path / "last.pt"))
    assert resumed.best_held_out == trainer.best_held_out
