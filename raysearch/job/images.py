"""The images of a run, as its settings say: read again where they lie, or found among the decoded ones."""

from __future__ import annotations

import json
from functools import partial

from pydantic import ValidationError

from raysearch.data.continued import continued
from raysearch.data.dataset import Dataset
from raysearch.data.pixels import load
from raysearch.data.reading import Reading
from raysearch.data.value_range import PixelRange
from raysearch.errors import InputError
from raysearch.job.networks import in_all_sizes
from raysearch.job.settings import Settings
from raysearch.recipe import named_network
from raysearch.record.folder import RunFolder
from raysearch.storage.cache import cache_root


def images_of(settings: Settings) -> Dataset:
    """The images that these settings name, split and decoded as the search has them.

    Raises:
        InputError: they cannot be read, or those of the run that it continues cannot.
    """
    if settings.continues is not None:
        run = RunFolder.open(settings.continues)
        earlier = images_before(run).at(settings.image_size)
        now = _read(settings, settings.image_size, earlier.notes.pixel_range, keep_copies=settings.keep_copies)
        return continued(earlier, now, run.name, rules=settings.continuing_rules)
    dataset = _read(settings, settings.image_size, None, keep_copies=settings.keep_copies)
    named = (named_network(name).image_size for name in settings.networks)
    sizes = [size for size in dict.fromkeys(named) if isinstance(size, int)]
    return in_all_sizes(dataset, sizes, partial(_read, settings, keep_copies=True))


def _read(settings: Settings, image_size: int, pixel_range: PixelRange | None, *, keep_copies: bool) -> Dataset:
    """The images where they lie, decoded in one size."""
    return load(
        settings.data,
        image_size=image_size,
        fit=settings.fit,
        seed=settings.seed,
        keep_copies=keep_copies,
        reading=Reading.of_run(settings.model_dump()),
        pixel_range=pixel_range,
    )


def images_before(run: RunFolder) -> Dataset:
    """The images of a run that is over, exactly as it saw them: by its own settings, or by content from the cache.

    Raises:
        InputError: there are others by now where they lay, and the decoded ones are gone.
    """
    wanted, reason = run.info["fingerprints"]["data"], "there are others there by now"
    settings = settings_of(run)
    try:
        found = images_of(settings)
        if found.fingerprint == wanted:
            return found
    except InputError as error:
        reason = "; ".join(error.problems)
    if (kept := _decoded(wanted)) is not None:
        return kept
    raise InputError(
        f"the images of {run.name} are not those that it was trained on ({reason}), so that nobody can tell its test "
        f"images: put those of {settings.data} back as they were, and what is new into a folder of its own"
    )


def settings_of(run: RunFolder) -> Settings:
    """The settings of a run.

    Raises:
        InputError: it broke off before it began, or is none of this version.
    """
    try:
        return Settings.model_validate(run.info["settings"])
    except (KeyError, ValidationError) as error:
        raise InputError(f"{run.name} broke off before it began, or is no run of this version") from error


def _decoded(fingerprint: str) -> Dataset | None:
    """Decoded images of this fingerprint in this user's cache."""
    for header in sorted((cache_root() / "pixels").glob("*/dataset.json")):
        try:
            found = json.loads(header.read_text(encoding="utf-8")).get("fingerprint")
        except (OSError, ValueError, AttributeError):
            continue
        if found == fingerprint:
            return Dataset.open(header.parent)
    return None
