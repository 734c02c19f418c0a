"""A student: one network that learns from labels, and from what others answer to images with and without labels."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raysearch.data.dataset import Split
from raysearch.training.answers import exact_rows
from raysearch.training.bench import Bench, Fold
from raysearch.training.distillation import HARD_SHARE, Teacher
from raysearch.training.order import quick_places

MOST = 5
"""Images without labels that a student is trained on at most, as a multiple of those with labels."""
_BATCH = 256


def before_student(
    bench: Bench, networks: Sequence[nn.Sequential], image_size: int, seed: int, fold: tuple[int, int] | None
) -> tuple[Bench, int]:
    """The bench with a student's images and its teacher on it, and how many of the images have no label.

    Args:
        bench: with images that have no label; all labelled ones are its training and validation images.
        networks: the teachers, whole classifiers, none of which was trained on what the fold holds out.
        image_size: that all of them take, in pixels.
        seed: of the search, by which folds are drawn, and images where there are too many.
        fold: which of how many parts of the labelled images is held out; None: none is.
    """
    unlabelled = bench.unlabelled
    assert unlabelled is not None
    data, new = bench.dataset.at(image_size), unlabelled.images[image_size]
    labelled = Split.join(data.train, data.val)
    n, other = len(labelled), bench.seeing("train+val", fold, seed)
    train, val = np.arange(n), np.arange(len(data.train), n)
    if other.fold is not None:
        train, val = other.fold.train, other.fold.val
    chosen = np.sort(np.random.default_rng(seed).permutation(len(new))[: MOST * n])
    chosen = chosen[quick_places(len(chosen), bench.max_batches, _BATCH)]
    new = new.take(chosen)
    # A label that a teacher gives counts for the weight of its class, and for nothing else.
    new = replace(new, labels=_said(networks, new, bench.device))
    student = copy.copy(other)
    student.fold = Fold(np.concatenate([train, n + np.arange(len(new))]), val)
    images = Split.join(labelled, _apart(new, labelled))
    student.teacher = Teacher(tuple(networks), np.where(np.arange(len(images)) < n, HARD_SHARE, 0.0).astype(np.float32))
    # Its activations are of other images than those of the search, under the same names.
    of = f"{data.fingerprint} and {len(new)} of {unlabelled.fingerprint} by {seed}"
    fingerprint = hashlib.sha256(of.encode()).hexdigest()
    student.dataset = replace(data, train=images, fingerprint=fingerprint, others={})
    return student, len(new)


def _said(networks: Sequence[nn.Module], images: Split, device: torch.device) -> NDArray[np.int64]:
    """The class that networks together name for each image, (n,)."""
    for network in networks:
        network.to(device).eval()
    found, size = [np.empty(0, np.int64)], _BATCH
    for start in range(0, len(images), _BATCH):
        shares = []
        for network in networks:
            logits, size = exact_rows(network, np.asarray(images.pixels[start : start + _BATCH]), device, size)
            shares.append(torch.softmax(logits.double(), dim=1))
        found.append(torch.stack(shares).mean(dim=0).argmax(dim=1).numpy())
    return np.concatenate(found)


def _apart(new: Split, labelled: Split) -> Split:
    """The new images with other group numbers than the labelled ones have, for both count from 0."""
    if new.groups is None or labelled.groups is None:
        return new
    return replace(new, groups=new.groups - new.groups.min(initial=0) + labelled.groups.max() + 1)
