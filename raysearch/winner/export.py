"""The winner as one file for other runtimes: ONNX, or a program of torch.export, checked as soon as it is written.

The graph takes what an image decoder gives, uint8 RGB (n, h, w, 3), and normalises inside. Decoding and resizing stay
outside: a JSON file beside it, and a copy of it inside, say how training did them (`raysearch.winner.description`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from raysearch.data.named import BUNDLED, canonical_name
from raysearch.data.reading import AS_IT_IS, Reading
from raysearch.data.selection import evenly_spaced
from raysearch.data.source import list_source
from raysearch.errors import InputError
from raysearch.models.boundary import prepare
from raysearch.record.evaluation import EvaluationDocument
from raysearch.record.folder import RunFolder
from raysearch.storage.files import replace_json, replace_with
from raysearch.winner.best import Best, load_best
from raysearch.winner.description import describe
from raysearch.winner.formats import SUFFIXES, Computes, Exportable, Format, problems_of, read_file, write_file

TOLERANCE = 1e-4
"""The largest difference of a logit that is let pass."""
BATCHES = (1, 2, 13, 48)
"""Sizes of the batches in which an exported file is checked: an axis that is not dynamic fails at the second."""


class ExportError(RuntimeError):
    """The exported file does not compute what the classifier computes; it is not left behind."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, read back and compared with the classifier."""

    file: Path
    description: Path
    """The JSON file beside it."""
    difference: float
    """The largest absolute difference of a logit."""
    images: int
    """How many images were compared."""
    images_of: str
    """The source of these images."""
    batch_sizes: tuple[int, ...]
    """The batches in which they were compared."""


def export_run(folder: Path, kind: Format, file: Path | None = None) -> Exported:
    """Exports the winner of a run, checked with the run's own images if they are still where they were.

    Args:
        folder: of a run, or of what it left in best/.
        kind: onnx or torch.
        file: None: best/model.onnx or best/model.pt2.

    Raises:
        InputError: there is no winner, a package is missing, or the file's name is wrong; all problems together.
        ExportError: a logit differs by more than `TOLERANCE`.
    """
    problems: list[str] = []
    best = None
    try:
        best = load_best(folder)
    except InputError as error:
        problems += error.problems
    target = file or (folder if best is None else best.folder) / f"model{SUFFIXES[kind]}"
    problems += problems_of(target, kind)
    if problems or best is None:
        raise InputError(problems)
    whole = best.folder.parent
    run = RunFolder.open(whole) if (whole / "run.json").is_file() else None
    settings = {} if run is None else run.info.get("settings", {})
    images, images_of = check_images(best, settings.get("data"), settings.get("columns"), settings.get("images"))
    return export(best, kind, target, images, images_of=images_of, evaluation=None if run is None else run.evaluation)


def check_images(
    best: Best, source: str | None, columns: str | None = None, folder: str | None = None
) -> tuple[np.ndarray, str]:
    """Images to compare by, as the classifier sees them, and where they are from.

    They are spread over `source`, or over the bundled images where that is no longer here or not whole: nothing is
    downloaded for this.

    Args:
        best: the classifier.
        source: that it was trained on; `columns` and `folder` as of `Reading.of`.
        columns: of its table.
        folder: of its images.

    Returns: uint8 (n, image_size, image_size, 3), as many as `BATCHES` has if there are so many, and the source's name.
    """
    name = BUNDLED[0]
    try:
        reading = AS_IT_IS
        if source is not None and (Path(source).expanduser().exists() or canonical_name(source) in BUNDLED):
            name, reading = source, Reading.of(columns, folder)
        listing = list_source(name, reading=reading)
    except InputError:
        name = BUNDLED[0]
        listing = list_source(name)
    images = []
    for row in evenly_spaced(len(listing), sum(BATCHES)).tolist():
        try:
            images.append(best.pixels(listing.reader.read(row)))
        except Exception:  # noqa: BLE001 (decoders raise anything; the search has listed what it could not read)
            continue
    if not images:
        raise InputError(f"none of the images of {name} that the file would be checked with can be read")
    return np.stack(images), name


def export(
    best: Best,
    kind: Format,
    file: Path,
    images: np.ndarray,
    *,
    images_of: str = "",
    evaluation: EvaluationDocument | None = None,
) -> Exported:
    """Writes the classifier as one file, and its description beside it, if both compute the same.

    Args:
        best: the classifier.
        kind: onnx, or torch for an `ExportedProgram` (`torch.export.load(file).module()`).
        file: replaced at once, when it has passed.
        images: uint8 (n, image_size, image_size, 3), to compare by.
        images_of: where they are from, for the description.
        evaluation: evaluation.json, for the description.

    Raises:
        InputError: a package is missing, or the file's name is wrong (together), or it cannot be written.
        ExportError: a logit differs by more than `TOLERANCE`.
    """
    if problems := problems_of(file, kind):
        raise InputError(problems)
    model = best.model()
    described = describe(best, kind, evaluation)
    inside = json.dumps(described, ensure_ascii=False)
    difference = float("nan")

    def write_and_check(path: Path) -> None:
        nonlocal difference
        write_file(Exportable(model).eval(), kind, path, best.recipe.image_size, inside)
        difference = largest_difference(model, read_file(kind, path), images)
        if not difference <= TOLERANCE:  # a NaN is no pass
            raise ExportError(
                f"the exported file is not the classifier: logits differ by up to {difference:.1e} on {len(images)} "
                f"images, {TOLERANCE:.0e} is let pass; it was not kept. Try another version of torch"
            )

    try:
        replace_with(file, write_and_check)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from error
    sidecar = file.with_name(f"{file.name}.json")
    sizes = tuple(len(batch) for batch in _in_batches(images))
    check = {
        "images": sum(sizes),
        "of": images_of,
        "batch_sizes": sizes,
        "largest_difference_of_logits": difference,
        "tolerance": TOLERANCE,
    }
    replace_json(sidecar, {"file": file.name, **described, "check": check})
    return Exported(file, sidecar, difference, sum(sizes), images_of, sizes)


def largest_difference(model: nn.Module, read: Computes, images: np.ndarray) -> float:
    """The largest absolute difference of a logit between the classifier and what was exported, in several batch sizes.

    Args:
        model: the classifier, on the CPU; takes what `prepare` makes.
        read: uint8 (n, h, w, 3) to logits (n, classes), as the file computes them.
        images: uint8 (n, h, w, 3).

    Returns: NaN if a logit is.
    """
    differences = []
    for batch in _in_batches(images):
        with torch.inference_mode():
            expected = model(prepare(batch, torch.device("cpu"))).numpy()
        differences.append(np.abs(read(batch) - expected).max())
    return float(np.max(differences))


def _in_batches(images: np.ndarray) -> Iterator[np.ndarray]:
    """Batches of the sizes of `BATCHES`, of as many images as there are."""
    ends = np.minimum(np.cumsum(BATCHES), len(images))
    return (batch for batch in np.split(images[: ends[-1]], ends[:-1]) if len(batch))
