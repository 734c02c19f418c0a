"""A search index of images: features.parquet, a vector an image, and what makes the vector of a new one.

    path        each image's name within its source
    label       its class
    split       train, val or test
    vector      float32, one list an image

Beside the columns, the file says which network made the vectors and of which source; `pandas.read_parquet` has it in
`attrs["raysearch"]`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from raysearch.activations.neighbours import Neighbours
from raysearch.data.dataset import Dataset
from raysearch.data.decode import decode
from raysearch.data.names import readable
from raysearch.data.reading import Reading
from raysearch.data.sheet import sheet
from raysearch.data.source import in_full, list_source
from raysearch.data.value_range import PixelRange
from raysearch.errors import InputError
from raysearch.insight.embedder import Embedder, Progress, silent
from raysearch.models.weights import load_weights
from raysearch.storage.files import replace_with
from raysearch.training.numerics import choose_device
from raysearch.winner.best import load_best

_KEY = "raysearch"
SAMPLES = (256, 512)
FIRST = (10, 20)


@dataclass(frozen=True)
class Maker:
    """What made the vectors of an index.

    Attributes:
        source: of the images, as it is named from anywhere.
        columns: of its table, as --columns says them; None: recognised.
        images: the folder that its table's paths start from; None: the table's own.
        backbone: name.
        weights: what loads them again.
        digest: of the tensors that make the vectors.
        pooling: avg, max or both.
        image_size: pixels.
        fit: squash, crop or pad.
        run: the folder of the run whose network it is; None: the weights' own.
        pixel_range: of images of more than eight bits, as JSON; None: there are none.
    """

    source: str
    columns: str | None
    images: str | None
    backbone: str
    weights: str
    digest: str
    pooling: str
    image_size: int
    fit: str
    run: str | None
    pixel_range: dict[str, Any] | None

    @classmethod
    def of(cls, embedder: Embedder, dataset: Dataset, reading: Reading, run: Path | None) -> Maker:
        """What made the vectors of a data set."""
        recipe, pixel_range = embedder.recipe, dataset.notes.pixel_range
        return cls(
            in_full(dataset.source),
            ",".join(f"{role}={name}" for role, name in reading.columns.items()) or None,
            None if reading.images is None else str(reading.images),
            recipe.backbone,
            recipe.weights,
            embedder.identity,
            recipe.pooling,
            recipe.image_size,
            recipe.fit,
            None if run is None else str(run.resolve()),
            None if pixel_range is None else pixel_range.as_json(),
        )

    def embedder(self, device: str) -> Embedder:
        """The network that made them.

        Raises:
            InputError: it is no longer there, or is another by now.
        """
        chosen = choose_device(device)
        if self.run is not None:
            made = Embedder.of_best(load_best(Path(self.run)), self.pooling, chosen)
        else:
            loaded = load_weights(self.backbone, self.weights, 0)
            made = Embedder.of_backbone(self.backbone, loaded, self.image_size, self.fit, self.pooling, chosen)
        if made.identity != self.digest:
            whose = self.run or f"{self.backbone}, weights {self.weights}"
            raise InputError(f"The network of the index ({whose}) is another by now: make the index anew.")
        return made


@dataclass(frozen=True, eq=False)
class Index:
    """Images by their vectors.

    Attributes:
        paths, labels, splits: of each image.
        vectors: shape (n, width).
        maker: what made them.
    """

    paths: tuple[str, ...]
    labels: NDArray[np.str_]
    splits: NDArray[np.str_]
    vectors: NDArray[np.float32]
    maker: Maker

    def write(self, file: Path) -> None:
        """Write the index, replacing it at once."""
        table = pd.DataFrame(
            {"path": self.paths, "label": self.labels, "split": self.splits, "vector": list(self.vectors)}
        )
        table.attrs[_KEY] = asdict(self.maker)
        replace_with(file, partial(table.to_parquet, index=False))

    @classmethod
    def read(cls, file: Path) -> Index:
        """An index that `write` wrote.

        Raises:
            InputError: it is not there, or is none.
        """
        try:
            table = pd.read_parquet(file)
            maker = Maker(**table.attrs[_KEY])
            vectors = np.stack(list(table["vector"])).astype(np.float32)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} cannot be read as an index ({error}); raysearch embed makes one") from error
        labels, splits = (table[name].to_numpy(dtype=np.str_) for name in ("label", "split"))
        return cls(tuple(table["path"]), labels, splits, vectors, maker)

    def vector_of(self, image: str, device: str = "cpu") -> NDArray[np.float32]:
        """The vector of an image file, or of one of the index by its path there; shape (1, width).

        Raises:
            InputError: there is no such image, or it cannot be read.
        """
        file = Path(image)
        if not file.is_file():
            if image in self.paths:
                return self.vectors[[self.paths.index(image)]]
            raise InputError(f"{image} is no file, and no path of the index, such as {self.paths[0]}")
        pixel_range = PixelRange.from_json(self.maker.pixel_range)
        try:
            pixels = decode(file.read_bytes(), self.maker.image_size, self.maker.fit, pixel_range)
        except Exception as error:  # (decoders raise anything)
            raise InputError(f"{image} cannot be read: {type(error).__name__}: {error}") from error
        return self.maker.embedder(device).of_pixels(pixels[None])

    def sheet(self, places: NDArray[np.int64], names: list[str]) -> Image.Image:
        """A contact sheet of some images, which are read from their source.

        Raises:
            InputError: the source is no longer there, or lacks one of them.
        """
        maker = self.maker
        listing = list_source(maker.source, measuring=True, reading=Reading.of(maker.columns, maker.images))
        rows = {readable(path): row for row, path in enumerate(listing.paths)}
        wanted = [self.paths[place] for place in places]
        if absent := [path for path in wanted if path not in rows]:
            raise InputError(f"{maker.source} no longer has {absent[0]}: make the index anew")
        pixel_range = PixelRange.from_json(maker.pixel_range)
        read = [decode(listing.reader.read(rows[path]), maker.image_size, maker.fit, pixel_range) for path in wanted]
        return sheet(np.stack(read), names)


def embed(
    dataset: Dataset,
    embedder: Embedder,
    reading: Reading,
    run: Path | None = None,
    progress: Progress = silent,
) -> Index:
    """The index of a data set.

    Args:
        dataset: its images.
        embedder: makes their vectors.
        reading: how its table was read.
        run: whose network it is.
        progress: told of each image that is done.
    """
    splits = dataset.splits
    labels = np.concatenate([split.labels for split in splits.values()])
    return Index(
        tuple(readable(path) for split in splits.values() for path in split.paths),
        np.array(dataset.classes)[labels],
        np.repeat(list(splits), [len(split) for split in splits.values()]),
        embedder.of_dataset(dataset, progress),
        Maker.of(embedder, dataset, reading, run),
    )


@dataclass(frozen=True)
class Measured:
    """How many of the first results show the class that was asked for.

    Attributes:
        images: that are searched in, each asked with every one of them.
        first: results that count.
        precision: share of them of the same class, mean over the images and the samples.
        spread: standard deviation over the samples; None where all images are one sample.
        chance: what a random order gives.
    """

    images: int
    first: int
    precision: float
    spread: float | None
    chance: float


def measure(index: Index, *, repeats: int = 10, seed: int = 0) -> list[Measured]:
    """Precision at 10 and 20, on samples of 256 and 512 images and on all of them.

    In a sample each image is looked for among the others of it; one with fewer images than results is left out.

    Args:
        index: the images.
        repeats: samples of each size.
        seed: of the samples.
    """
    generator = np.random.default_rng(seed)
    n = len(index.paths)
    found = []
    for size in (*(size for size in SAMPLES if size < n), n):
        rounds = repeats if size < n else 1
        samples = [np.sort(generator.choice(n, size, replace=False)) for _ in range(rounds)]
        rows = np.array([_precisions(index.vectors[sample], index.labels[sample]) for sample in samples])
        for number, first in enumerate(FIRST):
            if first < size:
                column = rows[:, number]
                spread = float(column.std(ddof=1)) if rounds > 1 else None
                found.append(Measured(size, first, float(column.mean()), spread, float(rows[:, -1].mean())))
    return found


def _precisions(vectors: NDArray[np.float32], labels: NDArray[np.str_]) -> list[float]:
    """Precision among each of `FIRST`, and by chance."""
    near, _ = Neighbours(vectors).others(max(FIRST))
    same = labels[near] == labels[:, None]
    _, counts = np.unique(labels, return_counts=True)
    chance = float((counts * (counts - 1)).sum() / max(1, len(labels) * (len(labels) - 1)))
    return [*(float(same[:, :first].mean()) for first in FIRST), chance]
