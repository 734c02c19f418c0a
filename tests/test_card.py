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
from tests.trained import RECIPE, write_pictures

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


def card(data, tmp_path, recipe=RECIPE, trainings=2):
    labels = data.test.labels
    wrong = labels.copy()
    wrong[labels == 2] = 0
    run = Run.create(tmp_path / "mine", {"space": "/home/me/spaces/own.py", "metric": "accuracy", "seed": 7})
    winners = [evaluated(wrong, labels), evaluated(labels, labels)][:trainings]
    document = evaluation_document(
        dict.fromkeys(("train", "val", "test"), winners),
        trial="t0001",
        metric="accuracy",
        best_validation=0.75,
        chosen_by=winners,
        others={"head": ("h0002", [evaluated(np.zeros_like(labels), labels)])},
    )
    shares = {"winner": np.eye(3)[wrong] * 0.7 + 0.1, "head": np.eye(3)[np.zeros_like(labels)]}
    return model_card(run, recipe, data, document, shares, shipped=0)


def test_its_head_is_the_metadata_that_the_hub_reads(data, tmp_path):
    _, head, _ = card(data, tmp_path).split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["pipeline_tag"] == "image-classification"
    assert metadata["library_name"] == "raysearch"
    (model,) = metadata["model-index"]
    (result,) = model["results"]
    assert (model["name"], result["dataset"]["name"], result["dataset"]["split"]) == ("mine", "photos", "test")
    assert result["task"]["type"] == "image-classification"
    assert {one["type"]: one["value"] for one in result["metrics"]} == pytest.approx({"accuracy": 5 / 6, "f1": 5 / 6})
    assert "license" not in metadata, "that is the owner's to say"


def test_it_compares_the_classifier_in_the_folder_with_the_others(data, tmp_path):
    text = card(data, tmp_path)
    assert "The classifier in this folder has accuracy 0.6667" in text
    assert "| the winner | t0001 | 0.8333 ± 0.2357 |" in text
    # Right in two of three classes, where always saying the first is right in one.
    (against,) = re.findall(r"\| the best head alone \| h0002 \| 0\.3333 \| 0\.3333 \| (\S+) points", text)
    assert against == "+33.3"
    assert "The search flattered it by -0.0833" in text
    assert "Most often taken: red for blue|sky (" in text
    assert "0.800 on average, and 0.667 of its answers are right" in text


def test_of_one_training_there_is_no_spread(data, tmp_path):
    text = card(data, tmp_path, trainings=1)
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
