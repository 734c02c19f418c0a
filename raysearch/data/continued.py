"""The images of a search that continues an earlier run on other data: what was a test image stays one.

What the earlier run was measured on is never trained on, and what it was trained on measures nothing: images are known
by their decoded pixels. Its test images are joined to those of the new data, so that both runs can be held against each
other on them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from raysearch.data.account import Account, Doubt
from raysearch.data.dataset import Dataset, Split
from raysearch.data.decoding import digests_of
from raysearch.data.labels import matched
from raysearch.data.listing import SPLITS, some
from raysearch.errors import InputError
from raysearch.storage.cache import cache_root
from raysearch.storage.files import replaced_folder

RULES = 2
"""Which rules say what is measured on; runs from before validation images were looked at are by the first."""
_FILE = "earlier.json"
_TRAIN, _VAL, _TEST, _LEFT_OUT = 0, 1, 2, 3
_CHUNK = 256


@dataclass(frozen=True)
class EarlierImages:
    """The test images of the earlier run, as they stand in the continued data."""

    run: str
    """Its name."""
    places: NDArray[np.int64]
    """Among the test images, ascending, (m,)."""
    found_again: int
    """How many of them the new data has; the others are read from the earlier run's."""
    same: dict[str, str]
    """The earlier run's name of each class that both have, by the name that it has now."""
    new: tuple[str, ...]
    """Classes that it did not know."""
    gone: tuple[str, ...]
    """Classes that it knew, and of which the new data has none; none of their test images is here."""

    @staticmethod
    def of(folder: Path) -> EarlierImages | None:
        """What `continued` wrote beside the images; None: they continue no run."""
        if not (folder / _FILE).exists():
            return None
        tree = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        places = np.array(tree["places"], dtype=np.int64)
        return EarlierImages(
            tree["run"], places, tree["found_again"], tree["same"], tuple(tree["new"]), tuple(tree["gone"])
        )


def continued(earlier: Dataset, now: Dataset, run: str, cache: Path | None = None, rules: int = RULES) -> Dataset:
    """The new data with the earlier run's test images among its own.

    - An image that was a test image is one again, once, with the label that the new data gives it.
    - Those that the new data lacks are taken from the earlier run's, if it still has their class.
    - A test image of the new data that the earlier run was trained on, or chose by, is trained on; so is a validation
      image that it was trained on, for its head knows it. Where that takes some away, because the images were split
      anew, its own validation images are validated on again.
    - Images that belong together (see `Split.groups`) move together; what would then be measured on although it was
      trained on is left out.

    Args:
        earlier: the images of the earlier run, as it split them.
        now: the new data, decoded at the same size.
        run: name of the earlier run.
        cache: folder for decoded images; None: `cache_root()`.
        rules: `RULES`, or, of an older run, 1: then validation images stay as they are.

    Raises:
        InputError: no class is the same, or one has no training images left.
    """
    same: dict[str, str] = {}
    for name, then in sorted(matched(now.classes, earlier.classes).items(), key=lambda pair: pair[0] != pair[1]):
        if then not in same.values():
            same[name] = then
    if not same:
        raise InputError(
            f"no class is the same: {run} has {some(list(earlier.classes))}, {now.source} has "
            f"{some(list(now.classes))}; search anew, without --continue"
        )
    root = (cache_root() if cache is None else cache) / "pixels"
    key = json.dumps(["continued", rules, earlier.fingerprint, now.fingerprint, run])
    fingerprint = hashlib.sha256(key.encode()).hexdigest()
    folder = root / fingerprint[:32]
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{folder.name}.lock"):
        if not (folder / "dataset.json").exists():
            _write(earlier, now, same, run, fingerprint, folder, rules)
    return replace(Dataset.open(folder), source=now.source)


def _write(
    earlier: Dataset, now: Dataset, same: dict[str, str], run: str, fingerprint: str, folder: Path, rules: int
) -> None:
    images = Split.join(now.train, now.val, now.test)
    homes, was_tested, found = _homes(earlier, now, images, rules)
    _check_left(now, images, homes)
    kept = {name: images.take(np.flatnonzero(homes == number)) for number, name in enumerate(SPLITS)}
    lacking = [place for place, digest in enumerate(digests_of(earlier.test.pixels)) if digest not in found]
    missing = _relabelled(earlier, now, same, np.array(lacking, dtype=np.int64), images.groups, run)
    splits = kept | {"test": Split.join(kept["test"], missing)}
    again = np.flatnonzero(was_tested[homes == _TEST])
    about = EarlierImages(
        run,
        np.array([*again, *range(len(kept["test"]), len(splits["test"]))], dtype=np.int64),
        len(again),
        same,
        tuple(name for name in now.classes if name not in same),
        tuple(name for name in earlier.classes if name not in same.values()),
    )
    account = _account(now, about, homes)
    with replaced_folder(folder) as temporary:
        _write_files(now, splits, account, fingerprint, temporary)
        tree = asdict(about) | {"places": about.places.tolist()}
        (temporary / _FILE).write_text(json.dumps(tree), encoding="utf-8")


def _given(now: Dataset) -> NDArray[np.int64]:
    """The split of each image by number, as the new data has it."""
    return np.repeat(np.arange(len(SPLITS)), [len(split) for split in now.splits.values()])


def _homes(
    earlier: Dataset, now: Dataset, images: Split, rules: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], set[bytes]]:
    """The split of each new image by number (3: left out), whether it was a test image before, and those by content."""
    digests = list(digests_of(images.pixels))
    tested = set(digests_of(earlier.test.pixels))
    learned = set(digests_of(earlier.train.pixels)) - tested
    chosen_by = set(digests_of(earlier.val.pixels)) - tested - learned
    was_tested, was_learned, was_chosen_by = (
        np.array([digest in known for digest in digests], dtype=bool) for known in (tested, learned, chosen_by)
    )
    was_trained = was_learned | was_chosen_by
    groups = np.arange(len(images)) if images.groups is None else images.groups
    with_tested, with_trained, with_learned = (
        np.isin(groups, groups[was]) for was in (was_tested, was_trained, was_learned)
    )
    homes = _given(now)
    homes[with_trained & (homes == _TEST)] = _TRAIN
    if rules > 1 and (with_learned & (homes == _VAL) & ~with_tested).any():
        homes[with_learned & (homes == _VAL)] = _TRAIN
        homes[with_trained & ~with_learned] = _VAL
    homes[with_tested] = _TEST
    homes[with_tested & was_trained] = _LEFT_OUT
    found: set[bytes] = set()
    for place in np.flatnonzero(was_tested).tolist():  # of several copies one measures
        homes[place] = _LEFT_OUT if digests[place] in found else _TEST
        found.add(digests[place])
    return homes, was_tested, found


def _relabelled(
    earlier: Dataset,
    now: Dataset,
    same: dict[str, str],
    places: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    run: str,
) -> Split:
    """Test images of the earlier run, with the numbers of the new classes; without those whose class is gone."""
    number = {then: now.classes.index(name) for name, then in same.items()}
    labels = np.array([number.get(earlier.classes[label], -1) for label in earlier.test.labels[places]], dtype=np.int64)
    split = earlier.test.take(places[labels >= 0])
    after = None
    if groups is not None and split.groups is not None:
        after = split.groups + int(groups.max(initial=-1)) + 1
    return Split(split.pixels, labels[labels >= 0], tuple(f"{run}/{path}" for path in split.paths), after)


def _account(now: Dataset, about: EarlierImages, homes: NDArray[np.int64]) -> Account:
    """The account of the new data, with what became of its images."""
    run, lacking = about.run, len(about.places) - about.found_again
    told = [
        f"Test images of {run} are test images here: {about.found_again:,} were found again, {lacking:,} are read from "
        "its own data."
    ]
    if moved := int(((homes == _TRAIN) & (_given(now) == _TEST)).sum()):
        told.append(f"Of its own test images {moved:,} go to the training images, for {run} was trained on them.")
    if moved := int(((homes == _TRAIN) & (_given(now) == _VAL)).sum()):
        told.append(
            f"Of its own validation images {moved:,} go to the training images, for {run} was trained on them; what it "
            f"validated on is validated on again: {int(((homes == _VAL) & (_given(now) != _VAL)).sum()):,} images more."
        )
    if left_out := int((homes == _LEFT_OUT).sum()):
        told.append(f"Left out, for they are copies of test images of {run} or belong to one: {left_out:,} images.")
    doubts = []
    if about.gone:
        gone = f"{now.source} has no images of {some(list(about.gone))}, which {run} knew: nothing will be called so."
        doubts.append(Doubt(gone, "Put images of them into --data, if they are still to be told."))
    return now.account.adding(notes=told, doubts=doubts)


def _check_left(now: Dataset, images: Split, homes: NDArray[np.int64]) -> None:
    """Every class must keep training images, and validation some."""
    lost = np.setdiff1d(np.arange(len(now.classes)), images.labels[homes == _TRAIN])
    problems = []
    if lost.size:
        problems.append(
            f"{now.source}: of {some([now.classes[label] for label in lost])} every image to train on was a test image "
            "before, or belongs to one; add others"
        )
    if not (homes == SPLITS.index("val")).any():
        problems.append(
            f"{now.source}: every image to validate on was trained on or a test image before, or belongs to one; add "
            "others"
        )
    if problems:
        raise InputError(problems)


def _write_files(now: Dataset, splits: dict[str, Split], account: Account, fingerprint: str, folder: Path) -> None:
    counts = {}
    for name, split in splits.items():
        shape = (len(split), now.image_size, now.image_size, 3)
        pixels = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape)
        for start in range(0, len(split), _CHUNK):
            pixels[start : start + _CHUNK] = split.pixels[start : start + _CHUNK]
        pixels.flush()
        np.save(folder / f"{name}_labels.npy", split.labels)
        groups = np.arange(len(split)) if split.groups is None else split.groups
        np.save(folder / f"{name}_groups.npy", groups)
        found = np.bincount(split.labels, minlength=len(now.classes)).tolist()
        counts[name] = dict(zip(now.classes, found, strict=True))
    header = {
        "source": now.source,
        "classes": now.classes,
        "image_size": now.image_size,
        "fit": now.fit,
        "fingerprint": fingerprint,
        "paths": {name: split.paths for name, split in splits.items()},
        "skipped": [asdict(one) for one in now.skipped],
        "pixels": now.notes.as_json(),
        "account": replace(account, counts=counts).as_json(),
    }
    (folder / "dataset.json").write_text(json.dumps(header), encoding="utf-8")
