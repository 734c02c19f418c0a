"""Finished models are measured in eval mode and fp32, with the training loop's metrics, in their own label order."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import nn

from raysearch.data.augment import Augmenter
from raysearch.data.dataset import Split
from raysearch.data.value_range import PixelRange
from raysearch.errors import InputError
from raysearch.recipe import Augmentation
from raysearch.training.metrics import classification_metrics
from raysearch.winner.best import load_best
from raysearch.winner.best_files import write_best
from raysearch.winner.dataset import dataset_for
from raysearch.winner.evaluate import (
    detailed_metrics,
    evaluate_model,
    evaluation_document,
    over_models,
    spread,
)
from raysearch.winner.shipment import Shipment
from tests.trained import CLASSES, RECIPE, classifier, picture, write_pictures
from tests.training.tiny import OutOfMemoryAbove


@pytest.fixture(scope="module")
def model():
    return classifier()


@pytest.fixture(scope="module")
def split():
    pixels = np.stack([picture(name, 50 + i, (16, 16)) for i in range(10) for name in CLASSES])
    return Split(pixels, np.tile(np.arange(3), 10), tuple(f"{i}.png" for i in range(30)))


@pytest.fixture
def best(tmp_path, model):
    write_best(tmp_path / "best", Shipment.of(model, RECIPE), CLASSES, "abc", "")
    return load_best(tmp_path / "best")


def test_out_of_memory_halves_the_batch_and_keeps_the_figures(model, split, caplog):
    whole = evaluate_model(model, split, CLASSES)
    small = evaluate_model(nn.Sequential(OutOfMemoryAbove(8), model), split, CLASSES)
    np.testing.assert_allclose(small.probabilities, whole.probabilities, rtol=1e-4)
    assert "out of memory" in caplog.text


def test_images_are_scaled_by_the_range_of_training(tmp_path, model, caplog):
    """The new images' own values would say 8 bits: 60 would be 60, and is 60 * 255 / 4095 = 4."""
    for name in CLASSES:
        (tmp_path / "new" / name).mkdir(parents=True)
        for i in range(7):
            Image.fromarray(np.full((16, 16), 60 + i, np.uint16)).save(tmp_path / "new" / name / f"{i}.png")
    seen = {}
    for kept in (PixelRange(0, 4095), None):
        write_best(tmp_path / "best", Shipment.of(model, RECIPE), CLASSES, "", "", pixel_range=kept)
        dataset = dataset_for(load_best(tmp_path / "best"), str(tmp_path / "new"))
        seen[kept] = {
            path: int(np.asarray(dataset.train.pixels)[k].max()) for k, path in enumerate(dataset.train.paths)
        }
    assert set(seen[PixelRange(0, 4095)].values()) == {4}
    assert set(seen[None].values()) == {60 + int(path[-5]) for path in seen[None]}
    assert "the classifier was trained on 8: the range 0 to 255 is taken" in caplog.text


@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 10_000))
def test_the_figures_are_the_training_loops_and_scikit_learns(n_classes, n, seed):
    rng = np.random.default_rng(seed)
    logits, labels = torch.tensor(rng.normal(size=(n, n_classes))), rng.integers(0, n_classes, n)
    names = [f"class {i}" for i in range(n_classes)]
    found = detailed_metrics(logits, labels, names)
    loop = classification_metrics(logits, torch.tensor(labels), names)
    assert {k: found[k] for k in ("loss", "accuracy", "macro_f1")} == {
        k: loop[k] for k in ("loss", "accuracy", "macro_f1")
    }
    predicted = logits.argmax(dim=1).numpy()
    theirs = precision_recall_fscore_support(labels, predicted, labels=range(n_classes), zero_division=0)
    for kind, values in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        assert np.allclose([found["per_class"][name][kind] for name in names], values)
    assert found["confusion"] == confusion_matrix(labels, predicted, labels=range(n_classes)).tolist()
    json.dumps(found)


def test_batches_do_not_matter_and_probabilities_come_in_the_splits_order(model, split):
    whole, pieces = (evaluate_model(model, split, CLASSES, batch_size=size) for size in (256, 7))
    assert whole.metrics["accuracy"] == 1.0
    assert np.allclose(whole.probabilities, pieces.probabilities, atol=1e-6)
    assert whole.probabilities.shape == (30, 3)
    assert (whole.probabilities.argmax(axis=1) == split.labels).all()


def test_it_measures_in_eval_mode_and_puts_every_mode_back(model, split):
    expected = evaluate_model(model, split, CLASSES).metrics
    model.train()
    model[0].norm.eval()
    statistics = model[1].norm.running_mean.clone()
    try:
        assert evaluate_model(model, split, CLASSES).metrics == expected
        assert model[1].norm.training
        assert not model[0].norm.training
        assert torch.equal(model[1].norm.running_mean, statistics)
    finally:
        model.eval()


def test_it_measures_in_fp32_under_anybodys_autocast(model, split):
    expected = evaluate_model(model, split, CLASSES).metrics
    with torch.autocast("cpu", torch.bfloat16):
        assert evaluate_model(model, split, CLASSES).metrics == expected


def test_augmented_views_are_those_that_training_sees(model, split):
    augmenter = Augmenter(Augmentation(), 1.0, 3)
    seen = Split(augmenter(split.pixels, np.arange(30), 2), split.labels, split.paths)
    there = evaluate_model(model, split, CLASSES, augment=augmenter, view=2, batch_size=7)
    assert np.allclose(there.probabilities, evaluate_model(model, seen, CLASSES).probabilities, atol=1e-6)


def test_an_empty_split_is_refused(model, split):
    with pytest.raises(InputError, match="no images"):
        evaluate_model(model, Split(split.pixels[:0], split.labels[:0], ()), CLASSES)


def test_spread_is_the_samples_and_unknown_for_one():
    assert spread([1.0, 2.0, 3.0]) == {"mean": 2.0, "std": 1.0, "values": [1.0, 2.0, 3.0]}
    assert spread([0.5]) == {"mean": 0.5, "std": None, "values": [0.5]}
    assert spread([math.nan, 1.0])["std"] is None


def test_the_document_has_the_winner_its_optimism_and_the_others(model, split):
    good = evaluate_model(model, split, CLASSES).metrics
    wrong = evaluate_model(model, Split(split.pixels, (split.labels + 1) % 3, split.paths), CLASSES).metrics
    document = evaluation_document(
        {"train": [good, good], "val": [good, wrong], "test": [good, wrong]},
        trial="t0003",
        metric="accuracy",
        best_validation=0.75,
        chosen_by=[good, wrong],
        others={"default": ("t0000", [wrong]), "head": ("h0001", [good])},
    )
    assert document["test"]["accuracy"] == {"mean": 0.5, "std": pytest.approx(math.sqrt(0.5)), "values": [1.0, 0.0]}
    assert document["test"]["per_class"]["red"]["recall"]["values"] == [1.0, 0.0]
    assert document["test"]["per_class"]["red"]["support"] == 10
    assert np.sum(document["test"]["confusion"]) == 30
    assert document["optimism"] == 0.25
    assert document["others"]["default"]["test"]["accuracy"]["mean"] == 0.0
    assert document["others"]["head"]["trial"] == "h0001"
    json.dumps(document, allow_nan=False)


def test_optimism_of_a_metric_of_one_class(model, split):
    good = evaluate_model(model, split, CLASSES).metrics
    document = evaluation_document(
        {"val": [good]}, trial="t", metric="recall:red", best_validation=0.75, chosen_by=[good], others={}
    )
    assert document["optimism"] == -0.25
    half = evaluation_document(
        {"val": [good]},
        trial="t",
        metric="accuracy",
        best_validation=0.75,
        chosen_by=[{**good, "accuracy": 0.0}],
        others={},
    )
    assert half["optimism"] == 0.75, "on the images that chose, which may be a part of the validation images"


def test_a_figure_that_not_all_models_have_is_left_out():
    common = {"accuracy": 1.0, "per_class": {}, "confusion": [[1]]}
    assert "auroc" not in over_models([{**common, "auroc": 0.5}, common])


def test_labels_of_another_source_are_matched_by_name(best, tmp_path):
    """A source that lacks a class numbers the others differently; red must stay red."""
    source = write_pictures(tmp_path / "two", 8, ("blue", "red"), first_seed=100)
    dataset = dataset_for(best, str(source))
    assert dataset.classes == CLASSES
    assert set(dataset.test.labels.tolist()) == {0, 2}
    found = evaluate_model(best.model(), dataset.train, best.labels).metrics
    assert found["accuracy"] == 1.0
    assert found["per_class"]["green"]["support"] == 0


def test_an_unknown_class_is_refused_by_name(best, tmp_path):
    source = write_pictures(tmp_path / "new", 6, ("blue", "red"))
    (source / "red").rename(source / "violet")
    with pytest.raises(InputError, match="does not know: violet; it knows blue, green, red"):
        dataset_for(best, str(source))
