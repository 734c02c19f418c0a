"""A look at labelled images before anything is trained: which labels are wrong, what is there twice, what is odd."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from raysearch.activations.neighbours import Neighbours
from raysearch.data.account import Doubt
from raysearch.data.dataset import Dataset, Split
from raysearch.data.groups import joined, tied
from raysearch.data.listing import Listing, Skipped
from raysearch.insight.duplicates import Duplicate, find_duplicates
from raysearch.insight.embedder import Embedder
from raysearch.insight.facts import Facts, look_at
from raysearch.insight.label_errors import LabelErrors, find_label_errors
from raysearch.insight.outliers import Outliers, find_outliers
from raysearch.insight.shortcuts import Shortcut, balanced_accuracy, find_shortcuts
from raysearch.job.intake import class_doubts
from raysearch.training.heads.out_of_fold import EPOCHS, FOLDS, out_of_fold

NEIGHBOURS = 10


class Telling(Protocol):
    """Shows how far a step is."""

    def begin(self, what: str, total: int) -> None:
        """A step begins, of `total` parts."""

    def __call__(self, done: int = 1) -> None:
        """More parts are done."""


@dataclass(frozen=True, eq=False)
class Audited:
    """All images of a source: training, validation, test, in this order.

    Attributes:
        source: as it was given.
        classes: their names.
        images: the images.
        splits: train, val or test, shape (n,).
        rows: each image's row in the listing, shape (n,).
        listing: where they come from.
        skipped: what could not be read.
    """

    source: str
    classes: tuple[str, ...]
    images: Split
    splits: NDArray[np.str_]
    rows: NDArray[np.int64]
    listing: Listing
    skipped: tuple[Skipped, ...]

    @classmethod
    def of(cls, dataset: Dataset, listing: Listing) -> Audited:
        """The images of a data set that was loaded with its copies, and the listing that it was made of."""
        named = dataset.splits
        images = Split.join(*named.values())
        splits = np.repeat(list(named), [len(split) for split in named.values()])
        row = {
            (str(split), path): number
            for number, (split, path) in enumerate(zip(listing.splits, listing.paths, strict=True))
        }
        rows = [row[str(split), path] for split, path in zip(splits, images.paths, strict=True)]
        return cls(dataset.source, dataset.classes, images, splits, np.array(rows, np.int64), listing, dataset.skipped)

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found among n images.

    Attributes:
        of: the images.
        probabilities: of every class, out of fold, shape (n, classes).
        errors: labels that are probably wrong.
        duplicates: pairs that show one picture.
        outliers: images unlike all others.
        facts: what is known of each image without looking at what it shows.
        shortcuts: what was tried, whether it tells the class or not.
        vectors: of the frozen network, shape (n, width).
        doubts: what else is probably wrong, e.g. of the classes' sizes.
    """

    of: Audited
    probabilities: NDArray[np.float64]
    errors: LabelErrors
    duplicates: Sequence[Duplicate]
    outliers: Outliers
    facts: Facts
    shortcuts: Sequence[Shortcut]
    vectors: NDArray[np.float32]
    doubts: tuple[Doubt, ...]

    @cached_property
    def accuracy(self) -> float:
        """What the heads tell right out of fold, every class counting the same, by the labels as they are."""
        return balanced_accuracy(self.of.images.labels, self.probabilities.argmax(axis=1))[0]

    def across_splits(self, pair: Duplicate) -> bool:
        """Whether the two of a pair are in different splits."""
        return bool(self.of.splits[pair.image] != self.of.splits[pair.other])

    def across_classes(self, pair: Duplicate) -> bool:
        """Whether the two of a pair have different labels."""
        labels = self.of.images.labels
        return bool(labels[pair.image] != labels[pair.other])

    @cached_property
    def leaked(self) -> NDArray[np.int64]:
        """Training images that show what a validation or test image shows, ascending."""
        pairs = ((pair.image, pair.other) for pair in self.duplicates if self.across_splits(pair))
        return np.array(sorted({one for pair in pairs for one in pair if self.of.splits[one] == "train"}), np.int64)

    def to_drop(self, threshold: float) -> NDArray[np.int64]:
        """The training images that pass a threshold, ascending: see `raysearch audit --help`.

        Args:
            threshold: the least confidence with which a label is taken for wrong.
        """
        train = self.of.splits == "train"
        wrong = np.zeros(len(self.of), bool)
        wrong[self.errors.places] = True
        wrong &= self.errors.confidence >= threshold
        wrong[self.leaked] = True
        return np.flatnonzero(train & (wrong | self.facts.blank))


def audit(dataset: Dataset, listing: Listing, embedder: Embedder, *, seed: int = 0, telling: Telling) -> Audit:
    """Look at every image of a source. Trains heads on frozen features, and nothing else.

    Args:
        dataset: loaded with the copies that it has.
        listing: that the data set was made of.
        embedder: makes the features.
        seed: of folds, heads and samples.
        telling: shows how far it is.
    """
    of = Audited.of(dataset, listing)
    n = len(of)
    telling.begin("Features", n)
    vectors = embedder.of_dataset(dataset, telling)
    telling.begin("Neighbours", 1)
    near, similarities = Neighbours(vectors).others(NEIGHBOURS)
    telling.begin("Copies", n)
    duplicates = find_duplicates(of.images, near[:, :3], telling)
    telling.begin("Out-of-fold heads", FOLDS * EPOCHS)
    together = groups(of.images, duplicates)
    probabilities = out_of_fold(
        vectors, of.images.labels, len(of.classes), copies=together, seed=seed, progress=telling
    )
    telling.begin("Files and borders", n)
    facts = look_at(listing, of.rows, of.images.pixels, telling)
    telling.begin("Shortcuts", 1)
    shortcuts = find_shortcuts(facts, of.images.labels, seed, together)
    return Audit(
        of,
        probabilities,
        find_label_errors(of.images.labels, probabilities),
        duplicates,
        find_outliers(similarities),
        facts,
        shortcuts,
        vectors,
        (*dataset.account.doubts, *class_doubts(dataset.account.counts, "accuracy")),
    )


def groups(images: Split, pairs: Iterable[Duplicate]) -> NDArray[np.int64]:
    """A number that images have in common which say nothing of each other's labels, directly or by others, shape (n,).

    They show one picture, or belong together, say to one patient.
    """
    ends = np.array([(pair.image, pair.other) for pair in pairs], np.int64).reshape(-1, 2)
    copies = tied(len(images), ends[:, 0], ends[:, 1])
    return copies if images.groups is None else joined(images.groups, copies)


def nearest_of_class(audit: Audit, places: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of some images the most similar other image of a class; -1 where the class has no other.

    Args:
        audit: of the images.
        places: which, shape (m,).
        classes: of each of them, a class, shape (m,).
    """
    labels = audit.of.images.labels
    by_class: Mapping[int, NDArray[np.int64]] = {
        int(label): np.flatnonzero(labels == label) for label in np.unique(classes)
    }
    found = np.full(len(places), -1, np.int64)
    for number, (place, label) in enumerate(zip(places.tolist(), classes.tolist(), strict=True)):
        others = by_class[label][by_class[label] != place]
        if len(others):
            vectors = audit.vectors[others]
            lengths = np.linalg.norm(vectors, axis=1) + 1e-12
            found[number] = others[int((vectors @ audit.vectors[place] / lengths).argmax())]
    return found
