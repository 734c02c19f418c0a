"""Whether an earlier run's head was trained on what this search chooses by, or is measured on (`--head RUN`).

Another seed, or a split that is given by now, deals the same images out anew: what the head was trained on may be a
test image here, which it then tells better than a new one. Images are known by their decoded pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysearch.data.account import Doubt
from raysearch.data.dataset import Dataset, Split
from raysearch.data.decoding import digests_of
from raysearch.errors import InputError, Problems
from raysearch.job.images import images_before
from raysearch.job.starting_head import StartingHead
from raysearch.record.folder import RunFolder


def held_apart(head: StartingHead, dataset: Dataset, problems: Problems) -> Dataset:
    """The images of a search, with a doubt where nobody can tell any more what its head was trained on.

    Notes, as a problem, validation and test images that the head has met.

    Args:
        head: that `--head` names.
        dataset: split and decoded.
    """
    if (head.recipe.image_size, head.recipe.fit) != (dataset.image_size, dataset.fit):
        return dataset  # such a head is refused for it, and pixels of another size tell nothing
    try:
        for run in _trained_by(RunFolder.open(head.run)):
            if run.info["fingerprints"]["data"] == dataset.fingerprint:
                continue
            before = images_before(run).at(dataset.image_size)
            if before.fingerprint == dataset.fingerprint:
                continue
            if before.notes.pixel_range != dataset.notes.pixel_range:
                raise InputError(f"the pixels of {run.name} were made of another range of values")
            problems.found += _met(head, run, before, dataset)
    except (InputError, KeyError) as error:
        reason = "; ".join(error.problems) if isinstance(error, InputError) else f"a run.json lacks {error}"
        unknown = Doubt(
            f"--head: nobody can tell whether {head.trial} of {head.run} was trained on images that are for validation "
            f"or test here: {reason}.",
            "Where it was, what is measured on them is too good; without --head, heads are searched here.",
        )
        return replace(dataset, account=dataset.account.adding(doubts=[unknown]))
    return dataset


def _trained_by(run: RunFolder) -> Iterator[RunFolder]:
    """The runs on whose images the head of a run was trained: its own, and those that it has its head from.

    Raises:
        InputError: one is gone.
    """
    known: set[str] = set()
    following: str | None = str(run.folder.resolve())
    while following is not None and following not in known:
        known.add(following)
        run = RunFolder.open(following)
        settings = run.info["settings"]
        if settings.get("head") is None:  # else it trained none
            yield run
        following = settings.get("continues") or settings.get("head")


def _met(head: StartingHead, run: RunFolder, before: Dataset, now: Dataset) -> list[str]:
    """A sentence on the images that are held out here and were not there; none where there are none.

    Copies among this search's own training images, which `--keep-copies` keeps, are none of the head's doing.
    """
    own = set(digests_of(now.train.pixels))
    trained = set(digests_of(before.train.pixels)) - own
    chosen = set(digests_of(before.val.pixels)) | trained
    val, test = _among(now.val, trained), _among(now.test, chosen - own)
    if not len(val) + len(test):
        return []
    paths = [*(now.val.paths[place] for place in val), *(now.test.paths[place] for place in test)]
    seed = run.info["settings"].get("seed")
    return [
        f"--head: {head.trial} of {head.run} was trained on, or chosen by, {len(val):,} of the validation images and "
        f"{len(test):,} of the test images here, e.g. {paths[0]}, which it knows better than new ones. Split the "
        f"images as {run.name} did (its --data, with --seed {seed}), or go on with that run: --continue {run.folder}"
    ]


def _among(split: Split, known: set[bytes]) -> NDArray[np.int64]:
    """The places of images that are known."""
    return np.flatnonzero([digest in known for digest in digests_of(split.pixels)])
