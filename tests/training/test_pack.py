"""A head in a pack is the head alone: the same figures, epochs and tensors, whoever else is in the pack."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from raysearch.models.head import make_head
from raysearch.recipe import Head, Recipe, Stage
from raysearch.record.goal import Goal
from raysearch.training.epoch import NonFiniteLossError
from raysearch.training.heads import pack as pack_module
from raysearch.training.heads.pack import HeadPack, pack_key
from raysearch.training.images import Images, Labelled
from raysearch.training.loop import Trainer
from raysearch.training.retrieval import retrieval_metrics
from tests.training.tiny import CLASSES, CPU, InMemory

WIDTH = 12
EVERY_KIND: list[dict[str, Any]] = [
    {},
    {"course": "constant", "learning_rate": 0.05, "weight_decay": 0.5},
    {"course": "plateau", "plateau_patience_epochs": 0, "learning_rate": 0.5, "plateau_factor": 0.3},
    {"course": "cosine", "warmup_epochs": 1.5, "min_learning_rate": 1e-3},
    {"course": "one_cycle", "epochs": 3},
    {"dropout": 0.5},
    {"dropout": 0.2, "l1": 0.01},
    {"dropout": 0.5, "l2": 0.1, "class_weights": "balanced"},
    {"class_weights": {"owl": 3.0}, "label_smoothing": 0.1},
    {"class_weights": 0.5, "label_smoothing": 0.3, "l1": 0.01, "l2": 0.01},
    {"loss": "focal"},
    {"loss": "focal", "focal_gamma": 0.5, "class_weights": "effective:0.9", "label_smoothing": 0.1, "dropout": 0.5},
    {"loss": "logit_adjusted", "class_weights": {"owl": 3.0}, "label_smoothing": 0.1},
    {"learning_rate": 0.5, "early_stopping_epochs": 1},
    {"learning_rate": 0.5, "early_stopping_epochs": 1, "keep": "last"},
]
CONTRASTIVE: list[dict[str, Any]] = [
    {"contrastive": 1.0},
    {"contrastive": 0.3, "contrastive_temperature": 0.5, "dropout": 0.5, "class_weights": "balanced"},
    {"contrastive": 3.0, "contrastive_temperature": 0.05, "loss": "focal", "l2": 0.1, "label_smoothing": 0.1},
    {},
]


def features(n: int, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """(n, WIDTH), the mean of the first ones telling the class; classes of different sizes."""
    random = np.random.default_rng(seed)
    labels = random.choice(classes, n, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    return random.normal(size=(n, WIDTH)) + 1.0 * np.eye(WIDTH)[labels], labels


def recipe(head: Head | None = None, *, seed: int = 0, **changes: Any) -> Recipe:
    stage = Stage(**({"depth": 0, "epochs": 5, "batch_size": 8, "learning_rate": 0.02} | changes))
    return Recipe(backbone="densenet121", image_size=32, head=head or Head(), schedule=(stage,), seed=seed)


def around(
    metric: str = "accuracy", wobble: float = 0.1, classes: tuple[str, ...] = CLASSES, require: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What pack and trainer alike are given: 61 images to train on, 40 to validate on."""
    (train, train_labels), (val, val_labels) = features(61, 1, len(classes)), features(40, 2, len(classes))
    images = Images(classes, Labelled(InMemory(train, wobble), train_labels), Labelled(InMemory(val), val_labels))
    return {"images": images, "goal": Goal.of(metric, require), "device": CPU}


def alone(recipe: Recipe, **given: Any) -> Trainer:
    """The ordinary trainer of this head, before its first epoch."""
    given = around() | given
    head = make_head(WIDTH, recipe.head, len(given["images"].classes), recipe.seed)
    head.dropout.p = recipe.schedule[0].dropout
    return Trainer(nn.Sequential(OrderedDict(head=head)), recipe.schedule[0], seed=recipe.seed, **given)


def packed(recipes: list[Recipe], **given: Any) -> HeadPack:
    return HeadPack(recipes, **(around() | given))


def run(pack: HeadPack) -> list[list[dict[str, Any]]]:
    """Every row of every head."""
    rows: list[list[dict[str, Any]]] = [[] for _ in range(len(pack))]
    while not pack.finished:
        for head, row in pack.run_epoch().items():
            rows[head].append(row)
    return rows


def assert_equal_to_alone(pack: HeadPack, rows: list[list[dict[str, Any]]], **given: Any) -> None:
    for head, recipe in enumerate(pack.recipes):
        trainer, expected = alone(recipe, **given), []
        while not trainer.finished:
            expected.append(trainer.run_epoch())
        assert len(rows[head]) == len(expected), (head, recipe.schedule)
        for row, reference in zip(rows[head], expected, strict=True):
            assert list(row) == list(reference)
            assert row | {"seconds": 0} == pytest.approx(reference | {"seconds": 0}, rel=1e-4, abs=1e-4)
            assert all(type(value) in (int, float) for value in row.values())
        assert pack.best(head)["epoch"] == trainer.best["epoch"]
        assert pack.best_state(head).keys() == trainer.best_state.keys()
        for name, tensor in trainer.best_state.items():
            torch.testing.assert_close(pack.best_state(head)[name], tensor, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    "head",
    [Head(), Head(kind="hidden", hidden_units=7), Head(kind="embedding", dimensions=5)],
    ids=["linear", "hidden", "embedding"],
)
@pytest.mark.parametrize("pass_bytes", [1, 700, 1 << 20], ids=["one by one", "a few at a time", "all at once"])
def test_a_head_in_a_pack_is_the_head_alone(head, pass_bytes, monkeypatch):
    monkeypatch.setitem(pack_module.PASS_BYTES, "cpu", pass_bytes)
    pack = packed([recipe(head, **changes) for changes in EVERY_KIND])
    assert_equal_to_alone(pack, run(pack))


@pytest.mark.parametrize(("batch_size", "metric"), [(8, "accuracy"), (20, "precision_at_10"), (1, "accuracy")])
def test_an_embedding_head_contrasts_in_a_pack_as_it_does_alone(batch_size, metric):
    """Batches of 20 leave a last one of a single image, which is like no other."""
    given = around(metric)
    head = Head(kind="embedding", dimensions=5)
    pack = packed([recipe(head, batch_size=batch_size, epochs=3, **changes) for changes in CONTRASTIVE], **given)
    assert_equal_to_alone(pack, run(pack), **given)


@pytest.mark.parametrize("head", [Head(), Head(kind="hidden", hidden_units=7)], ids=["linear", "hidden"])
def test_a_head_without_embeddings_reads_no_contrast_and_finds_images_by_their_features(head):
    given = around("precision_at_20")
    pack = packed([recipe(head, epochs=2, contrastive=value) for value in (0.0, 2.0)], **given)
    rows = run(pack)
    assert_equal_to_alone(pack, rows, **given)
    for name, tensor in pack.best_state(1).items():
        torch.testing.assert_close(pack.best_state(0)[name], tensor, rtol=1e-5, atol=1e-6)
    val = given["images"].val
    expected = retrieval_metrics(torch.from_numpy(val.activations.values), torch.from_numpy(np.asarray(val.labels)))
    assert {row["val_precision_at_20"] for row in rows[0]} == {expected["precision_at_20"]}


@pytest.mark.parametrize("metric", ["loss", "auroc", "macro_f1", "average_precision", "recall:ill"])
def test_whatever_leads_the_search(metric):
    given = around(metric, classes=("healthy", "ill"))
    pack = packed([recipe(early_stopping_epochs=2, learning_rate=rate) for rate in (0.003, 0.03, 0.3)], **given)
    assert_equal_to_alone(pack, run(pack), **given)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "epochs": st.integers(1, 4),
                "learning_rate": st.floats(1e-4, 0.1),
                "weight_decay": st.floats(0, 1),
                "course": st.sampled_from(["constant", "plateau", "cosine", "one_cycle"]),
                "dropout": st.sampled_from([0.0, 0.3, 0.7]),
                "label_smoothing": st.floats(0, 0.5),
                "class_weights": st.sampled_from(["none", "balanced", 0.5]),
                "early_stopping_epochs": st.sampled_from([None, 1, 2]),
                "keep": st.sampled_from(["best", "last"]),
            }
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 3),
    st.sampled_from([5, 16, 61]),
)
def test_any_heads_in_any_company(stages, seed, batch_size):
    pack = packed([recipe(seed=seed, batch_size=batch_size, **stage) for stage in stages])
    assert_equal_to_alone(pack, run(pack))


@pytest.mark.parametrize("part", ["2/3", "grow/3"])
def test_a_pack_trains_on_the_part_that_a_head_alone_trains_on(part):
    pack = packed([recipe(part=part, **changes) for changes in ({}, {"dropout": 0.5}, {"course": "constant"})])
    assert_equal_to_alone(pack, run(pack))


def test_parts_that_grow_at_another_pace_are_other_images():
    assert pack_key(recipe(part="grow/3")) != pack_key(recipe(part="grow/3", epochs=9))
    assert pack_key(recipe(part="1/3")) == pack_key(recipe(part="1/3", epochs=9))


def test_begins_with_the_weights_of_the_recipes_seed():
    """The first step alone, so small that the weights are still those drawn."""
    pack = packed([recipe(seed=3, epochs=1, learning_rate=1e-12, weight_decay=0)])
    pack.run_epoch()
    expected = make_head(WIDTH, Head(), len(CLASSES), 3).state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(pack.best_state(0)[f"head.{name}"], tensor, rtol=0, atol=1e-9)


def test_is_the_same_every_time_and_leaves_the_process_alone():
    recipes = [recipe(**changes) for changes in EVERY_KIND]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = packed(recipes)
    run(first)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = packed(recipes)
    run(second)
    for head in range(len(recipes)):
        for name, tensor in first.best_state(head).items():
            assert torch.equal(second.best_state(head)[name], tensor), (head, name)


def test_reads_each_view_once_for_all_heads_and_validates_once():
    given = around()
    run(packed([recipe(epochs=3, dropout=dropout) for dropout in (0.0, 0.0, 0.2, 0.4)], **given))
    assert given["images"].train.activations.views == [0, 1, 2]
    assert given["images"].val.activations.views == [0]


def test_a_head_that_stopped_no_longer_changes_and_leaves_the_others_alone():
    """One stops early, one after a single epoch; the rest goes on to the end as if it had been alone."""
    recipes = [recipe(epochs=6, learning_rate=0.5, early_stopping_epochs=1), recipe(epochs=1), recipe(epochs=6)]
    pack = packed(recipes)
    pack.run_epoch()
    assert pack.running == (0, 2)
    state, best = pack.best_state(1), pack.best(1)
    rows = run(pack)
    assert pack.best(1) == best
    assert rows[1] == []
    assert len(rows[0]) < 5 == len(rows[2])
    assert all(torch.equal(pack.best_state(1)[name], tensor) for name, tensor in state.items())


def test_keep_drops_the_others_and_changes_nothing_for_those_that_stay():
    recipes = [recipe(dropout=dropout, learning_rate=rate) for dropout in (0.3, 0.0) for rate in (0.1, 0.01)]
    whole, halved = packed(recipes), packed(recipes)
    expected = run(whole)
    halved.run_epoch()
    halved.keep([1, 2])
    assert halved.running == (1, 2)
    dropped = halved.best(0)
    rows = run(halved)
    assert (rows[0], rows[3], halved.best(0)) == ([], [], dropped)
    for head in (1, 2):
        for row, reference in zip(rows[head], expected[head][1:], strict=True):
            assert row | {"seconds": 0} == pytest.approx(reference | {"seconds": 0}, rel=1e-6)
    with pytest.raises(ValueError, match="heads 0 to 3"):
        halved.keep([4])


def test_survivors_are_the_best_so_far():
    """A learning rate that does nothing loses; a finished head competes, a dropped one does not."""
    rates = [1e-9, 0.05, 0.02, 1e-8, 0.05, 1e-7]
    pack = packed([recipe(learning_rate=rate, epochs=2 if rate == 0.02 else 4) for rate in rates], goal=Goal("loss"))
    pack.run_epoch()
    pack.run_epoch()
    best = pack.survivors(2)
    assert set(best) == {1, 2, 4}
    assert [pack.best(head)["val_loss"] for head in best] == sorted(pack.best(head)["val_loss"] for head in best)
    pack.keep(best)
    assert pack.running == (1, 4)
    assert set(pack.survivors(1)) == {1, 2, 4}
    assert len(pack.survivors(9)) == 1


def test_ranked_are_all_heads_that_did_not_fail_best_first(monkeypatch):
    """Dropped and finished ones too; of equal heads the first; none before the first epoch."""
    monkeypatch.setitem(pack_module.PASS_BYTES, "cpu", 1)  # one by one, so that equal heads are equal to the bit
    rates = [1e-9, 0.05, 1e38, 0.02, 0.05]
    pack = packed([recipe(learning_rate=rate, epochs=1 if rate == 0.02 else 3, course="constant") for rate in rates])
    assert pack.ranked() == []
    pack.run_epoch()
    pack.keep([0])
    run(pack)
    assert list(pack.failed) == [2]
    assert set(pack.ranked()) == {0, 1, 3, 4}
    assert pack.ranked() == sorted(
        [0, 1, 3, 4], key=lambda head: (-pack.best(head)["val_accuracy"], pack.best(head)["val_loss"], head)
    )
    assert pack.ranked().index(4) == pack.ranked().index(1) + 1
    assert pack.survivors(1) == [head for head in pack.ranked() if head in (0, 3)]


def test_a_head_that_diverges_fails_alone():
    recipes = [recipe(), recipe(learning_rate=1e38, course="constant"), recipe(learning_rate=0.01)]
    pack = packed(recipes)
    rows = run(pack)
    error = pack.failed[1]
    assert isinstance(error, NonFiniteLossError)
    with pytest.raises(NonFiniteLossError) as expected_error:
        alone(recipes[1]).run_epoch()
    expected = expected_error.value
    assert (error.step, error.epoch, error.split) == (expected.step, expected.epoch, expected.split)
    assert list(pack.failed) == [1]
    assert rows[1] == []
    assert all(math.isfinite(row["val_loss"]) for head in (0, 2) for row in rows[head])
    with pytest.raises(ValueError, match="no best epoch: the"):
        pack.best_state(1)
    others = packed([recipes[0], recipes[2]])
    undisturbed = run(others)[1]
    assert [row["val_loss"] for row in rows[2]] == pytest.approx([row["val_loss"] for row in undisturbed], rel=1e-6)


def test_an_infinite_feature_fails_every_head_and_says_where():
    given = around(wobble=0)
    bad = np.random.default_rng([0, 0]).permutation(61)[17]  # seen in the third step
    given["images"].train.activations.values[bad] = np.inf
    pack = packed([recipe(), recipe(dropout=0.1)], **given)
    assert pack.run_epoch() == {}
    assert pack.finished
    assert {(error.step, error.epoch) for error in pack.failed.values()} == {(3, 1)}
    with pytest.raises(ValueError, match="nothing to train"):
        pack.run_epoch()


@pytest.mark.parametrize(
    "other",
    [
        recipe(seed=1),
        recipe(batch_size=9),
        recipe(strength=0.5),
        recipe(part="1/2"),
        recipe(Head(kind="hidden")),
        recipe().model_copy(update={"pooling": "max"}),
    ],
)
def test_heads_that_share_no_features_or_batches_are_refused(other):
    assert pack_key(other) != pack_key(recipe())
    with pytest.raises(ValueError, match="cannot share a pack"):
        packed([recipe(), other])


def test_what_a_head_does_not_read_does_not_part_a_pack():
    assert pack_key(recipe(Head(hidden_units=3))) == pack_key(recipe(Head(hidden_units=4), learning_rate=1.0))


def test_only_heads_on_pooled_features():
    images = around()["images"]
    with pytest.raises(ValueError, match="depth 0"):
        packed([recipe(depth=1)])
    with pytest.raises(ValueError, match=r"pooled features.*\(3, 4, 4\)"):
        packed([recipe()], images=replace(images, train=Labelled(InMemory(np.zeros((61, 3, 4, 4))), np.zeros(61))))
    with pytest.raises(ValueError, match="at least one"):
        packed([])
