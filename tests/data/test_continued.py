"""A search that continues a run: what was a test image stays one, what was trained on measures nothing."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from raysearch.data.continued import EarlierImages, continued
from raysearch.data.dataset import Dataset, Split
from raysearch.data.pixels import load
from raysearch.data.reading import AS_IT_IS, Reading
from raysearch.errors import InputError


@pytest.fixture
def source(tmp_path):
    """Makes a folder of class folders, and loads it; an image is what its class and number say, wherever it lies."""

    def loaded(name: str, images: dict[str, list[str]], reading: Reading = AS_IT_IS) -> Dataset:
        for label, names in images.items():
            (tmp_path / name / label).mkdir(parents=True)
            for one in names:
                random = np.random.default_rng(list(one.encode()))
                pixels = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / label / f"{one}.png")
        return load(str(tmp_path / name), image_size=8, cache=tmp_path / "cache", progress=False, reading=reading)

    return loaded


def named(label: str, numbers: range) -> list[str]:
    return [f"{label}{number:02}" for number in numbers]


def content(*splits: Split) -> set[bytes]:
    return {image.tobytes() for split in splits for image in np.asarray(split.pixels)}


def test_every_earlier_test_image_is_one_again_and_no_other_split_has_it(source, tmp_path):
    old = source("old", {name: named(name, range(20)) for name in ("ant", "bee")})
    more = source(
        "more", {"ant": named("ant", range(10, 40)), "bee": named("bee", range(20)), "cow": named("cow", range(20))}
    )
    both = continued(old, more, "first", tmp_path / "cache")
    assert both.classes == ("ant", "bee", "cow")
    assert content(old.test) <= content(both.test)
    assert not content(both.train, both.val) & content(both.test)
    earlier = EarlierImages.of(both.folder)
    assert content(both.test.take(earlier.places)) == content(old.test)
    assert len(earlier.places) == len(old.test)
    again = content(old.test) & content(more.train, more.val, more.test)
    assert 0 < earlier.found_again == len(again) < len(old.test)
    read = [path for path in both.test.paths if path.startswith("first/")]
    assert len(read) == len(old.test) - len(again)
    assert (earlier.new, earlier.gone) == (("cow",), ())
    classes = {
        path.split("/")[-2]: both.classes[label] for path, label in zip(both.test.paths, both.test.labels, strict=True)
    }
    assert all(name == label for name, label in classes.items())
    assert both.account.counts["test"] == {
        name: int((both.test.labels == number).sum()) for number, name in enumerate(both.classes)
    }


def test_what_the_earlier_run_was_trained_on_measures_nothing(source, tmp_path):
    old = source("old", {name: named(name, range(40)) for name in ("ant", "bee")})
    more = source("more", {name: named(name, range(44)) for name in ("ant", "bee")})
    assert content(more.test) & content(old.train), "or this tests nothing"
    both = continued(old, more, "first", tmp_path / "cache")
    assert not content(both.test) & content(old.train, old.val)
    assert content(more.test) & content(old.train) <= content(both.train)
    everything = content(more.train, more.val, more.test)
    assert content(both.train, both.val, both.test) == everything, "no image is lost"


def test_what_the_earlier_run_was_trained_on_does_not_validate_it(source, tmp_path):
    """The images are split anew, for there are others now: most that would validate are known to the earlier head."""
    old = source("old", {name: named(name, range(40)) for name in ("ant", "bee")})
    more = source("more", {name: named(name, range(60)) for name in ("ant", "bee")})
    assert content(more.val) & content(old.train), "or this tests nothing"
    both = continued(old, more, "first", tmp_path / "cache")
    assert content(both.val) == content(old.val) | content(more.val) - content(old.train, old.val, old.test)
    assert content(both.train, both.val, both.test) == content(more.train, more.val, more.test)
    assert any("validated on again" in note for note in both.account.notes)
    older = continued(old, more, "first", tmp_path / "cache", rules=1)
    assert content(older.val) == content(more.val) - content(old.test), "as runs have it that began before"


def test_validation_images_that_are_new_stay_as_they_are_given(source, tmp_path):
    old = source("old", {name: named(name, range(40)) for name in ("ant", "bee")})
    for split, numbers in (("train", range(40)), ("val", range(40, 50)), ("test", range(50, 60))):
        source(f"more/{split}", {name: named(name, numbers) for name in ("ant", "bee")})
    more = load(str(tmp_path / "more"), image_size=8, cache=tmp_path / "cache", progress=False)
    both = continued(old, more, "first", tmp_path / "cache")
    assert content(both.val) == content(more.val)
    assert content(old.val) <= content(both.train)


def test_images_of_one_group_go_with_a_test_image(source, tmp_path):
    reading = Reading.of(None, None, r"([a-z]+\d)\d\.png")  # ten images a group
    old = source("old", {name: named(name, range(0, 60, 2)) for name in ("ant", "bee")}, reading)
    more = source("more", {name: named(name, range(90)) for name in ("ant", "bee")}, reading)
    both = continued(old, more, "first", tmp_path / "cache")
    assert not content(both.train, both.val) & content(old.test)

    def groups(split: Split) -> set[str]:
        return {path.rsplit("/", 1)[-1][:4] for path in split.paths}

    assert not groups(both.test) & groups(both.train) | groups(both.test) & groups(both.val)
    assert not set(both.test.groups.tolist()) & {*both.train.groups.tolist(), *both.val.groups.tolist()}


def test_of_several_copies_of_a_test_image_one_measures(source, tmp_path):
    old = source("old", {name: named(name, range(20)) for name in ("ant", "bee")})
    source("more", {name: named(name, range(20)) for name in ("ant", "bee")})
    for path in (tmp_path / "more" / "ant").iterdir():
        shutil.copy(path, path.with_name(f"again-{path.name}"))
    more = load(str(tmp_path / "more"), image_size=8, cache=tmp_path / "cache", progress=False)
    both = continued(old, more, "first", tmp_path / "cache")
    earlier = EarlierImages.of(both.folder)
    assert len(earlier.places) == len(old.test) == len(content(both.test.take(earlier.places)))
    assert len(both.test) == len(content(both.test))


def test_the_new_data_says_the_label_and_a_class_may_be_gone(source, tmp_path):
    old = source("old", {name: named(name, range(20)) for name in ("ant", "bee", "cow")})
    moved = next(path for path in old.test.paths if path.startswith("ant")).split("/")[1].removesuffix(".png")
    ants = [one for one in named("ant", range(20)) if one != moved]
    more = source("more", {"ant": ants, "bee": [*named("bee", range(20)), moved]})
    both = continued(old, more, "first", tmp_path / "cache")
    place = next(place for place, path in enumerate(both.test.paths) if path.endswith(f"{moved}.png"))
    assert both.classes[both.test.labels[place]] == "bee"
    earlier = EarlierImages.of(both.folder)
    assert earlier.gone == ("cow",)
    cows = content(old.test.take(np.flatnonzero(old.test.labels == 2)))
    assert not cows & content(both.train, both.val, both.test)
    assert any("cow" in doubt.line() for doubt in both.account.doubts)


def test_the_same_two_sources_give_the_same_folder(source, tmp_path):
    old = source("old", {name: named(name, range(20)) for name in ("ant", "bee")})
    more = source("more", {name: named(name, range(30)) for name in ("ant", "bee")})
    first, second = (continued(old, more, "first", tmp_path / "cache") for _ in range(2))
    assert first.folder == second.folder
    assert first.fingerprint == second.fingerprint not in (old.fingerprint, more.fingerprint)


def test_classes_that_have_nothing_in_common_are_refused(source, tmp_path):
    old = source("old", {name: named(name, range(20)) for name in ("ant", "bee")})
    more = source("more", {name: named(name, range(20)) for name in ("cow", "dog")})
    with pytest.raises(InputError, match=r"no class is the same: first has ant, bee, .* has cow, dog"):
        continued(old, more, "first", tmp_path / "cache")


def test_a_class_that_has_test_images_of_before_alone_is_refused(source, tmp_path):
    old = source("old", {name: named(name, range(20)) for name in ("ant", "bee")})
    tested = [path.split("/")[1].removesuffix(".png") for path in old.test.paths if path.startswith("ant")]
    more = source("more", {"ant": tested, "bee": named("bee", range(20))})
    with pytest.raises(InputError, match="of ant every image to train on was a test image before"):
        continued(old, more, "first", tmp_path / "cache")
