"""Images without labels: all that a folder has, and none that anybody has labelled."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from raysearch.data.pixels import load
from raysearch.data.unlabelled import load_unlabelled, without_copies
from raysearch.errors import InputError


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8))


@pytest.fixture
def labelled(tmp_path):
    for number in range(20):
        folder = tmp_path / "photos" / ("ant" if number % 2 else "bee")
        folder.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / f"{number:02}.png")
    return load(str(tmp_path / "photos"), image_size=8, cache=tmp_path / "cache", progress=False)


def test_a_folder_is_read_to_its_bottom_and_copies_of_labelled_images_are_left_out(labelled, tmp_path):
    loose = tmp_path / "loose"
    (loose / "deep" / "er").mkdir(parents=True)
    for number in range(15, 30):  # five of them have labels, one of which may be a test image
        picture(number).save(loose / "deep" / f"{number}.png")
    picture(29).save(loose / "deep" / "er" / "again.bmp")
    (loose / "notes.txt").write_text("no image", encoding="utf-8")
    found = load_unlabelled(loose, labelled, progress=False, cache=tmp_path / "cache")
    assert (len(found.train), len(found.val), len(found.test)) == (16, 0, 0)
    assert (found.image_size, found.fit) == (labelled.image_size, labelled.fit)
    fresh = without_copies(found, labelled)
    images = fresh.images[labelled.image_size]
    assert len(images) == 10
    known = {image.tobytes() for split in labelled.splits.values() for image in np.asarray(split.pixels)}
    assert not known & {image.tobytes() for image in np.asarray(images.pixels)}
    again = without_copies(found, labelled)
    assert again.images[labelled.image_size].paths == images.paths
    assert again.fingerprint == found.fingerprint


def test_a_folder_of_copies_of_labelled_images_is_refused(labelled, tmp_path):
    (tmp_path / "copies").mkdir()
    for number in range(5):
        picture(number).save(tmp_path / "copies" / f"{number}.png")
    with pytest.raises(InputError, match="--unlabelled .*copies: all 5 images are copies of labelled ones; name"):
        load_unlabelled(tmp_path / "copies", labelled, progress=False, cache=tmp_path / "cache")


def test_folders_that_are_not_read_are_told_of(labelled, tmp_path, caplog):
    loose = tmp_path / "loose"
    (loose / "a").mkdir(parents=True)
    picture(50).save(loose / "a" / "50.png")
    (loose / "b").symlink_to(loose / "a")
    load_unlabelled(loose, labelled, progress=False, cache=tmp_path / "cache")
    assert "b links to a folder that is read already" in caplog.text


def test_nothing_there_is_told(labelled, tmp_path):
    with pytest.raises(InputError, match="--unlabelled .*nowhere: no such folder"):
        load_unlabelled(tmp_path / "nowhere", labelled)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="--unlabelled .*empty: there are no images in it"):
        load_unlabelled(tmp_path / "empty", labelled)


def test_images_of_a_labelled_patient_are_left_out(labelled, tmp_path, caplog):
    loose = tmp_path / "loose"
    loose.mkdir()
    for number in (0, 7, 30, 31):
        picture(100 + number).save(loose / f"{number:02}.later.png")
    picture(200).save(loose / "nobody.png")
    found = load_unlabelled(loose, labelled, group_by=r"(\d\d)\.", progress=False, cache=tmp_path / "cache")
    assert found.train.paths == ("30.later.png", "31.later.png", "nobody.png")
    assert "2 images are left out, for their groups have labelled ones" in caplog.text
    for name in found.train.paths:
        (loose / name).unlink()
    with pytest.raises(InputError, match="all 2 images are of groups that have labelled ones"):
        load_unlabelled(loose, labelled, group_by=r"(\d\d)\.", progress=False, cache=tmp_path / "cache")
