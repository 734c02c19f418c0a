"""The model card says what the evaluation says, can be read by machines, and tells nothing of its machine."""

from __future__ import annotations

import re

import numpy as np
import pytest
import yaml

from raysearch.data.pixels import load
from raysearch.recipe import Augmentation, Recipe, Stage
from raysearch.run import Run
from raysearch.winner.card import model_card
from raysearch.winner.evaluate import evaluation_document
from raysearch.winner.shipment import Confidence, Shipment
from tests.reporting.shipped import KEPT
from tests.trained import RECIPE, classifier, write_pictures

CLASSES = ("blue|sky", "green", "red")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_pictures(tmp_path_factory.mktemp("private") / "photos", 10)
    (folder / "blue").rename(folder / CLASSES[0])
    return load(str(folder), image_size=16)


def evaluated(predicted, labels):
    """The metrics of answers, as evaluate_model gives them; what the card reads of them."""
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (labels, predicted), 1)
    row = {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 1}
    accuracy = float((predicted == labels).mean())
    figures = {"accuracy": accuracy, "macro_f1": accuracy}
    return {**figures, "per_class": dict.fromkeys(CLASSES, row), "confusion": confusion.tolist()}


def card(data, tmp_path, recipe=RECIPE, seeds=2, threshold=None, **about):
    """The card of a classifier that takes red for blue; `about` says more of what is shipped."""
    labels = data.test.labels
    wrong = labels.copy()
    wrong[labels == 2] = 0
    run = Run.create(tmp_path / "mine", {"space": "/home/me/spaces/own.py", "metric": "accuracy", "seed": 7})
    run.update_info(weights={"origin": "timm/net (Hugging Face Hub)", "reason": "found", "license": "cc-by-nc-4.0"})
    run.append(*KEPT)
    winners = [evaluated(wrong, labels), evaluated(labels, labels)][:seeds]
    document = evaluation_document(
        dict.fromkeys(("train", "val", "test"), winners),
        trial="t0001",
        metric="accuracy",
        best_validation=0.75,
        chosen_by=winners,
        others={"head": ("h0002", [evaluated(np.zeros_like(labels), labels)])},
    )
    shares = {"winner": np.eye(3)[wrong] * 0.7 + 0.1, "head": np.eye(3)[np.zeros_like(labels)]}
    shipment = Shipment.of(classifier(), recipe)
    figures = {
        "kind": shipment.kind,
        "cost": 1,
        "temperature": 1.0,
        "threshold": threshold,
        "test": winners[0],
        "calibration_error": {"before": 0.083, "after": 0.021},
    }
    document |= {"shipped": figures | about, "refits": seeds}
    if about:
        known = Confidence(about["temperature"], threshold, None, about["images"])
        networks = shipment.networks * (2 if about["kind"] == "ensemble" else 1)
        shipment = Shipment(about["kind"], networks, about["kind"] == "mirror", known)
    return model_card(run, shipment, data, document, shares)


def test_its_head_is_the_metadata_that_the_hub_reads(data, tmp_path):
    _, head, _ = card(data, tmp_path).split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["pipeline_tag"] == "image-classification"
    assert metadata["library_name"] == "raysearch"
    (model,) = metadata["model-index"]
    (result,) = model["results"]
    assert (model["name"], result["dataset"]["name"], result["dataset"]["split"]) == ("mine", "photos", "test")
    assert result["task"]["type"] == "image-classification"
    assert {one["type"]: one["value"] for one in result["metrics"]} == pytest.approx({"accuracy": 4 / 6, "f1": 4 / 6})
    assert "license" not in metadata, "that is the owner's to say"


def test_it_compares_the_classifier_in_the_folder_with_the_others(data, tmp_path):
    text = card(data, tmp_path)
    assert "The classifier in this folder has accuracy 0.6667 [" in text
    assert re.search(r"^\| shipped: a single training \| t0001 \| 1 \| 0\.6667 \[", text, re.MULTILINE)
    assert "| single trainings with fresh seeds | t0001 | 1 | 0.8333 ± 0.2357 |" in text
    # Right in two of three classes, where always saying the first is right in one.
    (against,) = re.findall(r"\| the best head alone \| h0002 \| 1 \| 0\.3333 \| 0\.3333 \| (\S+) points", text)
    assert against == "+33.3"
    assert "The search flattered it by -0.0833" in text
    assert "Most often taken: red for blue|sky (" in text
    assert "0.800 on average, and 0.667 of its answers are right" in text


def test_of_one_training_there_is_no_spread(data, tmp_path):
    text = card(data, tmp_path, seeds=1)
    assert "±" not in text.partition("## Limits")[0]


def test_the_table_of_classes_has_every_class_with_its_images(data, tmp_path):
    text = card(data, tmp_path)
    train = np.bincount(data.train.labels)
    assert re.search(rf"^\| blue\\\|sky \| 0\.5000.*\| 1 \| {train[0]} \|$", text, re.MULTILINE)
    assert all(f"| {name} | " in text for name in CLASSES[1:])


def test_it_tells_no_folder_of_the_machine(data, tmp_path):
    text = card(data, tmp_path)
    assert "photos: " in text
    assert "space own" in text
    assert str(tmp_path) not in text
    assert "private" not in text
    assert "/home/me" not in text


def test_it_says_under_which_licence_the_weights_are_that_it_started_from(data, tmp_path):
    text = card(data, tmp_path)
    assert "from timm/net (Hugging Face Hub) weights" in text
    assert "The licence of those weights, as far as it is stated with them: cc-by-nc-4.0." in text


def test_it_says_what_each_stage_was_trained_with(data, tmp_path):
    stages = (Stage(depth=0, epochs=3), Stage(depth=1, epochs=2, inherit=0.5, strength=0.5))
    recipe = RECIPE.model_copy(update={"schedule": stages, "augmentation": Augmentation(flip=0.0)})
    text = card(data, tmp_path, recipe=Recipe.model_validate(recipe.model_dump()))
    assert "0.5 of the last" in text
    assert "flips with probability 0," in text
    assert "trained without flips" in text
    assert "--tta" not in text
    (tmp_path / "plain").mkdir()
    plain = card(data, tmp_path / "plain")
    assert "No augmentation." in plain
    assert "--tta" in plain


PROMISES = [
    {"error": 0.01, "confidence": None, "coverage": None, "test_coverage": None, "test_error": None},
    {"error": 0.05, "confidence": 0.91, "coverage": 0.622, "test_coverage": 0.6, "test_error": 0.031},
]
KNOWN = {"temperature": 1.31, "images": 2000, "trainings": 3, "promises": PROMISES}


def test_it_says_what_is_shipped_and_how_it_was_chosen(data, tmp_path):
    text = card(data, tmp_path, kind="averaged", **KNOWN)
    assert "It is the average of 3 trainings; a prediction costs 1 pass through a network." in text
    assert "Its tensors are the means of those of the trainings" in text
    assert "Final comparison on 3 folds of all labelled images: t0000 against t0003, t0005. t0000 is kept" in text


def test_it_says_how_an_ensemble_and_a_mirrored_view_are_put_together(data, tmp_path):
    members = [{"trial": "t0000", "weight": 0.75, "networks": 1}, {"trial": "t0003", "weight": 0.25, "networks": 1}]
    text = card(data, tmp_path, kind="ensemble", members=members, **KNOWN | {"trainings": 2})
    assert "an ensemble of 2 networks; a prediction costs 2 passes" in text
    assert "1 of t0000's recipe (0.75 of the mean), 1 of t0003's recipe (0.25 of the mean)" in text
    assert "those of the others are in labels.json" in text
    (tmp_path / "other").mkdir()
    mirrored = card(data, tmp_path / "other", kind="mirror", **KNOWN)
    assert "over an image and its mirror image" in mirrored
    assert "--tta" not in mirrored, "it is done already"


def test_it_says_how_sure_the_classifier_may_be(data, tmp_path):
    text = card(data, tmp_path, kind="averaged", **KNOWN)
    assert "A temperature of 1.310 was fitted out of fold on 2000 images" in text
    assert "8.3 % before, 2.1 % after" in text
    assert "| 1 % | too few images to promise it |  |  |  |" in text
    assert "| 5 % | 0.910 | 62.2 % | 60.0 % | 3.1 % |" in text
    assert "the network's own, over a temperature" in text


def test_where_nothing_is_known_out_of_fold_it_promises_nothing(data, tmp_path):
    text = card(data, tmp_path)
    assert "no temperature was fitted, and no error can be promised" in text
    assert "not calibrated: on the test images" in text
    assert "--abstain" not in text
