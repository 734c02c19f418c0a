"""Cross-validated heads: what a fold says about a head, that it decides, and that nothing leaks into it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from raysearch.errors import InputError
from raysearch.recipe import Head, Recipe
from raysearch.training.class_weights import class_weights
from raysearch.training.heads import folds as folds_module
from raysearch.training.heads.folds import FoldedPack
from raysearch.training.images import Images, Labelled
from raysearch.training.stratified import check_folds, stratified_folds
from tests.training.test_pack import EVERY_KIND, around, features, packed, recipe, run
from tests.training.tiny import CLASSES, InMemory

FOLDS = 4


def folded(recipes: list[Recipe], *, folds: int = FOLDS, **given: Any) -> FoldedPack:
    given = around() | given
    given.setdefault("still", InMemory(given["images"].train.activations.values))
    return FoldedPack(recipes, folds=folds, **given)


def with_shuffled_val_labels(given: dict[str, Any]) -> dict[str, Any]:
    """Validation images that tell nothing."""
    images = given["images"]
    labels = np.random.default_rng(5).permutation(images.val.labels)
    return given | {"images": replace(images, val=replace(images.val, labels=labels))}


def by_hand(recipes: list[Recipe], given: dict[str, Any]) -> list[list[list[dict[str, Any]]]]:
    """Rows by fold, head and epoch, from packs that know nothing of each other, over every epoch of every head."""
    train, labels = given["images"].train.activations, given["images"].train.labels
    schedules = [{"schedule": (r.schedule[0].model_copy(update={"early_stopping_epochs": None}),)} for r in recipes]
    whole = [r.model_copy(update=schedule) for r, schedule in zip(recipes, schedules, strict=True)]
    return [
        run(
            packed(
                whole,
                **given
                | {
                    "images": Images(
                        CLASSES,
                        train=Labelled(InMemory(train.values[rest], train.wobble), labels[rest]),
                        val=Labelled(InMemory(train.values[held_out]), labels[held_out]),
                    )
                },
            )
        )
        for rest, held_out in stratified_folds(FOLDS, labels, recipes[0].seed)
    ]


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "seconds"}


@pytest.mark.parametrize("head", [Head(), Head(kind="hidden", hidden_units=7)], ids=["linear", "hidden"])
def test_figures_are_those_of_packs_trained_by_hand(head):
    """Augmented views, every kind of stage: the whole pack as without folds, cv_ the mean over the folds."""
    recipes, given = [recipe(head, **changes) for changes in EVERY_KIND], around("macro_f1")
    rows, expected = run(folded(recipes, **given)), by_hand(recipes, given)
    plain = run(packed([r for r in recipes if r.schedule[0].early_stopping_epochs is None], **given))
    for place, row_lists in enumerate(rows):
        assert row_lists
        for epoch, row in enumerate(row_lists):
            of_folds = [fold[place][epoch] for fold in expected]
            for name in [name for name in of_folds[0] if name.startswith("val_")]:
                mean = np.mean([of_fold[name] for of_fold in of_folds])
                assert row[f"cv_{name.removeprefix('val_')}"] == pytest.approx(mean, rel=1e-4, abs=1e-4), name
            spread = np.std([of_fold["val_macro_f1"] for of_fold in of_folds], ddof=1)
            assert row["cv_macro_f1_std"] == pytest.approx(spread, rel=1e-4, abs=1e-4)
            assert all(type(value) in (int, float) for value in row.values())
    unstopped = [place for place, r in enumerate(recipes) if r.schedule[0].early_stopping_epochs is None]
    for place, reference in zip(unstopped, plain, strict=True):
        own = [{name: value for name, value in row.items() if not name.startswith("cv_")} for row in rows[place]]
        assert [list(row) for row in own] == [list(row) for row in reference]
        for row, other in zip(own, reference, strict=True):
            assert timeless(row) == pytest.approx(timeless(other), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_the_folds_decide_and_not_the_validation_images(metric):
    """Validation labels are shuffled, so that only the folds can tell; the tensors kept are of the epoch they chose."""
    given = with_shuffled_val_labels(around(metric))
    recipes = [recipe(learning_rate=rate, epochs=6) for rate in (1e-9, 0.3, 0.02, 0.001)]
    pack, rows, states = folded(recipes, **given), [[] for _ in recipes], [[] for _ in recipes]
    last = folded([recipe(learning_rate=r.schedule[0].learning_rate, epochs=6, keep="last") for r in recipes], **given)
    while not pack.finished:
        last.run_epoch()
        for head, row in pack.run_epoch().items():
            rows[head].append(row)
            states[head].append(last.best_state(head))

    def worth(row: dict[str, Any], split: str) -> tuple[float, float]:
        sign = 1 if metric == "loss" else -1
        return sign * row[f"{split}_{metric}"], row[f"{split}_loss"]

    chosen = [min(range(6), key=lambda epoch: worth(rows[head][epoch], "cv")) for head in range(4)]
    assert [pack.best(head)["epoch"] - 1 for head in range(4)] == chosen
    assert chosen != [min(range(6), key=lambda epoch: worth(rows[head][epoch], "val")) for head in range(4)]
    for head in range(4):
        for name, tensor in pack.best_state(head).items():
            assert torch.equal(tensor, states[head][chosen[head]][name])
    order = sorted(range(4), key=lambda head: worth(pack.best(head), "cv"))
    assert pack.survivors(1) == pack.ranked() == order
    assert order != sorted(range(4), key=lambda head: worth(pack.best(head), "val"))


def test_equal_scores_are_told_apart_by_the_cv_loss():
    """Accuracies on few images are often equal, of heads and of epochs; the validation loss is made to say nothing."""
    given = with_shuffled_val_labels(around())
    pack = folded(
        [recipe(learning_rate=1e-5 * (1 + place), epochs=4, course="constant") for place in range(3)], **given
    )
    rows, tied = run(pack), 0
    for head in range(3):
        accuracies = [row["cv_accuracy"] for row in rows[head]]
        ties = [row for row in rows[head] if row["cv_accuracy"] == max(accuracies)]
        tied += len(ties) > 1
        assert pack.best(head) == min(ties, key=lambda row: row["cv_loss"])
    assert tied, "no tie: the test shows nothing"


def test_sums_in_another_order_are_a_tie(monkeypatch):
    """Three heads whose folds say the same three accuracies, in turn: 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1."""
    pack = folded([recipe(learning_rate=rate) for rate in (0.01, 0.02, 0.03)], folds=3)
    accuracies = [0.1, 0.2, 0.3]
    for place, fold in enumerate(pack._folds):
        monkeypatch.setattr(
            fold,
            "run_epoch",
            lambda place=place: {
                head: {"val_accuracy": accuracies[(head + place) % 3], "val_loss": 3.0 - head, "seconds": 0.0}
                for head in range(3)
            },
        )
    pack.run_epoch()
    assert len({pack.best(head)["cv_accuracy"] for head in range(3)}) == 1
    assert pack.ranked() == [2, 1, 0]


def test_a_folds_heads_know_nothing_of_its_images(monkeypatch):
    """Labels and views of one fold's images are spoilt: its heads are the same to the bit, its figures are not."""
    labels = around()["images"].train.labels
    split = stratified_folds(FOLDS, labels, 0)
    monkeypatch.setattr(folds_module, "stratified_folds", lambda *_: split)
    recipes = [recipe(keep="last", class_weights="balanced", **changes) for changes in ({}, {"dropout": 0.3})]
    held_out = split[1][1]
    spoilt, other = labels.copy(), around()
    spoilt[held_out] = (spoilt[held_out] + 1) % len(CLASSES)
    other["images"].train.activations.values[held_out] += 3
    other["images"] = replace(other["images"], train=replace(other["images"].train, labels=spoilt))
    still = InMemory(around()["images"].train.activations.values)
    before, after = folded(recipes), folded(recipes, **other | {"still": still})
    rows = [run(pack) for pack in (before, after)]
    for head in range(len(recipes)):
        for fold, (one, another) in enumerate(zip(before._folds, after._folds, strict=True)):
            same = [torch.equal(one.best_state(head)[name], t) for name, t in another.best_state(head).items()]
            assert all(same) if fold == 1 else not any(same), fold
        assert rows[0][head][-1]["cv_accuracy"] > rows[1][head][-1]["cv_accuracy"]


def test_class_weights_are_those_of_the_images_trained_on():
    """One image more or less moves them, so the weights of the whole split would show."""
    pack, labels = folded([recipe(class_weights="balanced")]), around()["images"].train.labels
    for fold, (rest, _) in zip(pack._folds, stratified_folds(FOLDS, labels, 0), strict=True):
        expected = class_weights("balanced", torch.from_numpy(labels[rest]), CLASSES)
        torch.testing.assert_close(fold._terms.class_weights[0], expected)


def test_early_stopping_is_by_the_folds_and_of_all_packs_together():
    """Validation labels are shuffled: a head that went by them would stop elsewhere."""
    given = with_shuffled_val_labels(around())
    changes: list[dict[str, Any]] = [{"learning_rate": 0.3, "early_stopping_epochs": n} for n in (1, 2)]
    recipes = [recipe(epochs=12, course="constant", **change) for change in [*changes, {"learning_rate": 0.3}]]
    pack, rows = folded(recipes, **given), [[], [], []]
    while not pack.finished:
        for head, row in pack.run_epoch().items():
            rows[head].append(row)
        assert {fold.running for fold in pack._folds} == {pack.running}
    endless = [row["cv_accuracy"] for row in rows[2]]
    assert len(endless) == 12
    for head, patience in enumerate((1, 2)):
        stale = [
            end
            for end in range(patience, 12)
            if max(endless[end - patience + 1 : end + 1]) <= max(endless[: end - patience + 1])
        ]
        assert len(rows[head]) == stale[0] + 1 < 12
    by_validation = packed(recipes, **given)
    assert [len(own) for own in rows] != [len(own) for own in run(by_validation)]


def test_keep_leaves_those_that_stay_as_they_were_and_spares_the_folds():
    recipes = [recipe(dropout=dropout, learning_rate=rate) for dropout in (0.3, 0.0) for rate in (0.1, 0.01)]
    whole, halved = folded(recipes), folded(recipes)
    expected = run(whole)
    halved.run_epoch()
    kept = halved.survivors(2)
    assert len(kept) == 2
    halved.keep(kept)
    assert halved.running == tuple(sorted(kept)) == halved._folds[0].running
    rows = run(halved)
    assert halved.finished
    assert (halved.epoch, len(halved)) == (5, 4)
    for head in range(4):
        assert len(rows[head]) == (4 if head in kept else 0)
        for row, reference in zip(rows[head], expected[head][1:], strict=False):
            assert timeless(row) == pytest.approx(timeless(reference), rel=1e-4, abs=1e-4)
    assert set(halved.survivors(1)) == set(kept)
    assert set(halved.ranked()) == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="heads 0 to 3"):
        halved.keep([4])
    with pytest.raises(ValueError, match="nothing to train"):
        halved.run_epoch()


def test_a_head_that_diverges_fails_alone():
    recipes = [recipe(), recipe(learning_rate=1e38, course="constant"), recipe(learning_rate=0.01)]
    pack = folded(recipes)
    rows = run(pack)
    assert list(pack.failed) == [1]
    assert rows[1] == []
    assert set(pack.ranked()) == {0, 2}
    undisturbed = run(folded([recipes[0], recipes[2]]))
    for own, other in zip((rows[0], rows[2]), undisturbed, strict=True):
        assert len(own) == 5
        for row, reference in zip(own, other, strict=True):
            assert timeless(row) == pytest.approx(timeless(reference), rel=1e-4, abs=1e-4)


def test_a_head_that_fails_in_one_fold_only_has_failed(monkeypatch):
    """On all images both are sound; in the third fold the loss of one is infinite, in the second epoch."""
    recipes = [recipe(), recipe(learning_rate=0.01)]
    pack = folded(recipes)
    first = pack.run_epoch()
    assert sorted(first) == [0, 1]
    third = pack._folds[2]
    third._stack.weights["linear.bias"][third._order.index(1)] = math.inf
    assert list(pack.run_epoch()) == [0]
    assert list(pack.failed) == [1]
    assert pack.failed[1].epoch == 2
    assert pack.running == (0,)
    assert {fold.running for fold in pack._folds} == {(0,)}
    assert pack.ranked() == pack.survivors(1) == [0]
    assert len(run(pack)[0]) == 3


def test_an_infinite_image_fails_every_head_without_an_error():
    given = around()
    still = InMemory(given["images"].train.activations.values.copy())
    still.values[7] = math.inf  # in no training view, so only the fold that holds it out meets it
    pack = folded([recipe(), recipe(dropout=0.2)], **given, still=still)
    assert pack.run_epoch() == {}
    assert pack.finished
    assert {(error.epoch, error.split) for error in pack.failed.values()} == {(1, "validation")}
    assert pack.ranked() == []


def test_each_view_is_read_once_for_all_packs():
    given, still = around(), InMemory(around()["images"].train.activations.values)
    run(folded([recipe(epochs=3)] * 2, **given, still=still))
    assert given["images"].train.activations.views == [0, 1, 2]
    assert given["images"].val.activations.views == [0]
    assert still.views == [0] * FOLDS  # each fold reads its part
    unchanging = around(wobble=0)
    train = unchanging["images"].train.activations
    run(folded([recipe(epochs=3)], **unchanging, still=train))
    assert train.views == [0]


def test_seconds_are_a_heads_share_of_all_packs():
    pack = folded([recipe(), recipe(learning_rate=0.01)])
    for fold in pack._folds:
        fold_rows = fold.run_epoch

        def slow(fold_rows: Any = fold_rows) -> dict[int, Any]:
            return {head: row | {"seconds": 100.0} for head, row in fold_rows().items()}

        fold.run_epoch = slow  # type: ignore[method-assign]
    rows = pack.run_epoch()
    assert all(400 < row["seconds"] < 410 for row in rows.values())
    assert pack.best(0)["seconds"] == rows[0]["seconds"]


@pytest.mark.parametrize("seed", [0, 7, 2**40])
def test_folds_are_stratified_seeded_and_part_the_images(seed):
    _, labels = features(61, 1)
    folds = stratified_folds(FOLDS, labels, seed)
    assert np.array_equal(np.sort(np.concatenate([held_out for _, held_out in folds])), np.arange(61))
    for rest, held_out in folds:
        assert np.array_equal(np.sort(np.concatenate([rest, held_out])), np.arange(61))
        for label, count in enumerate(np.bincount(labels)):
            assert abs((labels[held_out] == label).sum() - count / FOLDS) < 1
    again, other = stratified_folds(FOLDS, labels, seed), stratified_folds(FOLDS, labels, seed + 1)
    assert all(np.array_equal(one[1], two[1]) for one, two in zip(folds, again, strict=True))
    assert not all(np.array_equal(one[1], two[1]) for one, two in zip(folds, other, strict=True))


def test_the_folds_follow_the_recipes_seed(monkeypatch):
    seeds: list[int] = []
    monkeypatch.setattr(
        folds_module,
        "stratified_folds",
        lambda folds, labels, seed, copies: seeds.append(seed) or stratified_folds(folds, labels, seed, copies),
    )
    folded([recipe(seed=3)])
    assert seeds == [3]


@pytest.mark.parametrize(
    ("folds", "labels", "message"),
    [
        (5, [0] * 9 + [1] * 5 + [2] * 3, "5 folds need 5 training images of every class, owl has 3: .*at most 3 folds"),
        (3, [0] * 9 + [1] * 2, "dog has 2, owl has 0: give more images, or no folds"),
        (1, [0, 1, 2], "at least 2 folds, got folds=1"),
    ],
)
def test_too_few_images_or_folds_are_refused(folds, labels, message):
    with pytest.raises(InputError, match=message):
        check_folds(folds, np.array(labels), CLASSES)
    few = Labelled(InMemory(np.zeros((len(labels), 12))), np.array(labels))
    with pytest.raises(InputError, match=message):
        folded([recipe()], folds=folds, images=replace(around()["images"], train=few))


def test_just_enough_images_are_enough():
    check_folds(5, np.repeat([0, 1, 2], 5), CLASSES)


def test_folds_are_validated_on_the_same_images_unaugmented():
    with pytest.raises(ValueError, match="61 images, augmented"):
        folded([recipe()], still=around()["images"].train.activations)
    with pytest.raises(ValueError, match="the 61 training images without augmentation, got 60 images$"):
        folded([recipe()], still=InMemory(around()["images"].train.activations.values[:60]))
