"""Opens a stage of a trial, or a pack of heads: from recipes and the images to what is ready to train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raysearch.activations.base import Activations
from raysearch.activations.sources import Boundary
from raysearch.data.augment import Augmenter
from raysearch.data.dataset import Split
from raysearch.errors import InputError
from raysearch.models.boundary import build_classifier, cut, pin
from raysearch.models.weights import Weights
from raysearch.recipe import Recipe, Stage
from raysearch.training.bench import Bench
from raysearch.training.distillation import Teacher
from raysearch.training.handover import HandoverError, check_handover, load_start
from raysearch.training.heads.folds import FoldedPack
from raysearch.training.heads.pack import HeadPack
from raysearch.training.images import Images, Labelled
from raysearch.training.label_errors import label_doubts, least_sure
from raysearch.training.loop import Trainer
from raysearch.training.order import QUICK_VALIDATION_BATCH, quick_look, quick_places, view_offset
from raysearch.training.penalties import pretrained_weights
from raysearch.training.signature import Signature, signature


def open_stage(
    bench: Bench,
    recipe: Recipe,
    stage_index: int,
    start: Mapping[str, Tensor] | None = None,
    *,
    ended_rate: float | None = None,
    expected_loss: float | None = None,
    expected_signature: Signature | None = None,
) -> Trainer:
    """A trainer for one stage of a recipe, before its first epoch.

    To go on with a stage that was broken off, open it without `start` and give the trainer its state.

    Args:
        bench: images, weights, device.
        recipe: of the trial.
        stage_index: which stage of its schedule.
        start: the best suffix of the stage before (or of the head search); None begins with pretrained blocks and a
            head fresh from the recipe's seed.
        ended_rate: learning rate of the last step of the stage before, for a stage that inherits it.
        expected_loss: val_loss saved with `start`; the hand-over gate then lets the stage begin only if it is found
            again (`Trainer.handover_delta`), and the start counts as epoch 0.
        expected_signature: saved with `start`.

    Raises:
        InputError: bench and recipe do not belong together.
        HandoverError: see `handover`.
        ValueError: the stage inherits a learning rate, and none is given.
    """
    stage = recipe.schedule[stage_index]
    if stage.inherit is not None:
        if not ended_rate:
            raise ValueError(
                f"stage {stage_index} takes over the learning rate of the stage before, which ended at {ended_rate}: "
                "let that one end above 0 (course plateau or constant), or give this one a learning_rate"
            )
        stage = stage.model_copy(update={"learning_rate": stage.inherit * ended_rate})
    on = _Place(bench, recipe, stage)
    pretrained = pretrained_weights(stage, on.suffix)
    problems = load_start(on.suffix, start, expected_signature or {}) if start is not None else []
    trainer = Trainer(
        on.suffix,
        stage,
        on.images(held_out=True),
        seed=recipe.seed,
        goal=bench.goal,
        device=bench.device,
        # A head alone is too small to gain from autocast; it would only lose digits.
        precision=bench.precision if stage.depth else "fp32",
        view_offset=view_offset(recipe, stage_index),
        signature=on.signature(),
        ranks=bench.ranks,
        pretrained=pretrained,
    )
    if expected_loss is not None:
        trainer.handover_delta = check_handover(
            trainer, expected_loss, start=start, saved=expected_signature, prefix=on.prefix, problems=problems
        )
    elif problems:
        raise HandoverError(problems)
    return trainer


def open_pack(bench: Bench, recipes: Sequence[Recipe], folds: int = 0) -> tuple[HeadPack | FoldedPack, Signature]:
    """Heads that train together, before their first epoch, and the signature of each one's tensors.

    Args:
        bench: images, weights, device.
        recipes: with equal `pack_key`s.
        folds: of the cross-validation that compares the heads; 0: the validation images do.

    Raises:
        InputError: bench and recipes do not belong together.
        ValueError: the recipes do not belong in one pack.
    """
    on = _Place(bench, recipes[0], recipes[0].schedule[0])
    images = on.images(held_out=False)
    if folds:
        still = on.still_activations()
        pack = FoldedPack(
            recipes,
            images,
            folds=folds,
            still=still,
            goal=bench.goal,
            device=bench.device,
            groups=on.groups,
        )
        return pack, on.signature()
    return HeadPack(recipes, images, goal=bench.goal, device=bench.device), on.signature()


class _Place:
    """A stage of a recipe on a bench: the network cut at its boundary, and the images that it sees.

    Raises:
        InputError: bench and recipe do not belong together.
    """

    def __init__(self, bench: Bench, recipe: Recipe, stage: Stage) -> None:
        sizes = bench.dataset.sizes
        if recipe.image_size not in sizes or recipe.fit != bench.dataset.fit:
            raise InputError(
                f"the recipe wants images of {recipe.image_size} px ({recipe.fit}), "
                f"the data was loaded at {' and '.join(map(str, sizes))} px ({bench.dataset.fit})"
            )
        self._dataset = dataset = bench.dataset.at(recipe.image_size)
        self._bench, self._recipe, self._stage = bench, recipe, stage
        self._classifier = build_classifier(recipe, len(dataset.classes))
        self._weights = bench.weights_of(recipe)
        _load_base(self._classifier, recipe, self._weights)
        self._classifier.get_submodule("head.dropout").p = stage.dropout  # type: ignore[assignment]
        self.prefix, self.suffix = cut(self._classifier, stage.depth)
        pin(self.prefix)
        self._boundary = Boundary(
            recipe, stage.depth, self.prefix, weights=self._weights.digest, fingerprint=dataset.fingerprint
        )
        most, fold = bench.max_batches, bench.fold
        if fold is None:
            self._train = _Part("train", quick_look(dataset.train, most, stage.batch_size))
            self._val = _Part("val", quick_look(dataset.val, most, QUICK_VALIDATION_BATCH))
        else:
            places, teacher = fold.train, bench.teacher
            if teacher is not None and stage.depth < recipe.depth:  # teachers have trained what is frozen here
                places, teacher = places[teacher.hard[places] > 0], None
            seen = places[quick_places(len(places), most, stage.batch_size)]
            self._train = _Part("train", dataset.train, seen, teacher and teacher.behind(stage.depth))
            judging = quick_places(len(fold.val), most, QUICK_VALIDATION_BATCH)
            self._val = _Part("labelled", dataset.train, fold.val[judging])
        if stage.drop_label_errors:
            self._train = replace(self._train, places=self._without_label_errors(stage.drop_label_errors))

    def _without_label_errors(self, share: float) -> NDArray[np.int64]:
        """The places of the training images that are left when this share of the labels, the most doubted, is dropped.

        The first of several workers says which: the others' last digits might say otherwise.
        """
        bench, part = self._bench, self._train
        places = np.arange(len(part.split)) if part.places is None else part.places
        # A label that is a teacher's answer is none that somebody may have got wrong.
        given = places if part.teacher is None else places[part.teacher.hard[places] > 0]
        labelled = replace(part, places=given)
        left = torch.zeros(len(given), dtype=torch.int32)
        if bench.ranks.first:
            left[least_sure(self._label_doubts(labelled, given), labelled.labels, share)] = 1
        left = bench.ranks.total(left.to(bench.device)).cpu()
        return places[~np.isin(places, given[np.flatnonzero(left.numpy() == 0)])]

    def _label_doubts(self, part: _Part, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """How sure it is that each label is wrong; computed once for all trials of this process."""
        bench, known = self._bench, self._bench.label_doubts
        digest, fingerprint = self._weights.digest, self._dataset.fingerprint
        key = (digest, fingerprint, part.name, part.split.paths, places.tobytes())
        if key not in known:
            recipe, classes = self._recipe.model_copy(update={"pooling": "avg"}), len(self._dataset.classes)
            classifier = build_classifier(recipe, classes)
            _load_base(classifier, recipe, self._weights)
            prefix = pin(cut(classifier, 0)[0])
            at = Boundary(recipe, 0, prefix, weights=digest, fingerprint=fingerprint)
            features = bench.sources.activations(at, part.name, part.split, precision=bench.precision)
            groups = None if part.split.groups is None else part.split.groups[places]
            known[key] = label_doubts(features, places, part.labels, classes, groups)
        return known[key]

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """Which training images belong together: see `Split.groups`."""
        return self._train.split.groups

    def images(self, *, held_out: bool) -> Images:
        """What the stage sees: training images in the training's precision, the others exact.

        Args:
            held_out: whether it measures its best state on the images that the bench holds out.
        """
        train = self._train.of(self._train_activations(augmented=True))
        images = Images(self._bench.dataset.classes, train, self._exact(self._val))
        if not held_out or self._bench.held_out is None:
            return images
        held = self._bench.held_out[self._dataset.image_size]
        split = quick_look(held, self._bench.max_batches, QUICK_VALIDATION_BATCH)
        return replace(images, held_out=self._exact(_Part("held_out", split)))

    def still_activations(self) -> Activations:
        """The activations of the training images as they are, in the training's precision."""
        return self._train.of(self._train_activations(augmented=False)).activations

    def _train_activations(self, *, augmented: bool) -> Activations:
        augmenter = None
        if augmented and self._stage.strength:
            augmenter = Augmenter(self._recipe.augmentation, self._stage.strength, self._recipe.seed)
        return self._bench.sources.activations(
            self._boundary, self._train.name, self._train.split, augmenter=augmenter, precision=self._bench.precision
        )

    def _exact(self, part: _Part) -> Labelled:
        """Images as they are, in fp32."""
        return part.of(self._bench.sources.activations(self._boundary, part.name, part.split))

    def signature(self) -> Signature:
        """What the suffix fits."""
        dataset = self._dataset
        return signature(
            self._classifier,
            self.suffix,
            base=self._weights.digest,
            images=dataset.fingerprint,
            image_size=self._recipe.image_size,
            fit=self._recipe.fit,
            classes=dataset.classes,
            val_labels=self._val.labels,
        )


@dataclass(frozen=True, eq=False)
class _Part:
    """Images of a stage: a split, or those at some places of it, which are read by way of all of it."""

    name: str
    split: Split
    places: NDArray[np.int64] | None = None
    teacher: Teacher | None = None
    """Of the whole split."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels of the images, in their order."""
        return self.split.labels if self.places is None else self.split.labels[self.places]

    def of(self, activations: Activations) -> Labelled:
        """These images, of the activations of the whole split."""
        labelled = Labelled(activations, self.split.labels, self.teacher)
        return labelled if self.places is None else labelled.take(self.places)


def _load_base(classifier: nn.Sequential, recipe: Recipe, weights: Weights) -> None:
    """Loads the backbone's tensors, all of them and no others."""
    shapes = {name: tensor.shape for name, tensor in classifier.state_dict().items() if not name.startswith("head.")}
    given = {name: tensor.shape for name, tensor in weights.state.items()}
    if shapes != given:
        wrong = sorted(name for name in shapes.keys() | given.keys() if shapes.get(name) != given.get(name))
        raise InputError(
            f"the weights ({weights.origin}) are not those of {recipe.backbone}: {', '.join(wrong[:3])} "
            f"({len(wrong)} tensors) do not fit; load the weights of {recipe.backbone}"
        )
    classifier.load_state_dict(dict(weights.state), strict=False)
