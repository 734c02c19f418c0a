"""The winner on its own, as `best/` holds it: loads it and predicts with it, without training data or weights."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from raysearch.data.decode import decode
from raysearch.data.value_range import PixelRange, RangeNeededError, assumed_range
from raysearch.errors import InputError, Problems
from raysearch.models.boundary import build_classifier, prepare
from raysearch.recipe import Recipe
from raysearch.winner.answers import (
    Decision,
    ImageLike,
    Images,
    Prediction,
    find_images,
    name_of,
    predictions,
    probabilities,
)
from raysearch.winner.best_files import MODEL, Labels, read_best, read_tensors, read_vectors, tensors_of
from raysearch.winner.shipment import Confidence, Network, Shipment
from raysearch.winner.unknown import Known, Stranger


@dataclass(frozen=True)
class Best:
    """A trained classifier as `best/` holds it."""

    folder: Path
    recipe: Recipe
    labels: tuple[str, ...]
    """Class names, in the order of the logits."""
    info: Labels = field(repr=False)
    """labels.json."""

    @property
    def pixel_range(self) -> PixelRange | None:
        """Which values of more than eight bits were black and white in training; None: there were none, or an older
        version trained.
        """
        return PixelRange.from_json(self.info["preprocessing"].get("range"))

    @property
    def confidence(self) -> Confidence:
        """How sure the classifier may be."""
        return Confidence.read(self.info.get("shipped"))

    def model(self) -> nn.Module:
        """The classifier as a plain module of torch, on the CPU, fp32, in eval mode; a new one at every call.

        It takes float32 (n, 3, image_size, image_size), RGB scaled to [0, 1] and normalised as ImageNet is, as `inputs`
        makes it, and returns logits (n, classes) in the order of `labels`, whose softmax is as sure as it is right.

        Raises:
            InputError: model.safetensors does not fit the recipe.
        """
        return self.shipment().module()

    def network(self) -> nn.Sequential:
        """The network, or the first of several, without temperature and mirror image; otherwise as `model`."""
        classifier = self.shipment().networks[0].classifier
        assert isinstance(classifier, nn.Sequential)
        return classifier

    def shipment(self) -> Shipment:
        """Every network, and how they answer together.

        Raises:
            InputError: model.safetensors does not fit the recipe.
        """
        path, info = self.folder / MODEL, self.info.get("shipped")
        found = read_tensors(self.folder)
        if info is None:
            return Shipment.of(self._built(self.recipe, found, path), self.recipe)
        alone = len(info["members"]) == 1
        networks = [
            Network(recipe, self._built(recipe, found if alone else tensors_of(found, number), path), one["weight"])
            for number, one in enumerate(info["members"])
            for recipe in [Recipe.model_validate(one["recipe"])]
        ]
        return Shipment(info["kind"], tuple(networks), info["mirrored"], self.confidence)

    def _built(self, recipe: Recipe, found: Mapping[str, torch.Tensor], path: Path) -> nn.Sequential:
        model = build_classifier(recipe, len(self.labels))
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        wrong = [
            f"{name}: found {tuple(found[name].shape) if name in found else 'none'}, expected {expected.get(name)}"
            for name in sorted({*expected, *found})
            if name not in found or expected.get(name) != tuple(found[name].shape)
        ]
        if wrong:
            raise InputError(f"{str(path)!r} does not fit {recipe.backbone}: {'; '.join(wrong[:3])}")
        model.load_state_dict(dict(found))
        return model.eval().requires_grad_(False)

    @functools.cached_property
    def known(self) -> Known:
        """The training images, and how far from them new images are that are like them.

        Raises:
            InputError: nobody has measured it, or its file is broken.
        """
        info = self.info.get("known")
        if info is None:
            raise InputError(
                "unknown: how far new images are from those of training was not measured for this classifier (an older "
                "version wrote it, or no labelled image was left that its network had not trained on): search with "
                "--folds 3, or name by --known what raysearch embed --data SOURCE --run RUN writes"
            )
        return Known.read(info, read_vectors(self.folder))

    def stranger(self, rate: float, known: Known | None = None, device: str | torch.device = "cpu") -> Stranger:
        """Tells images that are like none of training, by the features of the network, or of the first of several.

        Args:
            rate: share of false alarms among images like those that the search knew.
            known: other training images than those that are stored, in the features of this network.
            device: where the network runs.

        Raises:
            InputError: nobody has measured it, or the images are too few to promise that rate.
        """
        known = self.known if known is None else known
        return Stranger(self.network(), known, known.limit(rate), torch.device(device))

    def pixels(self, image: ImageLike) -> np.ndarray:
        """The image as uint8 (image_size, image_size, 3), through the one decoder and the range that training used.

        Raises whatever the file or its decoder comes to; ValueError, if it has more than eight bits, the training
        images had not, and its values leave open which of them is white.
        """
        data = Path(image).read_bytes() if isinstance(image, str | Path) else image
        size, fit = self.recipe.image_size, self.recipe.fit
        try:
            return decode(data, size, fit, self.pixel_range)
        except RangeNeededError as needed:
            return decode(data, size, fit, assumed_range(needed.extremes))

    def inputs(self, images: Images) -> torch.Tensor:
        """What `model()` takes: images decoded, resized and normalised, float32 (n, 3, image_size, image_size).

        Args:
            images: as of `predict`.

        Raises:
            InputError: a path that does not exist, or an image that cannot be read.
        """
        found = find_images(images)
        pixels = [self._read(image) for image in found]
        if unreadable := [i for i, one in enumerate(pixels) if isinstance(one, str)]:
            raise InputError(f"{name_of(found[i], i)} cannot be read: {pixels[i]}" for i in unreadable)
        return prepare(np.stack([one for one in pixels if not isinstance(one, str)]), torch.device("cpu"))

    def predict(
        self,
        images: Images,
        *,
        device: str | torch.device = "cpu",
        batch_size: int = 64,
        tta: bool = False,
        abstain: float | None = None,
        unknown: float | None = None,
    ) -> pd.DataFrame:
        """The answers as a table, a row an image, in the order given (folders: sorted by path).

        Args:
            images: one or many of: path of an image or a folder, an encoded image's bytes, a PIL image, or an array
                as `raysearch.data.decode.decode` takes it, e.g. uint8 (h, w, 3); or an array (n, h, w, 3) of several.
            device: where the network runs.
            batch_size: images at a time.
            tta, abstain, unknown: see `answers`.

        Returns: columns image, label and probability (None where there is no answer), error (None unless the image
            could not be read), then the probability of each class, in a column named "p_" and the class. With
            `unknown`, a column of that name says before these whether the image is, and then its label is "unknown".

        Raises:
            InputError: a path that does not exist, and whatever `answers` refuses.
        """
        found = find_images(images)
        answers = list(
            self.answers(found, device=device, batch_size=batch_size, tta=tta, abstain=abstain, unknown=unknown)
        )
        columns = {
            "image": [one.image for one in answers],
            "label": [one.answer for one in answers],
            "probability": [one.confidence for one in answers],
            "error": [one.error for one in answers],
            **({} if unknown is None else {"unknown": [one.unknown for one in answers]}),
            **{f"p_{name}": [one.probabilities.get(name) for one in answers] for name in self.labels},
        }
        return pd.DataFrame(columns)

    def answers(
        self,
        images: Sequence[ImageLike],
        *,
        device: str | torch.device = "cpu",
        batch_size: int = 64,
        tta: bool = False,
        abstain: float | None = None,
        unknown: float | None = None,
        known: Known | None = None,
    ) -> Iterator[Prediction]:
        """A prediction for each image, in order, as the batches are done; see `raysearch.winner.answers.predictions`.

        Args:
            images: as `find_images` lists them.
            device: where the network runs.
            batch_size: images at a time.
            tta: the probabilities are the mean of those of the image and of its mirror image (test-time augmentation).
            abstain: leave images unanswered, so that at most this share of the answers is wrong on images like those
                that the search knew; None: answer all.
            unknown: tell images that are like none of training, so that at most this share of images like those that
                the search knew is told too; it takes another pass through the network. None: nobody asks.
            known: as of `stranger`.

        Raises:
            InputError: tta of a recipe whose augmentation never mirrors: there, a mirrored image may be another class;
                or a share of errors, or of false alarms, that nobody can promise.
        """
        problems = Problems()
        problems.check(
            not tta or bool(self.recipe.augmentation.flip),
            "test-time augmentation asks for the mirror image too, and this recipe says by augmentation.flip = 0 "
            "that a mirrored image may be another class: predict without it",
        )
        least = None
        if abstain is not None:
            problems.check(
                not tta,
                "what abstaining promises was measured without test-time augmentation: take one of the two",
            )
            least = problems.attempt(self.confidence.promise, abstain)
        strange = None
        if unknown is not None:
            strange = problems.attempt(self.stranger, unknown, known, device)
        problems.stop_if_any()
        decide, chosen = Decision(self.labels, self.confidence.threshold, least), torch.device(device)

        def ask(pixels: np.ndarray) -> np.ndarray:
            return probabilities(self._ready_model.to(chosen), pixels, chosen, tta)

        return predictions(images, self._read, ask, decide, batch_size, strange)

    def _read(self, image: ImageLike) -> np.ndarray | str:
        """What `pixels` gives, or why the image cannot be read."""
        try:
            return self.pixels(image)
        except Exception as error:  # noqa: BLE001 (decoders raise anything; the other images are still fine)
            return f"{type(error).__name__}: {error}"

    @functools.cached_property
    def _ready_model(self) -> nn.Module:
        return self.model()


def load_best(folder: Path) -> Best:
    """Reads `best/` (given itself, or the run folder it is in); its tensors are read when `model()` is asked for.

    Raises:
        InputError: files are missing, unreadable, or of two different writes.
    """
    folder = folder / "best" if (folder / "best").is_dir() else folder
    recipe, labels = read_best(folder)
    return Best(folder, recipe, tuple(map(str, labels["classes"])), labels)
