"""Images whose decoded pixels are the same: across splits, within one, and under two labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np

from raysearch.data.account import EXAMPLES, Copies
from raysearch.data.listing import SPLITS, Listing, some
from raysearch.errors import InputError


def find_copies(listing: Listing, digests: Mapping[int, bytes], *, keep: bool) -> tuple[Copies, set[int]]:
    """What is a copy of what, and which images leave their split for it.

    An image of train that val or test has too leaves train, and one of val that test has too leaves val: test images
    are never taken out.

    Args:
        listing: the images.
        digests: of each image's decoded pixels, by its row; rows that could not be read are missing.
        keep: nothing leaves.

    Returns:
        the copies, and the rows that leave.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row in sorted(digests):
        groups[digests[row]].append(row)
    across: Counter[str] = Counter()
    within: Counter[str] = Counter()
    leaving: set[int] = set()
    examples: list[str] = []
    label_examples: list[str] = []
    two_labels = 0
    for rows in groups.values():
        if len(rows) == 1:
            continue
        homes = {split: [row for row in rows if listing.splits[row] == split] for split in SPLITS}
        for first, split in enumerate(SPLITS):
            within[split] += max(0, len(homes[split]) - 1)
            other = next((later for later in reversed(SPLITS[first + 1 :]) if homes[later]), None)
            if other is not None and homes[split]:
                across[f"{split}-{other}"] += len(homes[split])
                leaving.update(homes[split])
                examples.append(f"{listing.paths[homes[split][0]]} is {listing.paths[homes[other][0]]}")
        differing = {int(listing.labels[row]): row for row in rows}
        if len(differing) > 1:
            two_labels += 1
            label_examples.append(" is ".join(listing.paths[row] for row in differing.values()))
    removed = Counter(str(listing.splits[row]) for row in leaving)
    copies = Copies(
        across=dict(across),
        removed={} if keep else {split: removed[split] for split in SPLITS if removed[split]},
        kept=keep,
        within={split: n for split, n in within.items() if n},
        two_labels=two_labels,
        examples=tuple(examples[:EXAMPLES]),
        label_examples=tuple(label_examples[:EXAMPLES]),
    )
    return copies, set() if keep else leaving


def check_left(listing: Listing, leaving: set[int]) -> None:
    """Every class must keep training images, and validation must keep some, once copies have left.

    Raises:
        InputError: it has not.
    """
    left = np.ones(len(listing), dtype=bool)
    left[list(leaving)] = False
    problems = []
    for split in ("train", "val"):
        here = listing.splits == split
        lost = np.setdiff1d(listing.labels[here], listing.labels[here & left])
        if lost.size and (split == "train" or not (here & left).any()):
            classes = some([listing.classes[label] for label in lost])
            problems.append(
                f"{listing.source}: every image of {classes} in {split} is a copy of one in val or test, and would be "
                "left out for it. Take the copies out of the other split, or keep all of them by --keep-copies; if "
                "they are none, look at them: what is transparent, or of another scale, becomes all white or black."
            )
    if problems:
        raise InputError(problems)


def numbered(digests: Mapping[int, bytes]) -> dict[int, int]:
    """A number for each row, the same for rows of the same pixels."""
    known: dict[bytes, int] = {}
    return {row: known.setdefault(digests[row], len(known)) for row in sorted(digests)}
