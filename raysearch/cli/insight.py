"""What verbs that look at images with a frozen network ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from raysearch.errors import Problems

if TYPE_CHECKING:
    from raysearch.data.dataset import Dataset
    from raysearch.data.reading import Reading
    from raysearch.insight.embedder import Embedder

Source = Annotated[
    str, tyro.conf.arg(metavar="SOURCE", help="A folder, .zip, .csv, … or a name, as for --data of a search.")
]
Backbone = Annotated[str, tyro.conf.arg(metavar="NAME", help="The network that is looked with, as for a search.")]
WeightsName = Annotated[
    str, tyro.conf.arg(metavar="auto|imagenet|bundled|random|PATH", help="Its weights, as for a search.")
]
ImageSize = Annotated[
    int | None, tyro.conf.arg(metavar="PX", help="Height and width that the network sees. Default: the images' own.")
]
Seed = Annotated[int, tyro.conf.arg(metavar="N", help="Of the splits that SOURCE does not give, and of all chance.")]
Pooling = Literal["avg", "max", "both"]


def images_of(source: str, reading: Reading, image_size: int | None, seed: int, progress: bool) -> Dataset:
    """Every image of a source, copies too.

    Raises:
        InputError: the source cannot be used.
    """
    from raysearch.data.pixels import load

    # As for measuring, so that a class of one image is looked at instead of refused.
    return load(
        source,
        image_size=image_size,
        seed=seed,
        keep_copies=True,
        measuring=True,
        progress=progress,
        reading=reading,
    )


def backbone_embedder(backbone: str, weights: str, dataset: Dataset, pooling: str, device: str) -> Embedder:
    """The frozen network of that name, for images of a data set; random weights are always the same ones.

    Raises:
        InputError: an unknown backbone, weights that cannot be had, images too small for it, no such device; all
            problems together.
    """
    from raysearch.cli.arguments import device_of
    from raysearch.insight.embedder import Embedder
    from raysearch.models.weights import load_weights

    problems = Problems()
    chosen = problems.attempt(device_of, device)
    loaded = problems.attempt(load_weights, backbone, weights, 0)
    problems.stop_if_any()
    assert chosen is not None and loaded is not None
    return Embedder.of_backbone(backbone, loaded, dataset.image_size, dataset.fit, pooling, chosen)
