"""The images that a command names: listed, split and decoded, or what is wrong with them."""

from __future__ import annotations

from raysearch.data.continued import continued
from raysearch.data.dataset import Dataset
from raysearch.data.pixels import load
from raysearch.data.reading import AS_IT_IS, Reading
from raysearch.data.source import list_source
from raysearch.data.subset import ALL, Thinning
from raysearch.data.unlabelled import load_unlabelled
from raysearch.data.value_range import PixelRange
from raysearch.errors import Problems
from raysearch.job.budget import budget_of
from raysearch.job.earlier import Earlier
from raysearch.job.flags import Flags
from raysearch.job.wanted import Wanted
from raysearch.space.space import Space


def wanted_images(
    wanted: Wanted, flags: Flags, earlier: Earlier | None, problems: Problems
) -> tuple[Dataset | None, tuple[str, ...] | None]:
    """The images, decoded, and the names of their classes.

    Where something is wrong already the images are listed and not decoded: there may be a million of them.
    """
    seed = max(0, wanted.seed)
    thin = problems.attempt(Thinning.of, flags.fraction, flags.subsets, flags.subset) or ALL
    reading = problems.attempt(Reading.of, flags.columns, flags.images, flags.group_by, thin)
    if problems.found or reading is None:
        listing = problems.attempt(list_source, wanted.data, seed=seed, reading=reading or AS_IT_IS)
        return None, listing.classes if listing is not None else None
    first = wanted.image_size if isinstance(wanted.image_size, int) else None
    pixel_range = None if earlier is None else earlier.dataset.notes.pixel_range
    dataset = problems.attempt(_decoded, wanted, flags, reading, first, pixel_range, flags.keep_copies)
    if dataset is not None and earlier is not None:
        same_size = (dataset.image_size, dataset.fit) == (earlier.dataset.image_size, earlier.dataset.fit)
        if same_size:  # or the head's problems say what differs
            dataset = problems.attempt(continued, earlier.dataset, dataset, earlier.run.name)
    return dataset, dataset.classes if dataset is not None else None


def in_another_size(wanted: Wanted, flags: Flags, image_size: int, pixel_range: PixelRange | None) -> Dataset:
    """The images in another size than the first, with all copies of test images.

    Raises:
        InputError: as `load`.
    """
    thin = Thinning.of(flags.fraction, flags.subsets, flags.subset)
    reading = Reading.of(flags.columns, flags.images, flags.group_by, thin)
    return _decoded(wanted, flags, reading, image_size, pixel_range, keep_copies=True)


def _decoded(
    wanted: Wanted,
    flags: Flags,
    reading: Reading,
    image_size: int | None,
    pixel_range: PixelRange | None,
    keep_copies: bool,
) -> Dataset:
    """The images, decoded in one size."""
    return load(
        wanted.data,
        image_size=image_size,
        fit=wanted.fit,
        seed=max(0, wanted.seed),
        progress=not flags.quiet,
        keep_copies=keep_copies,
        reading=reading,
        pixel_range=pixel_range,
    )


def unlabelled_images(flags: Flags, dataset: Dataset | None, space: Space | None, problems: Problems) -> Dataset | None:
    """The images without labels, where there are any; notes where no student could be judged."""
    if flags.unlabelled is None:
        problems.check(flags.ship != "student", "--ship student: it learns from --unlabelled DIR, which is missing")
        return None
    if space is not None and budget_of(space, flags).folds < 2:
        problems.found.append(
            f"--unlabelled {flags.unlabelled}: nothing would say whether a student is better: it is judged on folds, "
            "so ask for --folds 2 or more, with refits, on train+val"
        )
    if dataset is None or problems.found:
        return None
    seen = not flags.quiet
    return problems.attempt(load_unlabelled, flags.unlabelled, dataset, group_by=flags.group_by, progress=seen)
