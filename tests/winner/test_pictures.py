"""The pictures of a search: they show what they say, stay small, and the page takes as many as it has room for."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from raysearch.data.dataset import Dataset
from raysearch.data.pixels import load
from raysearch.models.boundary import build_classifier, prepare
from raysearch.pipeline.leave import write_run_pictures
from raysearch.reporting.gallery import gallery
from raysearch.run import Run
from raysearch.space.load import load_space
from raysearch.winner import pictures
from raysearch.winner.best_files import write_best
from raysearch.winner.pictures import shown_strengths, surest_mistakes, write_pictures
from raysearch.winner.shipment import Confidence, Shipment
from tests.trained import CLASSES, RECIPE, classifier, picture
from tests.trained import write_pictures as write_photos

ROOM = 1_000_000
STRENGTHS = [0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """Two of its validation images lie in the wrong folder."""
    root = tmp_path_factory.mktemp("photos")
    for split, n in (("train", 12), ("val", 4), ("test", 2)):
        write_photos(root / split, n, first_seed=100 * n)
    Image.fromarray(picture("blue", 999)).save(root / "val" / "red" / "odd.png")
    Image.fromarray(picture("red", 999)).save(root / "val" / "green" / "strange.png")
    return load(str(root), image_size=16, progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory, dataset) -> Path:
    folder, model = tmp_path_factory.mktemp("run"), classifier()
    write_best(folder / "best", Shipment.of(model, RECIPE), CLASSES, "abc", "")
    with torch.inference_mode():
        parts = [model(prepare(np.asarray(split.pixels), torch.device("cpu"))) for split in (dataset.val, dataset.test)]
    frame = pd.DataFrame({"split": ["val"] * len(dataset.val) + ["test"] * len(dataset.test)})
    frame["winner"] = list(torch.softmax(torch.cat(parts), dim=1).numpy())
    frame.to_parquet(folder / "predictions.parquet")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "mistake-11.webp").write_bytes(b"of an earlier end")
    write(folder, dataset)
    return folder


def write(folder: Path, dataset: Dataset, trained_on_val: bool = False) -> None:
    device = torch.device("cpu")
    write_pictures(folder, dataset, STRENGTHS, seed=0, device=device, trained_on_val=trained_on_val)


def index_of(run: Path) -> dict:
    return json.loads((run / "pictures" / "pictures.json").read_text())


def pixels(run: Path, name: str) -> np.ndarray:
    with Image.open(run / "pictures" / name) as image:
        return np.asarray(image.convert("RGB")).astype(float)


def test_the_mistakes_are_the_images_in_the_wrong_folder(run, dataset):
    index = index_of(run)
    assert index["mistaken"] == 2
    assert index["of"] == len(dataset.val) == 14
    told = {(Path(one["path"]).name, one["true"], one["predicted"]) for one in index["mistakes"]}
    assert told == {("odd.png", "red", "blue"), ("strange.png", "green", "red")}
    assert all(one["probability"] > 1 / 3 for one in index["mistakes"])


def test_a_mistake_is_shown_beside_where_its_class_was_seen(run, dataset):
    one = index_of(run)["mistakes"][0]
    both = pixels(run, one["file"])
    height, width, _ = both.shape
    assert width == 2 * height == one["width"]
    [place] = [i for i, path in enumerate(dataset.val.paths) if path == one["path"]]
    factor = height // 16
    image = np.asarray(dataset.val.pixels[place]).repeat(factor, axis=0).repeat(factor, axis=1)
    plain, explained = (np.abs(half - image).mean() for half in (both[:, :height], both[:, height:]))
    assert plain < 15  # WebP and its colours at half the resolution
    assert explained > 2 * plain


def test_what_the_network_learned_is_shown_of_its_filters_blocks_and_first_mistakes(run):
    learned, mistakes = index_of(run)["learned"], index_of(run)["mistakes"]
    told = [one["what"] for one in learned]
    assert told[:2] == ["the 32 first filters", "what excites 4 channels of block1"]
    assert told[4:] == [
        "what excites 4 channels of block4",
        *(f"taken for {one['predicted']}: the image, Grad-CAM, occlusion" for one in mistakes),
        told[-1],
    ]
    assert len(told) == 8, "two mistakes, and one that is none"
    three = pixels(run, learned[5]["file"])
    assert three.shape[1] == 3 * three.shape[0] == learned[5]["width"]


def test_a_network_that_cannot_be_drawn_has_the_other_pictures(tmp_path, run, dataset, monkeypatch, caplog):
    def refuse(*_, **__):
        raise RuntimeError("a size that it does not take")

    monkeypatch.setattr(pictures, "activation_maxima", refuse)
    write(run, dataset)
    assert [one["what"] for one in index_of(run)["learned"]] == ["the 32 first filters"]
    assert "not all pictures of what was learned were made (RuntimeError: a size" in caplog.text
    assert index_of(run)["mistakes"]


def test_the_same_images_change_more_at_a_higher_strength(run):
    augmented = index_of(run)["augmented"]
    assert [one["strength"] for one in augmented] == STRENGTHS
    plain, *others = (pixels(run, one["file"]) for one in augmented)
    changes = [np.abs(other - plain).mean() for other in others]
    assert 0 < changes[0] < changes[1]


def test_every_class_has_a_strip_and_nothing_else_is_left_in_the_folder(run):
    index = index_of(run)
    assert [(one["class"], one["images"]) for one in index["classes"]] == [(name, 12) for name in CLASSES]
    named = {one["file"] for kind in ("augmented", "mistakes", "classes", "learned") for one in index[kind]}
    assert {path.name for path in (run / "pictures").iterdir()} == named | {"pictures.json"}
    assert sum(path.stat().st_size for path in (run / "pictures").iterdir()) < 200_000


def test_the_page_says_what_is_on_the_pictures(run, dataset):
    found = gallery(run, ROOM)
    assert found is not None
    assert [one.caption for one in found.augmented] == ["as they are", "strength 0.5", "strength 1"]
    assert any("red, taken for blue (" in one.caption and "odd.png" in one.caption for one in found.mistakes)
    assert found.about_mistakes == "2 of 14 validation images are taken for another class"
    assert found.left_out == 0
    data = found.classes[0].source.removeprefix("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.width == found.classes[0].width
    write(run, dataset, trained_on_val=True)
    again = gallery(run, ROOM)
    assert again is not None
    assert "was trained on them too" in again.about_mistakes


def test_the_page_takes_no_more_than_it_has_room_for(run):
    whole = gallery(run, ROOM)
    assert whole is not None
    shown = [*whole.augmented, *whole.mistakes, *whole.classes, *whole.learned]
    room = sum(len(one.source) for one in shown) // 2
    half = gallery(run, room)
    assert half is not None
    kept = [*half.augmented, *half.mistakes, *half.classes, *half.learned]
    assert sum(len(one.source) for one in kept) <= room
    assert half.left_out == len(shown) - len(kept) > 0


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_a_run_without_whole_pictures_has_a_page_without_them(tmp_path, text):
    if text is not None:
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures" / "pictures.json").write_text(text)
    assert gallery(tmp_path, ROOM) is None


def test_the_surest_mistake_comes_first_and_right_answers_never():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [1.0, 0.0]])
    likeliest = probabilities.argmax(axis=1)
    assert surest_mistakes(probabilities, np.array([0, 1, 0, 1]), likeliest).tolist() == [3, 2, 1]
    assert surest_mistakes(probabilities, np.array([0, 0, 1, 0]), likeliest).tolist() == []


def test_of_two_classes_the_mistakes_are_those_by_the_shipped_threshold(tmp_path):
    for split, n in (("train", 3), ("val", 2), ("test", 1)):
        write_photos(tmp_path / "photos" / split, n, first_seed=100 * n)
        shutil.rmtree(tmp_path / "photos" / split / "blue")
    dataset = load(str(tmp_path / "photos"), image_size=16, progress=False)
    shipped = Shipment.of(build_classifier(RECIPE, 2).eval(), RECIPE)
    shipped = dataclasses.replace(shipped, confidence=Confidence(threshold=0.2))
    write_best(tmp_path / "best", shipped, dataset.classes, "abc", "")
    frame = pd.DataFrame({"split": ["val"] * 4, "winner": [[0.9, 0.1], [0.7, 0.3]] * 2})
    frame.to_parquet(tmp_path / "predictions.parquet")
    write(tmp_path, dataset)
    told = [(one["true"], one["predicted"]) for one in index_of(tmp_path)["mistakes"]]
    assert sorted(told) == [("green", "red"), ("red", "green")]


@pytest.mark.parametrize("name", ["fine_tune", "unfreeze_schedule", "feature_extraction", "baseline"])
def test_the_strengths_of_a_space_begin_with_none_and_are_few(name):
    strengths = shown_strengths(load_space(name, fixed={"backbone": "densenet121", "image_size": 32}))
    assert strengths[0] == 0.0
    assert strengths == sorted(set(strengths))
    assert len(strengths) <= 6
    if name == "fine_tune":
        assert strengths == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_pictures_that_cannot_be_made_do_not_make_a_search_fail(tmp_path, dataset, caplog):
    settings = SimpleNamespace(seed=0, device="cpu")
    space = load_space("fine_tune", fixed={"backbone": "densenet121", "image_size": 32})
    job = SimpleNamespace(dataset=dataset, space=space, settings=settings, machine=SimpleNamespace(elsewhere=False))
    write_run_pictures(job, Run.create(tmp_path / "run", {}), trained_on_val=False)  # it has no best/
    assert "the pictures of the report were not made (InputError: no trained classifier" in caplog.text
