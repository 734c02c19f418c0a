"""What `predict --unknown` stands on: the training images as the shipped network sees them, and how far new ones are.

How far is measured out of fold, as `raysearch.winner.unknown` says. Test images have no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raysearch.data.dataset import Split
from raysearch.data.selection import evenly_spaced
from raysearch.job.job import Job
from raysearch.pipeline.finish import Finish
from raysearch.pipeline.looking import Statistics, Where, estimate_batch_norm, images_at, where_of
from raysearch.pipeline.shipping import fold_look
from raysearch.winner.shipment import Shipment
from raysearch.winner.unknown import Floats, Known, features, ratios, references, rounded
from raysearch.workers.cluster import Call

_JUDGES = 2000  # images that a network had not trained on, of which the distance is measured


@dataclass(frozen=True)
class Comparison:
    """One network on two groups of labelled images, by their places."""

    network: nn.Module
    known: NDArray[np.int64]
    """Some that it was trained on."""
    new: NDArray[np.int64]
    """Some that it was not trained on; there may be none."""
    image_size: int
    """That the network sees, pixels."""
    statistics: Statistics | None = None
    """As of `raysearch.pipeline.looking.Look`."""


@dataclass(frozen=True, eq=False)
class Compared:
    """What came of it."""

    vectors: NDArray[np.float16]
    """Features of the known images, of length 1, (n, width)."""
    ratios: Floats
    """How far the new ones are, (m,): see `raysearch.winner.unknown.ratios`."""


def known_images(job: Job, finish: Finish | None, shipment: Shipment, trial: str, call: Call) -> Known | None:
    """The training images, and how far from them new ones are; None where no image is left that can say.

    With a final comparison on folds, held-out images say it. Without one, validation images do, unless the shipped
    network was trained on them.

    Args:
        job: the settings and what they name.
        finish: what was trained after the search; None: the search's own network is shipped.
        shipment: what is shipped; its first network counts.
        trial: by whose recipe that network was trained.
        call: calls a function where trials run.
    """
    labelled, n_train = Split.join(job.dataset.train, job.dataset.val), len(job.dataset.train)
    everything = finish is not None and finish.finals.effort.on == "train+val"
    trained_on = np.arange(len(labelled) if everything else n_train)
    folds = _folds(job, finish, shipment, trial, labelled.labels)
    left = np.empty(0, np.int64) if folds else np.arange(len(trained_on), len(labelled))
    network, size = shipment.networks[0].classifier, shipment.networks[0].recipe.image_size
    own = Comparison(network, references(labelled.labels, trained_on, job.settings.seed), _spaced(left), size)
    shipped, *others = call(compared, where_of(job), [own, *folds])
    found = np.concatenate([shipped.ratios, *(one.ratios for one in others)])
    if not len(found):
        return None
    judges = np.concatenate([one.new for one in (own, *folds)])
    return Known.of(shipped.vectors, found, None if labelled.groups is None else labelled.groups[judges])


def _folds(
    job: Job, finish: Finish | None, shipment: Shipment, trial: str, labels: NDArray[np.int64]
) -> list[Comparison]:
    """The network of each fold, made as the shipped one is; none if a fold has none."""
    seeds_of = () if finish is None else finish.in_folds.get(trial, ())
    if finish is None or not seeds_of or not all(seeds_of):
        return []
    bench = job.bench_here()
    if shipment.kind == "student":
        seeds_of = tuple((one,) for one in finish.students_in_folds)
    averaged = shipment.kind in ("averaged", "mirror") and len(finish.refits) > 1
    comparisons, size = [], seeds_of[0][0].training.recipe.image_size
    for held_out, seeds in zip(finish.finals.held_out, seeds_of, strict=True):
        rest = np.setdiff1d(np.arange(len(labels)), held_out)
        known = references(labels, rest, job.settings.seed)
        one = fold_look(bench, seeds, held_out, len(labels), averaged)
        comparisons.append(Comparison(one.model, known, _spaced(held_out), size, one.statistics))
    return comparisons


def _spaced(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """All of them, or `_JUDGES` that are evenly spaced."""
    return places[evenly_spaced(len(places), _JUDGES)]


def compared(where: Where, comparisons: Sequence[Comparison]) -> list[Compared]:
    """Look at the images."""
    sizes, found = images_at(where.place, where.storage), []
    for one in comparisons:
        data = sizes.at(one.image_size)
        labelled = Split.join(data.train, data.val)
        if one.statistics is not None:
            estimate_batch_norm(one.network, one.statistics, data, where.seed, where.device)
        network = one.network
        assert isinstance(network, nn.Sequential)
        vectors, new = (
            features(network, labelled.take(places).pixels, torch.device(where.device)) if len(places) else None
            for places in (one.known, one.new)
        )
        assert vectors is not None
        none = np.empty(0)
        found.append(Compared(rounded(vectors), none if new is None else ratios(vectors, new)))
    return found
