"""Images that belong together are never parted: by splits, halves, folds or subsets; and each class keeps its share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from raysearch.data.groups import joined, names_in_paths, numbered
from raysearch.data.pixels import load
from raysearch.data.reading import Reading
from raysearch.data.source import list_source
from raysearch.data.split import FRACTION, cut, fill_splits, parts
from raysearch.data.subset import Thinning, taken
from raysearch.errors import InputError
from raysearch.training.stratified import check_folds, stratified_folds
from tests.data.pictures import fill, picture, put

seeds = st.integers(0, 1000)


@st.composite
def grouped(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups of some hundred images of 2 to 4 classes, most groups of one class."""
    classes = draw(st.integers(2, 4))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    sizes = random.integers(1, draw(st.sampled_from([1, 2, 5, 12])) + 1, draw(st.integers(12, 60)) * classes)
    of_group = np.arange(len(sizes)) % classes
    labels, groups = np.repeat(of_group, sizes), np.repeat(np.arange(len(sizes)), sizes)
    mixed = random.random(len(labels)) < draw(st.sampled_from([0.0, 0.1]))
    labels[mixed] = random.integers(0, classes, mixed.sum())
    shuffled = random.permutation(len(labels))
    return labels[shuffled], groups[shuffled] * 7 + 3


def whole(found: np.ndarray, groups: np.ndarray) -> bool:
    """Whether no group is in two parts."""
    return len(np.unique(np.stack([groups, found]), axis=1).T) == len(np.unique(groups))


@settings(deadline=None)
@given(grouped(), seeds, st.integers(2, 5))
def test_folds_and_halves_keep_groups_whole_and_classes_in_their_shares(images, seed, folds):
    labels, groups = images
    found = parts(labels, folds, seed, groups)
    assert whole(found, groups)
    largest = np.bincount(np.unique(groups, return_inverse=True)[1]).max()
    for label, count in enumerate(np.bincount(labels)):
        shares = np.bincount(found[labels == label], minlength=folds)
        assert np.abs(shares - count / folds).max() <= largest + 1
        assert shares.min() > 0
    held_out = np.empty(len(labels), int)
    for number, (rest, held) in enumerate(stratified_folds(folds, labels, seed, groups)):
        assert sorted([*rest, *held]) == list(range(len(labels)))
        held_out[held] = number
    assert whole(held_out, groups)
    np.testing.assert_array_equal(found, parts(labels, folds, seed, groups))


@settings(deadline=None)
@given(grouped(), seeds)
def test_splits_keep_groups_whole_and_classes_in_their_shares(images, seed):
    labels, groups = images
    filled = fill_splits(np.full(len(labels), "", "<U5"), labels, seed, groups)
    assert whole(np.unique(filled, return_inverse=True)[1], groups)
    largest = np.bincount(np.unique(groups, return_inverse=True)[1]).max()
    for label, count in enumerate(np.bincount(labels)):
        for split, share in (("train", 1 - 2 * FRACTION), ("val", FRACTION), ("test", FRACTION)):
            here = ((filled == split) & (labels == label)).sum()
            assert here > 0
            assert abs(here - share * count) <= largest + 1


def test_where_all_stand_alone_the_cut_is_exact():
    labels = np.repeat([0, 1, 2], [100, 50, 20])
    found = cut(labels, np.arange(170), [0.7, 0.15, 0.15], 0)
    assert [np.bincount(found[labels == label]).tolist() for label in range(3)] == [
        [70, 15, 15],
        [35, 8, 7],
        [14, 3, 3],
    ]


def test_the_last_groups_of_a_class_go_where_it_has_no_image():
    labels, groups = np.repeat([0, 1], [60, 15]), np.repeat(np.arange(18), [*[4] * 15, 5, 5, 5])
    found = cut(labels, groups, [0.7, 0.15, 0.15], 0)
    assert sorted(np.unique(found[labels == 1])) == [0, 1, 2]


def test_groups_that_are_fewer_than_folds_are_refused():
    labels, groups = np.repeat([0, 1], 10), np.repeat(np.arange(8), [2, 2, 2, 2, 2, 4, 4, 2])
    check_folds(3, labels, ("a", "b"), groups)
    with pytest.raises(InputError, match="4 folds need 4 training groups of every class, b has 3: .*at most 3 folds"):
        check_folds(4, labels, ("a", "b"), groups)
    with pytest.raises(ValueError, match="label 1 has 2 groups for 3 splits"):
        fill_splits(np.full(20, "", "<U5"), labels, 0, np.repeat([0, 1, 2, 3, 4], [4, 4, 2, 5, 5]))


@settings(deadline=None)
@given(grouped(), seeds, st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)))
def test_a_fraction_is_nested_stratified_and_of_whole_groups(images, seed, fractions):
    labels, groups = images
    small, large = sorted(fractions)
    few, many = (taken(Thinning(fraction), labels, seed, groups) for fraction in (small, large))
    assert not (few & ~many).any()
    assert whole(few.astype(int), groups)
    assert (np.bincount(labels[few], minlength=labels.max() + 1) > 0).all()
    single = taken(Thinning(small), labels, seed)
    for label, count in enumerate(np.bincount(labels)):
        assert abs((single & (labels == label)).sum() - small * count) <= 1


@settings(deadline=None)
@given(grouped(), seeds, st.integers(2, 6))
def test_subsets_part_the_images(images, seed, n):
    labels, groups = images
    found = [taken(Thinning(1.0, n, which), labels, seed, groups) for which in range(n)]
    assert (np.sum(found, axis=0) == 1).all()
    assert whole(np.argmax(found, axis=0), groups)
    part = taken(Thinning(0.5, n, 1), labels, seed, groups)
    assert not (part & ~found[1]).any()


@pytest.mark.parametrize(
    ("given_flags", "says"),
    [
        ((10.0, None, None), "--fraction 10: must be above 0, and at most 1; 10 % is 0.1"),
        ((0.0, None, None), "--fraction 0: must be above 0"),
        ((None, 6, None), "--subsets needs --subset"),
        ((None, None, 0), "--subset needs --subsets"),
        ((None, 6, 6), "--subset 6: of 6 there are 0 to 5"),
        ((None, 0, 0), "--subsets 0: must be at least 1"),
    ],
)
def test_what_is_no_subset_is_refused(given_flags, says):
    with pytest.raises(InputError, match=says):
        Thinning.of(*given_flags)


def test_names_are_numbered_and_copies_tie_groups_together():
    groups = numbered(["p1", "", "p2", "p1", ""])
    assert groups[0] == groups[3]
    assert len(set(groups.tolist())) == 4
    #  p1: 0, 1; p2: 2; p3: 3, 4. Image 1 is a copy of image 2, so p1 and p2 are one.
    tied = joined(np.array([5, 5, 6, 9, 9]), np.array([0, 1, 1, 2, 3]))
    assert tied[0] == tied[1] == tied[2] != tied[3] == tied[4]


def test_a_pattern_names_groups():
    assert names_in_paths(r"patient(\d+)_", ["a/patient12_1.png", "b/x.png"]) == ["12", ""]
    for pattern, says in (
        ("(", "no regular expression"),
        ("patient", "no .…. around"),
        ("q([0-9])", "matches no path"),
    ):
        with pytest.raises(InputError, match=says):
            names_in_paths(pattern, ["a/patient12_1.png"])


# ---- sources -----------------------------------------------------------------------------------------------------


def scans(root: Path, patients: int = 30, each: int = 4) -> Path:
    """Class folders of images whose names say the patient."""
    for patient in range(patients):
        for number in range(each):
            file = root / ("ill" if patient % 2 else "well") / f"patient{patient}_{number}.png"
            put(file, picture(patient * each + number))
    return root


def patients_of(paths: tuple[str, ...]) -> set[str]:
    return set(names_in_paths(r"patient(\d+)_", paths))


def test_without_group_by_patients_leak_and_with_it_none_does(tmp_path):
    root = scans(tmp_path / "scans")
    plain = load(str(root), image_size=16, progress=False, cache=tmp_path)
    assert patients_of(plain.train.paths) & patients_of(plain.test.paths)
    kept = load(
        str(root), image_size=16, progress=False, cache=tmp_path, reading=Reading.of(None, None, r"patient(\d+)_")
    )
    splits = [patients_of(split.paths) for split in (kept.train, kept.val, kept.test)]
    assert sum(map(len, splits)) == 30 == len(set.union(*splits))
    assert kept.fingerprint != plain.fingerprint
    half, other = kept.halved(0)
    assert not patients_of(half.val.paths) & patients_of(other.paths)
    said = "\n".join(kept.account.lines())
    assert r"kept together by --group-by patient(\d+)_: 30 groups of 4 to 4 images." in said
    assert "instead of 15% val has" in said


def manifest(root: Path, column: str, splits: list[str] | None = None) -> Path:
    """The same as a table, without what the names say."""
    scans(root)
    files = sorted(root.rglob("*.png"))
    head = f"path,label,{column}" + (",split" if splits else "")
    lines = [
        f"{file.relative_to(root)},{file.parent.name},{file.name.partition('_')[0]}"
        + (f",{splits[number % len(splits)]}" if splits else "")
        for number, file in enumerate(files)
    ]
    table = root / "table.csv"
    table.write_text("\n".join([head, *lines]))
    return table


def test_a_column_called_group_is_used_and_others_are_only_suggested(tmp_path):
    used = list_source(str(manifest(tmp_path / "a", "group")))
    assert used.groups is not None
    assert whole(np.unique(used.splits, return_inverse=True)[1], used.groups)
    other = manifest(tmp_path / "b", "patient_id")
    plain = list_source(str(other))
    assert plain.groups is None
    (line,) = [doubt.line() for doubt in plain.account.doubts if "group" in doubt.what]
    assert "By the column patient_id, " in line
    assert "--columns group=NAME" in line
    named = list_source(str(other), reading=Reading.of("group=patient_id", None))
    assert named.groups is not None
    assert not any("groups have images in several" in doubt.what for doubt in named.account.doubts)
    with pytest.raises(InputError, match="both say the groups"):
        Reading.of("group=patient_id", None, "x([0-9])")


def test_given_splits_stay_and_the_groups_that_they_part_are_named(tmp_path):
    table = manifest(tmp_path, "group", ["train", "train", "val", "test"])
    listing = list_source(str(table))
    assert np.bincount(np.unique(listing.splits, return_inverse=True)[1]).tolist() == [30, 60, 30]
    leaks = [doubt.line() for doubt in listing.account.doubts]
    assert len(leaks) == 3
    assert (
        "30 groups by the column group of table.csv are in train and in test: patient0, patient1, patient10 and 27"
        in (leaks[1])
    )
    assert "with 60 images there and 30 here" in leaks[1]


def test_a_subset_is_the_same_every_time_and_leaves_validation_alone(tmp_path):
    root = scans(tmp_path / "scans")
    pattern = r"patient(\d+)_"
    everything, half, tenth = (
        list_source(str(root), reading=Reading.of(None, None, pattern, Thinning(fraction)))
        for fraction in (1.0, 0.5, 0.1)
    )
    of_split = {
        name: [set(np.array(one.paths)[one.splits == name]) for one in (everything, half, tenth)]
        for name in ("train", "val", "test")
    }
    train = of_split["train"]
    assert train[2] < train[1] < train[0]
    assert of_split["val"][0] == of_split["val"][2]
    assert of_split["test"][0] == of_split["test"][2]
    assert len(train[1]) == pytest.approx(len(train[0]) / 2, abs=4)
    again = list_source(str(root), reading=Reading.of(None, None, pattern, Thinning(0.5)))
    assert again.paths == half.paths
    assert "Of the training images 50 % is taken" in "\n".join(half.account.lines())
    row = half.paths.index(sorted(train[1])[0])
    assert half.reader.read(row) == everything.reader.read(everything.paths.index(sorted(train[1])[0]))
    measured = list_source(str(root), measuring=True, reading=Reading.of(None, None, pattern, Thinning(0.1)))
    assert len(measured) == len(everything)


def test_subsets_of_too_few_images_are_refused(tmp_path):
    root = fill(tmp_path, {"a": 12, "b": 12})
    with pytest.raises(InputError, match=r"subset 11 \(from 0\) of 12 has no training images of a"):
        list_source(str(root), reading=Reading.of(None, None, None, Thinning(1.0, 12, 11)))


def test_a_planted_leak_flatters_and_groups_take_it_away(tmp_path):
    """Each patient has a face, and a label by lot: whoever remembers faces is right, but only of known ones."""
    random = np.random.default_rng(0)
    for patient in range(80):
        face, kind = random.integers(0, 200, (12, 12, 3)), "ill" if patient % 2 else "well"
        for number in range(4):
            pixels = (face + random.integers(0, 30, face.shape)).astype(np.uint8)
            file = tmp_path / "faces" / kind / f"patient{patient}_{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)

    def accuracy(reading: Reading) -> float:
        data = load(str(tmp_path / "faces"), image_size=12, progress=False, cache=tmp_path, reading=reading)
        train, test = (np.asarray(split.pixels).reshape(len(split), -1) / 255.0 for split in (data.train, data.test))
        nearest = KNeighborsClassifier(1).fit(train, data.train.labels)
        return nearest.score(test, data.test.labels)

    assert accuracy(Reading()) > 0.95
    assert accuracy(Reading.of(None, None, r"patient(\d+)_")) < 0.75
