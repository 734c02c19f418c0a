"""predict --unknown: what is like no training image is told, and of what is like them no more than was asked for."""

from __future__ import annotations

import csv
import functools
import json
import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from raysearch.activations.neighbours import Neighbours
from raysearch.cli.main import main
from raysearch.errors import InputError
from raysearch.winner.best import load_best
from raysearch.winner.best_files import write_best
from raysearch.winner.detection import detection
from raysearch.winner.shipment import Network, Shipment
from raysearch.winner.unknown import (
    REFERENCES,
    Known,
    Stranger,
    distances,
    features,
    ratios,
    references,
    typical_distance,
)
from tests.trained import CLASSES, RECIPE, classifier, picture
from tests.training.tiny import OutOfMemoryAbove

STRIPES = np.zeros((20, 24, 3), np.uint8)
STRIPES[::2] = 255


def pictures(first: int, each: int) -> np.ndarray:
    """Of each class in turn; no two have the same noise."""
    return np.stack(
        [picture(name, 3 * seed + i, (16, 16)) for seed in range(first, first + each) for i, name in enumerate(CLASSES)]
    )


trained = functools.cache(classifier)


def test_features_are_found_however_little_memory_there_is(caplog):
    children, images = dict(trained().named_children()), pictures(0, 4)
    small = nn.Sequential(OrderedDict(limit=OutOfMemoryAbove(5), **children))
    cpu = torch.device("cpu")
    np.testing.assert_allclose(features(small, images, cpu), features(trained(), images, cpu), rtol=1e-3, atol=1e-5)
    assert "out of memory" in caplog.text


def known(model: torch.nn.Sequential, new: int = 20) -> Known:
    near, far = (features(model, pictures(first, n), torch.device("cpu")) for first, n in ((0, 10), (500, new)))
    return Known.of(near, ratios(near, far))


@pytest.fixture(params=["single", "mirror", "ensemble"])
def run(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder, beside images."""
    monkeypatch.chdir(tmp_path)
    model = trained()
    networks = (Network(RECIPE, model), Network(RECIPE, model))[: 2 if request.param == "ensemble" else 1]
    shipment = Shipment(request.param, networks, request.param == "mirror")
    write_best(tmp_path / "results/one/best", shipment, CLASSES, "abc", "", known=known(model))
    Image.fromarray(picture("red", 777, (16, 16))).save("red.png")
    Image.fromarray(STRIPES).save("stripes.png")
    return tmp_path / "results/one"


# ---- the distance, and its table -----------------------------------------------------------------------------------


def test_the_distance_by_hand():
    """Five neighbours at most: of two known vectors, one at 0 and one at 90 degrees, both count."""
    near = Neighbours(np.array([[2.0, 0.0], [0.0, 3.0]], np.float32))
    found = distances(near, np.array([[5.0, 0.0], [-1.0, 0.0], [1.0, 1.0]], np.float32))
    assert found == pytest.approx([0.5, 1.5, 1 - math.sqrt(0.5)], abs=1e-6)
    assert typical_distance(near) == pytest.approx(1.0)


@given(st.floats(0.1, 50), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_how_long_vectors_are_does_not_matter(scale, seed):
    random = np.random.default_rng(seed)
    near, new = random.normal(size=(40, 6)).astype(np.float32), random.normal(size=(9, 6)).astype(np.float32)
    assert ratios(near * np.float32(scale), new) == pytest.approx(ratios(near, new * np.float32(scale)), rel=1e-3)


@given(st.lists(st.floats(0, 2), min_size=1, max_size=60), st.floats(0.001, 0.999))
@settings(max_examples=200, deadline=None)
def test_the_limit_is_the_conformal_quantile(found, rate):
    n = len(found)
    near = np.eye(3, dtype=np.float32)  # typical distance 1: ratios are distances
    rank = math.ceil((n + 1) * (1 - rate) - 1e-9)
    table = Known.of(near, np.array(found))
    if rank > n:
        with pytest.raises(InputError, match=f"there are {n}"):
            table.limit(rate)
    else:
        assert table.limit(rate) == pytest.approx(sorted(found)[max(rank, 1) - 1])


def test_few_images_are_told_how_many_it_takes():
    few = Known.of(np.eye(3, dtype=np.float32), np.linspace(0.1, 0.5, 36))
    assert few.limit(0.05) == pytest.approx(0.5, abs=0.02)
    with pytest.raises(
        InputError, match=r"needs 99 labelled images .* there are 36 \(a group counts as one\); .* promise is 0\.0271"
    ):
        few.limit(0.01)
    for wrong in (0, 1, 1.5):
        with pytest.raises(InputError, match=rf"unknown {wrong:g}: the share of false alarms must be between 0 and 1"):
            few.limit(wrong)


def test_of_groups_each_counts_as_one():
    """Four patients: one of 97 images that are all near, three of one image each that are far."""
    near, ratio = np.eye(3, dtype=np.float32), np.append(np.linspace(0.1, 0.2, 97), [0.5, 0.6, 0.7])
    table = Known.of(near, ratio, np.append(np.zeros(97, int), [1, 2, 3]))
    assert table.images == 4
    assert table.limit(0.2) == pytest.approx(0.7), "of five patients the new one may be the farthest"
    assert table.limit(0.4) == pytest.approx(0.6)
    assert table.limit(0.8) == pytest.approx(0.2)
    assert Known.of(near, ratio).limit(0.2) < 0.2
    with pytest.raises(InputError, match=r"there are 4 \(a group counts as one\)"):
        table.limit(0.1)


def test_a_table_of_many_images_is_thinned_and_never_promises_more():
    random = np.random.default_rng(0)
    table = Known.of(np.eye(3, dtype=np.float32), random.uniform(size=20_000))
    assert len(table.limits) <= 1000
    for rate in (0.2, 0.05, 0.01, 0.002):
        assert 1 - rate <= table.limit(rate) + 0.005
        assert (random.uniform(size=50_000) > table.limit(rate)).mean() <= rate + 0.004


def test_what_was_kept_from_another_network_is_scaled_by_the_typical_distance():
    """The second network sees the same, all of it twice as near: an angle's cosine distance is a quarter."""
    random = np.random.default_rng(1)
    angles, new = random.normal(0, 0.2, 400), random.normal(0, 0.3, 400)

    def seen(angle: np.ndarray, by: float) -> np.ndarray:
        return np.stack([np.cos(angle * by), np.sin(angle * by)], axis=1).astype(np.float32)

    found = ratios(seen(angles, 1), seen(new, 1))
    elsewhere = Known.of(seen(angles, 0.5), found)
    later = random.normal(0, 0.3, 4000)
    alarms = (elsewhere.distances(seen(later, 0.5)) > elsewhere.limit(0.1)).mean()
    assert alarms == pytest.approx(0.1, abs=0.03)


def test_references_are_as_many_of_each_class_as_there_are():
    labels = np.repeat([0, 1, 2], [10_000, 5000, 30])
    kept = references(labels, np.arange(len(labels)), 0)
    assert len(np.unique(kept)) == REFERENCES
    assert np.bincount(labels[kept]).tolist() == [985, 985, 30]
    assert references(labels, np.array([7, 3, 5]), 0).tolist() == [3, 5, 7]


# ---- the classifier ------------------------------------------------------------------------------------------------


def test_what_was_stored_is_read(run):
    best = load_best(run)
    again, before = best.known, known(best.network())
    assert again.vectors.dtype == np.float16
    assert np.array_equal(again.vectors, before.vectors)
    assert again.limit(0.05) == before.limit(0.05)
    assert again.images == 60


def test_false_alarms_on_new_images_are_about_as_many_as_asked_for():
    model = trained()
    table = known(model, new=150)
    for rate in (0.05, 0.2):
        stranger = Stranger(model, table, table.limit(rate), torch.device("cpu"))
        assert stranger(pictures(5000, 200)).mean() == pytest.approx(rate, abs=0.05)


def test_what_is_like_nothing_is_unknown_everywhere(run, capsys):
    given = ["predict", "one", "red.png", "stripes.png"]
    assert main([*given, "--unknown", "--json"]) == 0
    red, odd = json.loads(capsys.readouterr().out)
    assert (red["label"], red["unknown"]) == ("red", False)
    assert (odd["label"], odd["unknown"], odd["probability"]) == ("unknown", True, None)
    assert len(odd["top"]) == 3
    assert main([*given, "--unknown", "0.1"]) == 0
    assert "stripes.png  unknown: " in capsys.readouterr().out
    assert main([*given, "--unknown", "--csv", "o.csv"]) == 0
    assert "o.csv  red 1, unknown 1" in capsys.readouterr().out
    rows = list(csv.DictReader(Path("o.csv").read_text().splitlines()))
    assert [(row["label"], row["unknown"], bool(row["confidence"])) for row in rows] == [
        ("red", "false", True),
        ("unknown", "true", False),
    ]
    table = load_best(run).predict(["red.png", "stripes.png"], unknown=0.05)
    assert (table["label"].tolist(), table["unknown"].tolist()) == (["red", "unknown"], [False, True])
    assert "unknown" not in load_best(run).predict("red.png").columns
    assert main([*given, "--csv", "plain.csv"]) == 0
    assert "unknown" not in Path("plain.csv").read_text().splitlines()[0].split(",")


def test_an_unreadable_image_between_keeps_the_others_in_their_places(run):
    Path("broken.png").write_bytes(b"none")
    answers = list(load_best(run).answers(["stripes.png", "broken.png", "red.png"], unknown=0.05))
    assert [(one.answer, one.unknown) for one in answers] == [("unknown", True), (None, None), ("red", False)]
    assert not answers[0].unsure


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--unknown", "0.001"], "unknown 0.001: that needs 999 labelled images"),
        (["--unknown", "2"], "unknown 2: the share of false alarms must be between 0 and 1"),
        (["--unknown", "0.1", "0.2"], "--unknown takes one RATE, got 0.1 0.2"),
        (["--known", "k.parquet"], "--known INDEX is for --unknown RATE"),
    ],
)
def test_what_is_refused(run, capsys, flags, told):
    assert main(["predict", "one", "red.png", *flags]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_classifier_without_it_says_what_to_do(tmp_path):
    write_best(tmp_path / "best", Shipment.of(trained(), RECIPE), CLASSES, "", "", known=known(trained()))
    (tmp_path / "best" / "known.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"known\.safetensors.* cannot be read.*--resume"):
        load_best(tmp_path).predict(STRIPES, unknown=0.05)
    write_best(tmp_path / "best", Shipment.of(trained(), RECIPE), CLASSES, "", "")
    assert not (tmp_path / "best" / "known.safetensors").exists(), "it was of another network"
    with pytest.raises(InputError, match=r"not measured for this classifier .* search with --folds 3, or .* --known"):
        load_best(tmp_path).predict(STRIPES, unknown=0.05)


# ---- how well it tells ---------------------------------------------------------------------------------------------


def test_detection_by_hand():
    found = detection(np.linspace(0, 1, 101), np.array([0.5, 0.955, 2.0, 3.0]), 0.9)
    assert found["detected"] == 0.75
    assert (found["limit_false_alarms"], found["limit_detected"]) == (pytest.approx(10 / 101), 0.75)
    assert found["auroc"] == pytest.approx((50.5 + 96 + 101 + 101) / 404)
    assert detection([0.1, 0.2], [0.3], None)["limit_detected"] is None


def test_evaluate_says_how_well_other_images_are_told(run, capsys):
    for name, image in zip(CLASSES * 8, pictures(900, 8), strict=True):
        Path("photos", name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(f"photos/{name}/{len(list(Path('photos', name).iterdir()))}.png")
    Path("other").mkdir()
    random = np.random.default_rng(0)
    for number in range(9):
        Image.fromarray(np.roll(STRIPES, int(random.integers(9)), 0)).save(f"other/{number}.png")
    Path("other/broken.png").write_bytes(b"none")
    np.savez("other.npz", images=np.stack([STRIPES[:16, :16]] * 9), labels=np.zeros(9, int))
    given = ["evaluate", "one", "--data", "photos", "--split", "all", "--unknown-data"]
    assert main([*given, "other", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["unknown"]
    assert (found["source"], found["images"], found["auroc"], found["detected"]) == ("other", 9, 1.0, 1.0)
    assert found["limit_detected"] == 1.0
    assert found["limit_false_alarms"] < 0.3
    assert main([*given, "other.npz"]) == 0
    assert "Unknown images, 9 of other.npz: AUROC 1.0000; 100.0 % are told" in capsys.readouterr().out
