"""`best/` is enough to predict with, gives what the trained classifier gave, and says when it is broken."""

from __future__ import annotations

import errno
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from raysearch.data.value_range import PixelRange
from raysearch.errors import InputError
from raysearch.models.boundary import prepare
from raysearch.recipe import Augmentation, Head, Recipe, Stage
from raysearch.run import Run
from raysearch.winner.answers import find_images, write_csv
from raysearch.winner.best import load_best
from raysearch.winner.best_files import write_best
from raysearch.winner.shipment import Shipment
from tests.trained import CLASSES, RECIPE, classifier, picture, write_pictures


@pytest.fixture(scope="module")
def model():
    return classifier()


@pytest.fixture
def best_folder(tmp_path, model):
    folder = tmp_path / "best"
    write_best(folder, Shipment.of(model, RECIPE), CLASSES, "abc", "# A model")
    return folder


def test_what_is_read_is_bit_for_bit_what_was_written(best_folder, model):
    best = load_best(best_folder)
    inputs = prepare(picture("red", 1, (16, 16))[None], torch.device("cpu"))
    assert best.recipe == RECIPE
    assert best.labels == CLASSES
    assert best.info["weights_digest"] == "abc"
    assert not best.model().training
    with torch.inference_mode():
        assert torch.equal(best.model()(inputs), model(inputs))


def test_the_files_can_be_read_without_us(best_folder):
    assert sorted(p.name for p in best_folder.iterdir()) == [
        "README.md",
        "labels.json",
        "model.safetensors",
        "recipe.json",
    ]
    assert json.loads((best_folder / "labels.json").read_text())["classes"] == list(CLASSES)
    assert json.loads((best_folder / "recipe.json").read_text())["backbone"] == "simple_cnn"
    assert all(t.dtype in (torch.float32, torch.int64) for t in load_file(best_folder / "model.safetensors").values())


def test_half_precision_is_stored_as_fp32(tmp_path, model):
    import copy

    write_best(tmp_path / "best", Shipment.of(copy.deepcopy(model).half(), RECIPE), CLASSES, "", "")
    assert load_best(tmp_path / "best").network()[0].conv.weight.dtype == torch.float32


def test_best_is_found_in_the_run_folder_and_can_be_moved_away(best_folder, tmp_path):
    run = Run.create(tmp_path / "run", {})
    shutil.move(best_folder, run.folder / "best")
    assert run.best.labels == CLASSES
    assert run.predict(picture("green", 3))["label"].tolist() == ["green"]
    assert load_best(run.folder).labels == CLASSES


def test_it_takes_paths_folders_arrays_and_pillow_images_in_one_go(best_folder, tmp_path):
    folder = write_pictures(tmp_path / "new", 2)
    table = load_best(best_folder).predict(
        [str(folder / "red" / "000.png"), folder, picture("blue", 9), Image.fromarray(picture("green", 9))]
    )
    assert table["label"].tolist() == ["red", "blue", "blue", "green", "green", "red", "red", "blue", "green"]
    assert np.allclose(table[[f"p_{name}" for name in CLASSES]].sum(axis=1), 1)
    assert np.allclose(table["probability"], table[[f"p_{name}" for name in CLASSES]].max(axis=1))
    assert table["image"].iloc[-1] == "image 8"
    assert table["error"].isna().all()


def test_an_unreadable_image_is_reported_and_the_others_are_predicted(best_folder, tmp_path):
    folder = write_pictures(tmp_path / "new", 3)
    (folder / "blue" / "001.png").write_bytes(b"not an image")
    whole = (folder / "red" / "001.png").read_bytes()
    (folder / "red" / "001.png").write_bytes(whole[: len(whole) // 2])
    best = load_best(best_folder)
    answers = list(best.answers(find_images(folder), batch_size=2))
    assert [answer.error is None for answer in answers] == [True, False, True, True, True, True, True, False, True]
    good = [answer for answer in answers if answer.error is None]
    assert all(answer.top(1)[0][0] in answer.image for answer in good)  # none slipped into its neighbour's place
    assert [len(answer.top(2)) for answer in good] == [2] * 7
    assert best.predict(folder)["error"].notna().sum() == 2


def test_a_batch_in_one_array_is_as_many_images(best_folder):
    batch = np.stack([picture(name, 5) for name in ("red", "blue")])
    assert load_best(best_folder).predict(batch)["label"].tolist() == ["red", "blue"]


def test_the_range_of_training_is_kept_and_used(tmp_path, model):
    """12 bits: each image is scaled by 4095, whatever its own largest value is."""
    write_best(tmp_path / "best", Shipment.of(model, RECIPE), CLASSES, "", "", pixel_range=PixelRange(0, 4095))
    kept = json.loads((tmp_path / "best" / "labels.json").read_text())["preprocessing"]["range"]
    assert kept == {"low": 0, "high": 4095}
    best = load_best(tmp_path / "best")
    eight = picture("red", 1, (16, 16)) // 2  # no value near the white of 12 bits
    Image.fromarray(eight[..., 0].astype(np.uint16) * 16).save(tmp_path / "deep.png")
    assert np.abs(best.pixels(tmp_path / "deep.png") - eight[..., :1].astype(int)).max() <= 1
    deep = best.pixels(eight.astype(np.uint16) * 16)
    assert np.array_equal(deep, np.rint(eight * (16 * 255 / 4095)))
    assert np.array_equal(best.pixels(eight), eight)


def test_values_that_leave_white_open_are_refused_where_no_range_is_known(best_folder):
    """A model of 8-bit images, or one whose labels.json an older version wrote: nothing is stretched by itself."""
    info = json.loads((best_folder / "labels.json").read_text())
    del info["preprocessing"]["range"]
    (best_folder / "labels.json").write_text(json.dumps(info))
    best, eight = load_best(best_folder), picture("red", 1, (16, 16))
    assert np.array_equal(best.pixels(eight.astype(np.uint16) * 257), eight)
    assert np.array_equal(best.pixels((eight / 255).astype(np.float32)), eight)
    answers = list(best.answers([eight.astype(np.uint16) * 16, (eight / 127.5 - 1).astype(np.float32), eight]))
    assert ["save it with 8 bits" in (answer.error or "") for answer in answers] == [True, True, False]


def test_inputs_are_what_the_model_takes(best_folder, tmp_path):
    folder = write_pictures(tmp_path / "new", 1)
    best = load_best(best_folder)
    with torch.inference_mode():
        shares = torch.softmax(best.model()(best.inputs([folder, picture("red", 2)])), dim=1)
    expected = best.predict([folder, picture("red", 2)])[[f"p_{name}" for name in CLASSES]]
    assert np.allclose(shares.numpy(), expected, atol=1e-6)
    (folder / "red" / "000.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"000\.png cannot be read"):
        best.inputs([picture("red", 2), folder])


def test_batches_do_not_change_the_order_or_the_answers(best_folder, tmp_path):
    folder = write_pictures(tmp_path / "new", 4)
    best = load_best(best_folder)
    one, many = best.predict(folder, batch_size=1), best.predict(folder, batch_size=64)
    assert one["image"].tolist() == many["image"].tolist()
    assert np.allclose(one["probability"], many["probability"], atol=1e-6)


def test_tta_is_the_mean_over_the_image_and_its_mirror_image(best_folder):
    best = load_best(best_folder)
    image = np.concatenate([picture("red", 1, (16, 8)), picture("blue", 1, (16, 8))], axis=1)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    columns = [f"p_{name}" for name in CLASSES]
    plain, averaged = best.predict([image, mirrored])[columns], best.predict([image, mirrored], tta=True)[columns]
    assert not np.allclose(plain.iloc[0], plain.iloc[1], atol=1e-4)
    assert np.allclose(averaged, [plain.mean(), plain.mean()], atol=1e-6)


def test_tta_is_refused_where_a_mirrored_image_may_be_another_class(tmp_path, model):
    never = RECIPE.model_copy(update={"augmentation": Augmentation(flip=0)})
    write_best(tmp_path / "best", Shipment.of(model, never), CLASSES, "", "")
    best = load_best(tmp_path / "best")
    assert len(best.predict(picture("red", 1))) == 1
    with pytest.raises(InputError, match=r"augmentation\.flip = 0"):
        best.answers([picture("red", 1)], tta=True)


def test_of_many_images_two_batches_are_in_memory(best_folder, tmp_path):
    """A folder of any size is predicted: images are read when their turn comes, and not kept."""
    read = []

    class Listed(list):
        def __getitem__(self, key):
            taken = super().__getitem__(key)
            read.extend(taken if isinstance(key, slice) else [])
            return taken

    answers = load_best(best_folder).answers(Listed([picture("red", 1)] * 100), batch_size=8)
    next(answers)
    assert len(read) == 16
    assert sum(1 for _ in answers) == 99
    assert len(read) == 100


def test_the_csv_has_a_line_for_each_image_that_could_be_read(best_folder, tmp_path):
    folder = write_pictures(tmp_path / "new, old", 2)
    (folder / "green" / "001.png").write_bytes(b"broken")
    best = load_best(best_folder)
    write_csv(tmp_path / "out" / "answers.csv", best.labels, best.answers(find_images(folder)))
    table = pd.read_csv(tmp_path / "out" / "answers.csv")
    assert list(table) == ["path", "label", "confidence", "p_blue", "p_green", "p_red"]
    expected = best.predict(folder).dropna(subset="label")
    assert table["path"].tolist() == expected["image"].tolist()
    assert table["label"].tolist() == ["blue", "blue", "green", "red", "red"]
    assert np.allclose(table["confidence"], expected["probability"], atol=1e-5)
    assert np.allclose(table[["p_blue", "p_green", "p_red"]].sum(axis=1), 1, atol=1e-5)


def test_missing_paths_are_all_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        find_images([str(tmp_path / "a.jpg"), str(tmp_path / "empty"), tmp_path / "b"])
    assert len(caught.value.problems) == 3
    with pytest.raises(InputError, match="no images given"):
        find_images([])


def test_a_folder_that_cannot_be_opened_is_told_of(tmp_path, monkeypatch, caplog):
    write_pictures(tmp_path / "new", 1)
    scan = os.scandir

    def refuse(where):
        if str(where).endswith("red"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(where)

    monkeypatch.setattr(os, "scandir", refuse)
    assert len(find_images(tmp_path / "new")) == 2
    assert "The folder red cannot be opened (Permission denied)" in caplog.text
    with pytest.raises(InputError, match=r"has no images .*: The folder .*red cannot be opened \(Permission denied\)"):
        find_images(tmp_path / "new" / "red")


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.json", "labels.json"])
def test_a_missing_or_broken_file_is_named(best_folder, name):
    (best_folder / name).write_bytes(b"{}")
    with pytest.raises(InputError, match=r"cannot be read|two different writes"):
        load_best(best_folder)
    (best_folder / name).unlink()
    with pytest.raises(InputError, match=name):
        load_best(best_folder)


def test_files_of_two_writes_are_not_mixed(best_folder, tmp_path, model):
    """Between two renames of a rewrite, or after a kill there, max pooling would silently read as avg."""
    other = RECIPE.model_copy(update={"pooling": "max"})
    write_best(tmp_path / "other", Shipment.of(model, other), CLASSES, "abc", "")
    shutil.copy(tmp_path / "other" / "recipe.json", best_folder)
    with pytest.raises(InputError, match="two different writes"):
        load_best(best_folder)


def test_tensors_that_do_not_fit_are_named(best_folder):
    path = best_folder / "model.safetensors"
    tensors = load_file(path)
    tensors["head.linear.bias"] = torch.zeros(7)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(InputError, match=r"head\.linear\.bias: found \(7,\), expected \(3,\)"):
        load_best(best_folder).model()


def test_every_field_of_a_recipe_survives(tmp_path):
    from raysearch.models.boundary import build_classifier

    stages = (Stage(depth=0, epochs=2, class_weights={"red": 2.0}), Stage(depth=1, epochs=3, learning_rate=1 / 3))
    recipe = Recipe(
        backbone="simple_cnn",
        image_size=20,
        fit="pad",
        pooling="both",
        head=Head(kind="hidden", hidden_units=8),
        schedule=stages,
        seed=5,
    )
    built = build_classifier(recipe, 3)
    write_best(tmp_path / "best", Shipment.of(built, recipe), CLASSES, "", "")
    best = load_best(tmp_path / "best")
    assert best.recipe == recipe
    assert best.model().state_dict().keys() == built.state_dict().keys()
