"""Augmented copies of images on the disk: `raysearch augment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from raysearch.cli.arguments import Bar, Columns, ImagesFolder, check_seed, say
from raysearch.cli.insight import ImageSize, Seed, Source
from raysearch.cli.outputs import check_output
from raysearch.errors import Problems


def augment(
    *,
    data: Source,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="The folder to write: DIR/train/CLASS/…, val and test.")],
    copies: Annotated[
        int, tyro.conf.arg(metavar="K", help="Augmented copies of each training image, beside itself.")
    ] = 4,
    strength: Annotated[
        float, tyro.conf.arg(metavar="S", help="Strength of the augmentation, in (0, 1], as a recipe has it.")
    ] = 0.5,
    images: ImagesFolder = None,
    columns: Columns = None,
    image_size: ImageSize = None,
    seed: Seed = 0,
) -> int:
    """Write augmented copies of the training images, for trainers that cannot augment.

    They are what a search with the same seed sees at this strength, pixel by pixel: copy k is what its first stage sees
    in epoch k. Validation and test images are written as they are. The same command goes on where it was stopped.

        raysearch augment --data photos/ --out augmented/ --copies 5 --strength 0.5
    """
    from raysearch.data.pixels import load
    from raysearch.data.reading import Reading
    from raysearch.insight.augmented import PREVIEW, Asked, check_folder, write_copies

    problems = Problems()
    problems.check(copies >= 1, f"--copies must be at least 1, got {copies}")
    problems.check(0 < strength <= 1, f"--strength must be in (0, 1], got {strength}")
    check_output("--out", out / PREVIEW, problems)
    check_seed(seed, problems)
    reading = problems.attempt(Reading.of, columns, images)
    problems.stop_if_any()
    assert reading is not None
    dataset = load(data, image_size=image_size, seed=seed, reading=reading)
    asked = Asked(dataset.fingerprint, copies, strength, seed)
    check_folder(out, asked)
    with Bar() as bar:
        bar.begin("Augmenting", sum(map(len, (dataset.train, dataset.val, dataset.test))))
        written = write_copies(dataset, out, asked, bar)
    say(f"{out}: {written:,} files written; some of them: {out / PREVIEW}")
    return 0
