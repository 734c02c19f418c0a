"""Images that nobody has labelled, decoded as those that have labels are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.dataset import Dataset, Split
from raysearch.data.decoding import digests_of
from raysearch.data.files import FileReader
from raysearch.data.groups import names_in_paths
from raysearch.data.listing import Listing
from raysearch.data.pixels import decoded
from raysearch.data.walk import walk_folder
from raysearch.errors import InputError
from raysearch.storage.files import replace_with

logger = logging.getLogger(__name__)

_CLASS = "unlabelled"


def load_unlabelled(
    folder: Path, like: Dataset, *, group_by: str | None = None, progress: bool = True, cache: Path | None = None
) -> Dataset:
    """Every image in a folder, to the bottom of it, whatever its folders are called; all are in `train`.

    They come in every size that the labelled images have. Images of a group that has labelled ones are left out: what
    learns from them would be judged by others of their group.

    Args:
        folder: of the images.
        like: the labelled images, whose size, fit and range these get.
        group_by: names an image's group by its path, as `raysearch.data.groups.names_in_paths` does.
        progress: show a bar while decoding, on stderr.
        cache: folder for decoded images; None: `cache_root()`.

    Raises:
        InputError: there is no such folder, no image in it or none but copies of labelled ones or others of their
            groups, or too many cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"--unlabelled {folder}: no such folder; name one with images")
    walked = walk_folder(folder)
    names = sorted(walked.images)
    if not names:
        raise InputError(": ".join([f"--unlabelled {folder}: there are no images in it", *walked.odd()]))
    for line in walked.odd():
        logger.warning("--unlabelled %s: %s", folder, line)
    if group_by is not None:
        names = _of_other_groups(names, like, group_by, folder)
    listing = Listing(
        str(folder),
        (_CLASS,),
        tuple(names),
        np.zeros(len(names), dtype=np.int64),
        np.full(len(names), "train", dtype="<U5"),
        FileReader([folder / name for name in names]),
    )
    used = like.notes.pixel_range
    first, *others = (
        decoded(listing, size, like.fit, cache=cache, progress=progress, pixel_range=used, measuring=True)
        for size in like.sizes
    )
    found = first.with_sizes(others)
    if not len(without_copies(found, like).images[found.image_size]):
        told = f"all {len(found.train)} images are copies of labelled ones"
        raise InputError(f"--unlabelled {folder}: {told}; name a folder with others")
    return found


def _of_other_groups(names: list[str], like: Dataset, group_by: str, folder: Path) -> list[str]:
    known = {one for split in like.splits.values() for one in names_in_paths(group_by, split.paths, must_match=False)}
    groups = names_in_paths(group_by, names, must_match=False)
    left = [name for name, group in zip(names, groups, strict=True) if not group or group not in known]
    if not left:
        told = f"all {len(names)} images are of groups that have labelled ones (--group-by {group_by})"
        raise InputError(f"--unlabelled {folder}: {told}; name a folder with others")
    if gone := len(names) - len(left):
        told = "%d images are left out, for their groups have labelled ones (--group-by %s)"
        logger.warning(f"--unlabelled %s: {told}", folder, gone, group_by)
    return left


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Images without labels, none of which is a copy of one that has a label."""

    images: Mapping[int, Split]
    """In each size, by pixels."""
    fingerprint: str


def without_copies(unlabelled: Dataset, labelled: Dataset) -> Unlabelled:
    """Those of the unlabelled images that are no copies of each other, nor of any image of the labelled data.

    A test image is not trained on without its label either, and a held-out one would have an answer of its own network.
    Which these are is found once and kept beside the images.
    """
    file = unlabelled.folder / f"fresh-{labelled.fingerprint[:32]}.npy"
    if not file.exists():
        known = {digest for split in labelled.splits.values() for digest in digests_of(split.pixels)}
        fresh = []
        for place, digest in enumerate(digests_of(unlabelled.train.pixels)):
            if digest not in known:
                known.add(digest)
                fresh.append(place)
        places = np.array(fresh, dtype=np.int64)

        def write(path: Path) -> None:
            with path.open("wb") as stream:
                np.save(stream, places)

        replace_with(file, write)
    found: NDArray[np.int64] = np.load(file)
    paths = tuple(f"{_CLASS}/{unlabelled.train.paths[place]}" for place in found)
    splits = {size: replace(one.train.take(found), paths=paths) for size, one in unlabelled.sizes.items()}
    return Unlabelled(splits, unlabelled.fingerprint)
