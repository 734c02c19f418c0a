"""A student: one network that learns from labels, and from what others answer to images with and without labels.

Of the images without a label those are kept that its teachers, together, answer alike however they are seen (after Sohn
et al. 2020, FixMatch), and of these the surest half of each class: networks are not equally sure of all classes, and
one bound for all (0.8, on a small set of images) left but one class of three. Their softened answers are its targets.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raysearch.data.augment import Augmenter
from raysearch.data.dataset import Split
from raysearch.models.boundary import prepare
from raysearch.recipe import Recipe
from raysearch.training.bench import Bench, Fold
from raysearch.training.checkpoint import CheckpointError, load_tensors, save_tensors
from raysearch.training.distillation import HARD_SHARE, Teacher
from raysearch.training.numerics import full_precision
from raysearch.training.order import quick_places

KEPT = 0.5
"""Of the images of a class that are answered alike, the share that is learned from: the surest."""
VIEWS = 2
"""Augmented views that must agree with the image as it is, and with its mirror image."""
MOST = 5
"""Images without labels that a student is trained on at most, as a multiple of those with labels."""
ANSWERS = "answers.safetensors"
_BATCH = 256


@dataclass(frozen=True, eq=False)
class TeacherAnswers:
    """What teachers answer to images."""

    probabilities: NDArray[np.float32]
    """The mean over networks of the image and, if it may be mirrored, its mirror image, (n, c)."""
    confidence: NDArray[np.float32]
    """The mean over all views of the answer's probability; 0 where a view is answered otherwise, (n,)."""

    def surest(self, most: int) -> NDArray[np.int64]:
        """The images to learn from, ascending: of each class as it is answered, the same share, at most so many."""
        alike = self.confidence > 0
        share = min(KEPT, most / max(1, int(alike.sum())))
        said, kept = self.probabilities.argmax(axis=1), [np.empty(0, np.int64)]
        for label in range(self.probabilities.shape[1]):
            here = np.flatnonzero(alike & (said == label))
            order = np.argsort(-self.confidence[here], kind="stable")
            kept.append(here[order[: int(share * len(here))]])
        return np.sort(np.concatenate(kept))


def answers_of(
    networks: Sequence[nn.Module], images: Split, recipe: Recipe, device: torch.device, views: int = VIEWS
) -> TeacherAnswers:
    """What networks answer together to some images: the mean of their probabilities.

    Args:
        networks: prepared images to logits (m, c); they are put on the device, and left in eval mode.
        images: at least one; their labels are not looked at.
        recipe: whose augmentation makes the views.
        device: where they run.
        views: augmented ones that must agree.
    """
    strength = recipe.schedule[-1].strength
    augmenter = Augmenter(recipe.augmentation, strength, recipe.seed) if strength else None
    for network in networks:
        network.to(device).eval()
    plain, confidence = [], []
    for start in range(0, len(images), _BATCH):
        pixels = np.asarray(images.pixels[start : start + _BATCH])
        indices = np.arange(start, start + len(pixels))
        seen = [pixels]
        if recipe.augmentation.flip:
            seen.append(np.ascontiguousarray(pixels[:, :, ::-1]))
        as_it_is = len(seen)
        if augmenter is not None:
            seen += [augmenter(pixels, indices, view) for view in range(1, 1 + views)]
        said = np.stack([_mean(networks, view, device) for view in seen])
        alike = (said.argmax(axis=2) == said[0].argmax(axis=1)).all(axis=0)
        plain.append(said[:as_it_is].mean(axis=0))
        confidence.append(np.where(alike, said.mean(axis=0).max(axis=1), 0.0))
    return TeacherAnswers(np.concatenate(plain).astype(np.float32), np.concatenate(confidence).astype(np.float32))


@torch.inference_mode()
def _mean(networks: Sequence[nn.Module], pixels: NDArray[np.uint8], device: torch.device) -> NDArray[np.float64]:
    inputs = prepare(pixels, device)
    with full_precision(device):
        shares = [torch.softmax(network(inputs).double(), dim=1) for network in networks]
    return torch.stack(shares).mean(dim=0).cpu().numpy()


def before_student(
    bench: Bench, networks: Sequence[nn.Module], recipe: Recipe, file: Path, seed: int, fold: tuple[int, int] | None
) -> tuple[Bench, int]:
    """The bench with a student's images on it, and how many of them have no label.

    Args:
        bench: with images that have no label; all labelled ones are its training and validation images.
        networks: the teachers, none of which was trained on what the fold holds out.
        recipe: of the student.
        file: where the answers are kept; they are read from there, if they are of the same images.
        seed: of the search, by which folds are drawn.
        fold: which of how many parts of the labelled images is held out; None: none is.
    """
    unlabelled = bench.unlabelled
    assert unlabelled is not None
    data, new = bench.dataset.at(recipe.image_size), unlabelled.images[recipe.image_size]
    labelled = Split.join(data.train, data.val)
    n, images = len(labelled), Split.join(labelled, _apart(new, labelled))
    other = bench.seeing("train+val", fold, seed)
    train, val = np.arange(n), np.arange(len(data.train), n)
    if other.fold is not None:
        train, val = other.fold.train, other.fold.val
    train = train[quick_places(len(train), bench.max_batches, _BATCH)]
    without = n + quick_places(len(new), bench.max_batches, _BATCH)
    fingerprint = hashlib.sha256(f"{data.fingerprint} and {unlabelled.fingerprint}".encode()).hexdigest()
    if (answers := _kept(file, fingerprint)) is None:
        answers = _to_all(images, train, answers_of(networks, images.take(train), recipe, bench.device, views=0))
        if len(without):
            found = _to_all(images, without, answers_of(networks, images.take(without), recipe, bench.device))
            answers = TeacherAnswers(answers.probabilities + found.probabilities, found.confidence)
        _keep(file, answers, fingerprint)
    labels = images.labels.copy()
    labels[n:] = answers.probabilities[n:].argmax(axis=1)
    images = replace(images, labels=labels)
    chosen = n + TeacherAnswers(answers.probabilities[n:], answers.confidence[n:]).surest(MOST * len(train))
    hard = np.where(np.arange(len(images)) < n, HARD_SHARE, 0.0).astype(np.float32)
    student = copy.copy(other)
    student.fold = Fold(np.concatenate([train, chosen]), val)
    student.teacher = Teacher(answers.probabilities, hard)
    # Its activations are of other images than those of the search, under the same names.
    student.dataset = replace(data, train=images, fingerprint=fingerprint, others={})
    return student, len(chosen)


def _apart(new: Split, labelled: Split) -> Split:
    """The new images with other group numbers than the labelled ones have, for both count from 0."""
    if new.groups is None or labelled.groups is None:
        return new
    return replace(new, groups=new.groups - new.groups.min(initial=0) + labelled.groups.max() + 1)


def _to_all(images: Split, places: NDArray[np.int64], answers: TeacherAnswers) -> TeacherAnswers:
    """Answers to some images as such to all of them: nothing is said of the others."""
    probabilities = np.zeros((len(images), answers.probabilities.shape[1]), dtype=np.float32)
    confidence = np.zeros(len(images), dtype=np.float32)
    probabilities[places], confidence[places] = answers.probabilities, answers.confidence
    return TeacherAnswers(probabilities, confidence)


def _keep(file: Path, answers: TeacherAnswers, fingerprint: str) -> None:
    tensors = {
        "probabilities": torch.from_numpy(answers.probabilities),
        "confidence": torch.from_numpy(answers.confidence),
    }
    save_tensors(file, tensors, {"images": fingerprint})


def _kept(file: Path, fingerprint: str) -> TeacherAnswers | None:
    """The answers that are there, of the same images."""
    try:
        tensors, about = load_tensors(file)
    except CheckpointError:
        return None
    if about != {"images": fingerprint}:
        return None
    return TeacherAnswers(tensors["probabilities"].numpy(), tensors["confidence"].numpy())
