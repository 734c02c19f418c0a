"""What somebody without raysearch must know to use an exported file: the JSON beside it, and inside it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import NotRequired, TypedDict

from raysearch.data.value_range import PixelRange
from raysearch.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from raysearch.recipe import Fit
from raysearch.record.evaluation import EvaluationDocument, Kind, Spread
from raysearch.winner.best import Best
from raysearch.winner.formats import NEEDS, OUTPUTS, Format

_FITS: dict[Fit, str] = {
    "squash": "stretch to image_size x image_size",
    "crop": "scale until the shorter side is image_size, and keep the square in the centre",
    "pad": "scale until the longer side is image_size, and fill up with black on both sides",
}


class Input(TypedDict):
    """The tensor that the file takes."""

    name: str
    dtype: str
    shape: list[str | int]
    axes: str
    color: str


class Output(TypedDict):
    """A tensor that the file computes."""

    dtype: str
    shape: list[str | int]
    order: str


class Before(TypedDict):
    """What is done to an image before it is given to the file."""

    decode: str
    range: dict[str, float] | None
    values: str
    resize: str
    fit: Fit
    image_size: int
    filter: str


class Inside(TypedDict):
    """What the file itself does to an image before the network."""

    scale: str
    mean: list[float]
    std: list[float]
    networks: int
    mirrored: bool
    """Whether each network sees the image and its mirror image; more than one view are averaged by probability."""
    temperature: float
    """What the logits were divided by already."""


class After(TypedDict):
    """What whoever reads the outputs makes of them."""

    threshold: float | None
    answer: str


class ShippedTestFigures(TypedDict):
    """How good the file itself was on the test images."""

    accuracy: float
    macro_f1: float


class TestFigures(TypedDict):
    """How good single trainings were on the test images, and the file itself, where that is known."""

    accuracy: Spread
    macro_f1: Spread
    shipped: NotRequired[ShippedTestFigures]


class Description(TypedDict):
    """An exported file, described."""

    format: Format
    versions: dict[str, str]
    kind: Kind
    backbone: str
    classes: list[str]
    input: Input
    outputs: dict[str, Output]
    before_the_graph: Before
    in_the_graph: Inside
    after_the_graph: After
    test: NotRequired[TestFigures]


def describe(best: Best, kind: Format, evaluation: EvaluationDocument | None = None) -> Description:
    """A file of a classifier: its input, its outputs, its classes, and what to do before it.

    Args:
        best: the classifier.
        kind: of the file.
        evaluation: evaluation.json, if it is there.
    """
    size, classes = best.recipe.image_size, len(best.labels)
    shipment = best.shipment()
    output: Output = {"dtype": "float32", "shape": ["batch", classes], "order": "as classes"}
    described: Description = {
        "format": kind,
        "versions": {name: metadata.version(name) for name in ("torch", *NEEDS[kind])},
        "kind": shipment.kind,
        "backbone": best.recipe.backbone,
        "classes": list(best.labels),
        "input": {
            "name": "images",
            "dtype": "uint8",
            "shape": ["batch", size, size, 3],
            "axes": "batch, height, width, channel",
            "color": "RGB",
        },
        "outputs": dict.fromkeys(OUTPUTS, output),
        "before_the_graph": {
            "decode": "upright by its EXIF orientation, sRGB by its colour profile, transparent parts over white",
            "range": None if best.pixel_range is None else best.pixel_range.as_json(),
            "values": _values(best.pixel_range),
            "resize": _FITS[best.recipe.fit],
            "fit": best.recipe.fit,
            "image_size": size,
            "filter": "bilinear with antialiasing, as Pillow's Image.resize(..., BILINEAR)",
        },
        "in_the_graph": {
            "scale": "byte / 255",
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
            "networks": len(shipment.networks),
            "mirrored": shipment.mirrored,
            "temperature": shipment.confidence.temperature,
        },
        "after_the_graph": _after(best.labels, shipment.confidence.threshold),
    }
    if evaluation is not None:
        test = evaluation["test"]
        described["test"] = {"accuracy": test["accuracy"], "macro_f1": test["macro_f1"]}
        if (shipped := evaluation.get("shipped")) is not None:
            figures = shipped["test"]
            described["test"]["shipped"] = {"accuracy": figures["accuracy"], "macro_f1": figures["macro_f1"]}
    return described


def _values(pixel_range: PixelRange | None) -> str:
    if pixel_range is None:
        return "8 bits, as they are"
    return f"8 bits as they are; of more bits {pixel_range} linearly to 0 to 255, clipped and rounded, before resizing"


def _after(labels: Sequence[str], threshold: float | None) -> After:
    if threshold is None:
        return {"threshold": None, "answer": "the class with the largest probability"}
    first, second = labels
    answer = f"{second} if its probability is at least the threshold, {first} otherwise"
    return {"threshold": threshold, "answer": answer}
