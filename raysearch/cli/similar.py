"""Images by what they look like: `raysearch embed` and `raysearch similar`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from raysearch.cli.arguments import (
    Bar,
    Columns,
    DeviceName,
    ImagesFolder,
    Results,
    check_ending,
    check_seed,
    device_of,
    say,
)
from raysearch.cli.insight import (
    ImageSize,
    Pooling,
    Source,
    backbone_embedder,
    images_of,
)
from raysearch.cli.outputs import check_output
from raysearch.data.names import one_line
from raysearch.errors import InputError, Problems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from raysearch.data.dataset import Dataset
    from raysearch.data.reading import Reading
    from raysearch.insight.embedder import Embedder
    from raysearch.insight.index import Index


def embed(
    *,
    data: Source,
    images: ImagesFolder = None,
    columns: Columns = None,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.parquet", help="The index: path, label, split, vector.")] = Path(
        "features.parquet"
    ),
    run: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="RUN",
            help="Look with this run's best network instead of a pretrained one; with an embedding head "
            "(--space similarity), vectors are its embeddings, not the pooled features.",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="NAME",
            help="The network that is looked with, as for a search. Default: densenet121; with --run, its own.",
            help_behavior_hint="",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="auto|imagenet|bundled|random|PATH",
            help="Its weights, as for a search. Default: auto; with --run, its own.",
            help_behavior_hint="",
        ),
    ] = None,
    pooling: Annotated[
        Pooling | None,
        tyro.conf.arg(
            metavar="avg|max|both",
            help="How the last feature map becomes a vector. Default: avg; with --run, as it was trained.",
            help_behavior_hint="",
        ),
    ] = None,
    image_size: ImageSize = None,
    seed: Annotated[
        int | None,
        tyro.conf.arg(
            metavar="N",
            help="Of the splits that SOURCE does not give, and of all chance. Default: 0; with --run, as it split.",
            help_behavior_hint="",
        ),
    ] = None,
    device: DeviceName = "auto",
    results: Results = Path("results"),
) -> int:
    """Make an index of images: what a frozen network makes of each, to search in.

    A network that was trained for it finds more: python -m raysearch.tune --space similarity, then --run RUN.

    The index names the network and the source, so that raysearch similar needs nothing else. Images that a run's
    network was trained on look more alike than they are; with --run, SOURCE is split as that run split its images.

        raysearch embed --data photos/ --out features.parquet
        raysearch embed --data photos/ --run similarity-1
        raysearch similar features.parquet cat.jpg
    """
    from raysearch.data.reading import Reading
    from raysearch.insight.index import embed as make
    from raysearch.record.folder import locate

    problems = Problems()
    check_ending("--out", out, (".parquet",), problems)
    check_output("--out", out, problems, (data, images))
    check_seed(seed or 0, problems)
    for flag, typed in (("--backbone", backbone), ("--weights", weights), ("--image-size", image_size)):
        problems.check(run is None or typed is None, f"{flag} {typed}: it is the run's own with --run; leave it out")
    reading = problems.attempt(Reading.of, columns, images)
    problems.stop_if_any()
    assert reading is not None
    folder = None
    if run is None:
        dataset = images_of(data, reading, image_size, seed or 0, True)
        embedder = backbone_embedder(backbone or "densenet121", weights or "auto", dataset, pooling or "avg", device)
    else:
        folder = locate(run, results)
        dataset, embedder, reading = _by_run(data, reading, folder, pooling, seed, device)
    with Bar() as bar:
        bar.begin("Features", sum(map(len, (dataset.train, dataset.val, dataset.test))))
        index = make(dataset, embedder, reading, folder, bar)
    index.write(out)
    say(f"{out}: {len(index.paths):,} images, {index.vectors.shape[1]:,} numbers each")
    return 0


def _by_run(
    data: str, reading: Reading, folder: Path, pooling: str | None, seed: int | None, device: str
) -> tuple[Dataset, Embedder, Reading]:
    """The images, split as the run split its own, the run's network, and how the images were read."""
    from raysearch.data.pixels import load
    from raysearch.insight.embedder import Embedder
    from raysearch.record.folder import RunFolder
    from raysearch.winner.best import load_best

    best = load_best(folder)
    embedder = Embedder.of_best(best, pooling, device_of(device))
    settings = RunFolder.open(folder).info.get("settings", {}) if (folder / "run.json").is_file() else {}
    reading = _as_the_run_read(settings, data, reading)
    dataset = load(
        data,
        image_size=best.recipe.image_size,
        fit=best.recipe.fit,
        seed=settings.get("seed", 0) if seed is None else seed,
        keep_copies=True,
        measuring=True,
        pixel_range=best.pixel_range,
        reading=reading,
    )
    if settings.get("continues") is not None:
        told = f"{folder.name} continues another run, so that its test images are not those of {data} alone"
        print(f"{told}: do not use this index with predict --known", file=sys.stderr)
    return dataset, embedder, reading


def _as_the_run_read(settings: Mapping[str, Any], data: str, reading: Reading) -> Reading:
    """How images are read: as typed; what was not typed as the run has it, of its table if these are its own images."""
    from raysearch.data.reading import Reading
    from raysearch.data.source import in_full

    if not reading.of_a_table and settings.get("data") == in_full(data):
        reading = Reading.of(settings.get("columns"), settings.get("images"))
    return reading if "group" in reading.columns else replace(reading, group_by=settings.get("group_by"))


def similar(
    index: Annotated[Path, tyro.conf.arg(metavar="INDEX", help="What raysearch embed wrote.")],
    image: Annotated[
        list[str],
        tyro.conf.arg(metavar="[IMAGE]", help="An image file, or the path of an image of the index."),
    ] = [],  # noqa: B006 - tyro's way to say that there may be none
    /,
    *,
    k: Annotated[int, tyro.conf.arg(metavar="K", help="How many images to show, the most similar first.")] = 12,
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.png", help="Write a contact sheet of them, from their source.")
    ] = None,
    measure: Annotated[
        bool,
        tyro.conf.arg(
            help="Measure the index instead: of the first 10 and 20 results, the share of the same class, on samples "
            "of 256 and 512 images and on all of them."
        ),
    ] = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json", help="Print JSON instead.")] = False,
    device: DeviceName = "auto",
) -> int:
    """Find the images of an index that look most like one, by the angle between their vectors.

    Every vector is compared: fine to some 100,000 images, and slower beyond.

        raysearch similar features.parquet cat.jpg --out like_cat.png
        raysearch similar features.parquet train/cat/001.jpg --k 5 --json
        raysearch similar features.parquet --measure
    """
    from raysearch.activations.neighbours import EXACT_UP_TO
    from raysearch.insight.index import Index

    problems = Problems()
    problems.check(k >= 1, f"--k must be at least 1, got {k}")
    problems.check(len(image) == (not measure), "give one IMAGE, or --measure")
    check_ending("--out", out, (".png", ".jpg", ".jpeg"), problems)
    check_output("--out", out, problems, (index, *image))
    opened = problems.attempt(Index.read, index)
    problems.stop_if_any()
    assert opened is not None
    if len(opened.paths) > EXACT_UP_TO:
        told = f"{index} has {len(opened.paths):,} vectors: each is compared, which is exact and takes its time"
        print(told, file=sys.stderr)
    if measure:
        return _measure(opened, as_json)
    places, similarities = _search(opened, image[0], k, device)
    rows = [
        {"path": opened.paths[p], "label": str(opened.labels[p]), "split": str(opened.splits[p]), "similarity": s}
        for p, s in zip(places.tolist(), similarities.round(4).tolist(), strict=True)
    ]
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        for row in rows:
            say(f"{row['similarity']:.4f}  {one_line(str(row['label']))}  {one_line(str(row['path']))}")
    if out is not None:
        from raysearch.storage.files import replace_with

        names = [f"{row['similarity']:.2f} {row['label']}" for row in rows]
        replace_with(out, opened.sheet(places, names).save)
        if not as_json:
            say(str(out))
    return 0


def _search(index: Index, image: str, k: int, device: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The places of the most similar images, and how similar they are; of an image of the index, the others."""
    from raysearch.activations.neighbours import Neighbours

    device_of(device)
    itself = image in index.paths and not Path(image).is_file()
    places, similarities = Neighbours(index.vectors).nearest(index.vector_of(image, device), k + itself)
    others = places[0] != (index.paths.index(image) if itself else -1)
    if not others.any():
        raise InputError("the index holds no other image")
    return places[0][others][:k], similarities[0][others][:k]


def _measure(index: Index, as_json: bool) -> int:
    from raysearch.insight.index import measure

    found = measure(index)
    if not found:
        raise InputError(f"the index has {len(index.paths)} images: too few to measure the first 10 results")
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return 0
    table = Table("images searched", "first results", "of the same class", "by chance")
    for one in found:
        spread = "" if one.spread is None else f" ± {one.spread:.3f}"
        table.add_row(f"{one.images:,}", str(one.first), f"{one.precision:.3f}{spread}", f"{one.chance:.3f}")
    Console().print(table)
    return 0
