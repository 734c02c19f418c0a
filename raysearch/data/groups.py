"""Images that belong together, say of one patient: they must not be parted, or a network is measured on what it knows.

A group is named by a table's column, or found in the images' paths; images without a name are groups of their own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from raysearch.data.account import Doubt
from raysearch.data.listing import SPLITS, some
from raysearch.data.split import FRACTION, missing_splits
from raysearch.errors import InputError


def names_in_paths(pattern: str, paths: Sequence[str], *, must_match: bool = True) -> list[str]:
    """The group of each image by `--group-by`: the first group of the pattern's match in its path, "" without a match.

    Args:
        pattern: a regular expression.
        paths: of the images.
        must_match: whether to refuse a pattern that matches no path.

    Raises:
        InputError: the pattern cannot be read, has no group, or matches no path though it must.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group-by {pattern!r} is no regular expression: {error}") from error
    if not compiled.groups:
        raise InputError(f"--group-by {pattern!r} has no (…) around what names the group, e.g. 'patient([0-9]+)_'")
    names = [(match.group(1) or "") if (match := compiled.search(path)) else "" for path in paths]
    if must_match and paths and not any(names):
        raise InputError(f"--group-by {pattern!r} matches no path; the paths are like {some(paths)}")
    return names


def numbered(names: Sequence[str]) -> NDArray[np.int64]:
    """A number for each image, shape (n,): the same for images of one name; those without a name have their own."""
    _, numbers = np.unique(np.asarray(names, dtype=object), return_inverse=True)
    alone = np.array([not name for name in names], dtype=bool)
    numbers = np.asarray(numbers, np.int64).copy()
    numbers[alone] = numbers.max(initial=0) + 1 + np.arange(alone.sum())
    return numbers


def joined(groups: NDArray[np.int64], copies: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers that images have in common which one group, or one picture, ties together, however many steps away.

    Args:
        groups, copies: numbers, shape (n,) each.
    """
    if not len(groups):
        return groups
    (_, one), (_, other) = (np.unique(numbers, return_inverse=True) for numbers in (groups, copies))
    other = other + one.max() + 1
    return tied(int(other.max()) + 1, one, other)[one]


def tied(n: int, ends: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number that those of n things have in common which pairs tie together, however many steps away, shape (n,).

    Args:
        n: how many things.
        ends, others: the two of each pair, shape (m,) each.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = coo_array((np.ones(len(ends), bool), (ends, others)), shape=(n, n))
    return connected_components(pairs, directed=False)[1].astype(np.int64)


def told(
    what: str, names: Sequence[str], given: NDArray[np.str_], filled: NDArray[np.str_], labels: NDArray[np.int64]
) -> list[str]:
    """What the account says of groups: how many there are, and how near to their shares the splits came.

    Args:
        what: says the groups, e.g. "the column patient_id".
        names: of each image, "" for none.
        given: the splits as the source gives them.
        filled: as they are.
        labels: shape (n,).
    """
    sizes = Counter(name for name in names if name)
    alone = len(names) - sizes.total()
    counts = sorted(sizes.values())
    lines = [
        f"Images are kept together by {what}: {len(counts):,} groups of {counts[0]:,} to {counts[-1]:,} images"
        + (f"; {alone:,} image{'s' * (alone != 1)} have none, and stand alone." if alone else ".")
    ]
    if missing := missing_splits(given):
        pool = (given == "") | (given == SPLITS[0])
        came = []
        for name in missing:
            here = pool & (filled == name)
            shares = [
                (here & (labels == one)).sum() / (pool & (labels == one)).sum() for one in np.unique(labels[pool])
            ]
            came.append(f"{name} has {here.sum() / pool.sum():.1%} (of a class {min(shares):.1%} to {max(shares):.1%})")
        lines.append(f"With groups whole, instead of {FRACTION:.0%} {' and '.join(came)}.")
    return lines


def leaks(what: str, names: Sequence[str], splits: NDArray[np.str_]) -> list[Doubt]:
    """Groups that the source's own splits part, by name and count."""
    doubts = []
    here = {
        split: Counter(name for name, at in zip(names, splits, strict=True) if name and at == split) for split in SPLITS
    }
    for first, one in enumerate(SPLITS):
        for other in SPLITS[first + 1 :]:
            if both := sorted(here[one].keys() & here[other].keys()):
                doubts.append(
                    Doubt(
                        f"{len(both):,} group{'s' * (len(both) != 1)} by {what} {'are' if len(both) != 1 else 'is'} in "
                        f"{one} and in {other}: {some(both)}, with {_count(here[one], both)} images there and "
                        f"{_count(here[other], both)} here.",
                        f"The splits are as given; what is measured on {other} is better than for groups that were "
                        "never met. Put each group into one split, or leave the splits out to have them cut.",
                    )
                )
    return doubts


def _count(counts: Mapping[str, int], names: Sequence[str]) -> str:
    return f"{sum(counts[name] for name in names):,}"
