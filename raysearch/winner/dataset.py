"""Images of any source as a finished classifier wants them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from raysearch.data.dataset import Dataset, Split
from raysearch.data.labels import matched
from raysearch.data.pixels import load
from raysearch.data.reading import AS_IT_IS, Reading
from raysearch.errors import InputError
from raysearch.winner.best import Best

logger = logging.getLogger(__name__)


def dataset_for(
    best: Best,
    source: str,
    *,
    seed: int = 0,
    measuring: bool = True,
    keep_copies: bool = True,
    reading: Reading = AS_IT_IS,
) -> Dataset:
    """The images of SOURCE as the classifier wants them, labels numbered as the classifier numbers them, by name.

    Images of more than eight bits are scaled by the range of the images that the classifier was trained on.

    Args:
        best: the classifier.
        source: as of `load`.
        seed: of the splits that the source does not give.
        measuring: whether the images are only measured; of those that the search itself took, it was False.
        keep_copies: as of `load`.
        reading: as of `load`.

    Raises:
        InputError: SOURCE has classes that the classifier does not know, or cannot be read.
    """
    size, fit, own = best.recipe.image_size, best.recipe.fit, best.pixel_range
    how: dict[str, Any] = {"seed": seed, "measuring": measuring, "keep_copies": keep_copies, "reading": reading}
    dataset = load(source, image_size=size, fit=fit, **how)
    found = dataset.notes.pixel_range
    if found is not None and own is None:
        logger.warning(
            "%s has values of more than 8 bits and the classifier was trained on 8: the range %s is taken",
            source,
            found,
        )
    elif found is not None and found != own:
        dataset = load(source, image_size=size, fit=fit, pixel_range=own, **how)
    meant = matched(dataset.classes, best.labels)
    unknown = [name for name in dataset.classes if name not in meant]
    if unknown:
        raise InputError(
            f"{source!r} has classes that the classifier does not know: {', '.join(unknown)}; "
            f"it knows {', '.join(best.labels)}. Take their images away, or call them as the classifier does"
        )
    places = np.array([best.labels.index(meant[name]) for name in dataset.classes], dtype=np.int64)

    def renumbered(split: Split) -> Split:
        return replace(split, labels=places[split.labels])

    return replace(
        dataset,
        classes=best.labels,
        train=renumbered(dataset.train),
        val=renumbered(dataset.val),
        test=renumbered(dataset.test),
    )
