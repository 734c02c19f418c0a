"""The known images of a classifier whose `best/` does not have them: from an index of the run's own images."""

from __future__ import annotations

import torch

from raysearch.errors import Problems
from raysearch.insight.embedder import Embedder
from raysearch.insight.index import Index
from raysearch.winner.best import Best
from raysearch.winner.unknown import Known, ratios


def known_by_index(index: Index, best: Best) -> Known:
    """Training images by an index; the test images in it say how far from them new images of their kind are.

    Validation images, which the last trainings may have seen, count as training images.

    Args:
        index: of the run's own images, by its own network.
        best: the classifier.

    Raises:
        InputError: an index of other images or of another network, or without training or test images.
    """
    test, problems = index.splits == "test", Problems()
    problems.check(bool(test.any()), "--known: the index has no test images")
    problems.check(not test.all(), "--known: the index has no training images")
    own = Embedder.of_best(best, None, torch.device("cpu"))
    problems.check(
        (index.maker.digest, index.maker.pooling) == (own.identity, own.recipe.pooling),
        "--known: the index is not by this run's network; make it by raysearch embed --run RUN, without --pooling",
    )
    problems.stop_if_any()
    return Known.of(index.vectors[~test], ratios(index.vectors[~test], index.vectors[test]))
