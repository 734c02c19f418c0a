"""What a command or a Python call starts: a search, a resume, or a look at what would happen."""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console

from raysearch.errors import InputError, Problems
from raysearch.job.flags import Flags, refuse_changes
from raysearch.recipe import AT_HAND, SHARED, named_network
from raysearch.record.folder import RunFolder, is_uri
from raysearch.record.worked_on import worked_on

if TYPE_CHECKING:
    from raysearch.job.earlier import Earlier
    from raysearch.job.job import Job


_SEARCHING = ("space", "head", "trials", "max-epochs")


def search(flags: Flags, console: Console | None = None) -> RunFolder:
    """Run a whole search, or go on with one, and return its run.

    Raises:
        InputError: whatever is wrong with the flags, the space, the data or the weights, all together.
        KeyboardInterrupt: the search was stopped by Ctrl-C; everything that was finished is in the run folder.
        NothingSucceededError: every trial failed.
        StorageError: the run folder could not be written to, for minutes.
    """
    began = time.monotonic()
    console, problems = console or Console(), Problems()
    with ExitStack() as at_the_end:
        if flags.resume is not None:
            problems.attempt(refuse_changes, flags)
            run = problems.attempt(_brought, flags.resume, flags.results)
            problems.stop_if_any()
            assert run is not None
            at_the_end.enter_context(worked_on(run.folder))
            if is_uri(flags.resume):
                _note_storage(run, flags.resume)
            _serve(flags, run.folder, console, at_the_end)
            from raysearch.pipeline.conduct import go_on

            return go_on(run, flags, console, began)
        folder = Path(flags.results) / (flags.run_name or f"{_stem(flags)}-{time.strftime('%Y%m%d-%H%M%S')}")
        problems.attempt(_serve, flags, folder, console, at_the_end)
        job = problems.attempt(job_of, flags, folder)
        problems.stop_if_any()
        assert job is not None
        from raysearch.pipeline.conduct import start

        return start(job, folder, flags, console, began)


def _serve(flags: Flags, folder: Path, console: Console, at_the_end: ExitStack) -> None:
    """Serve the page of the search, if it is asked for, until `at_the_end`.

    Raises:
        InputError: the port cannot be had.
    """
    from raysearch.reporting.serve import LivePage, port_of

    if flags.serve is None:
        return
    page = at_the_end.enter_context(LivePage(folder, port_of(flags.serve)))
    if not flags.quiet:
        console.print(f"The report page, live: {page.address}", highlight=False, soft_wrap=True)


def _brought(wanted: str, results: Path) -> RunFolder:
    """The run to go on with; one in a storage is brought under `results` first, and stays there as well."""
    if not is_uri(wanted):
        return RunFolder.open(wanted, results)
    from raysearch.record.fetch import bring

    return RunFolder.open(bring(wanted, results, checkpoints=False))


def _note_storage(run: RunFolder, uri: str) -> None:
    """Write into a run that was brought from a storage that it is kept there."""
    from raysearch.storage.remote import Storage

    run.update_info(settings=run.info["settings"] | {"storage": Storage(uri).parent.uri})


def job_of(flags: Flags, folder: Path | None) -> Job:
    """What `raysearch.job.resolve` makes of the flags; for one recipe, of a space in which nothing is searched."""
    from raysearch.job.resolve import resolve
    from raysearch.space.replay import recipe_space

    if flags.continue_ is not None:
        return _job_continuing(flags, flags.continue_, folder)
    if flags.parameters is not None:
        return _job_at(flags, folder)
    if flags.recipe is None:
        return resolve(flags, folder)
    refused = [
        f"--{name} cannot be used with --recipe, which searches nothing"
        for name in _SEARCHING
        if getattr(flags, name.replace("-", "_")) is not None
    ]
    refused += _several(flags, "--recipe trains one")
    if refused:
        raise InputError(refused)
    text, epochs = recipe_space(flags.recipe, without=_typed(flags))
    return _searching_nothing(flags, text, epochs, str(flags.recipe), folder)


def _several(flags: Flags, why: str) -> list[str]:
    """What is wrong with --backbone where one network is trained."""
    several = flags.backbone is not None and ("," in flags.backbone or flags.backbone == AT_HAND)
    return [f"--backbone {flags.backbone}: {why} network; name one"] if several else []


def _typed(flags: Flags) -> list[str]:
    """What of a recipe the command gives."""
    typed = [name for name in SHARED if getattr(flags, name) is not None]
    if flags.backbone is not None:
        _, weights, size = named_network(flags.backbone)
        typed += [name for name, own in (("weights", weights), ("image_size", size)) if own and name not in typed]
    return typed


def _job_at(flags: Flags, folder: Path | None) -> Job:
    """The job of one recipe of a space: `--space NAME --parameters FILE`."""
    from raysearch.job.settings import PRESETS
    from raysearch.job.wanted import Wanted
    from raysearch.space.load import load_space
    from raysearch.space.replay import recipe_at, space_of

    assert flags.parameters is not None
    refused = [
        f"--{name} cannot be used with --parameters" for name in ("recipe", "head", "trials") if getattr(flags, name)
    ]
    refused += _several(flags, "--parameters trains one")
    if flags.space is None:
        refused.append("--parameters FILE: --space NAME is missing, whose values they are")
    if refused or flags.space is None:
        raise InputError(refused)
    wanted = Wanted.of(flags)
    typed = () if flags.backbone is None else (wanted.backbone,)
    space = load_space(flags.space, fixed=wanted.shared, networks=typed)
    recipe = recipe_at(space, flags.parameters, flags.max_epochs or PRESETS[flags.preset].max_epochs)
    given = f"--parameters {flags.parameters}"
    said = (*space.tree, *(["weights", "image_size"] if space.networks else []))
    text, epochs = space_of(recipe, given, without=[name for name in SHARED if name not in said])
    return _searching_nothing(flags, text, epochs, f"{flags.space} {given}", folder)


def _searching_nothing(flags: Flags, text: str, epochs: int, told: str, folder: Path | None) -> Job:
    """The job of a space in which nothing is searched; `told` is its name in the settings."""
    refits = 0 if flags.refits is None else flags.refits
    return _job_of_text(dataclasses.replace(flags, max_epochs=epochs, refits=refits), text, told, folder)


def _job_continuing(flags: Flags, name: str, folder: Path | None) -> Job:
    """The job of a run that goes on with what an earlier one found: `--continue RUN --data SOURCE`."""
    from raysearch.job.earlier import Earlier

    refused = [
        f"--{flag} cannot be used with --continue, which goes on with the space, the recipe and the head of its run"
        for flag in ("space", "recipe", "parameters", "head")
        if getattr(flags, flag) is not None
    ]
    refused += _several(flags, "--continue goes on with one")
    if flags.data is None:
        refused.append(f"--continue {name}: --data SOURCE is missing: name the images to go on with")
    if refused:
        raise InputError(refused)
    earlier = Earlier.open(name, flags.results)
    told = f"{earlier.settings.space}, continued from {earlier.run.name}"
    return _job_of_text(earlier.flags(flags), earlier.space_text(), told, folder, earlier)


def _job_of_text(flags: Flags, text: str, told: str, folder: Path | None, earlier: Earlier | None = None) -> Job:
    """The job of a space that is in no file of the person's; `told` is its name in the settings."""
    from raysearch.job.resolve import resolve

    with TemporaryDirectory(prefix="raysearch-space-") as scratch:
        space = Path(scratch) / ("recipe.py" if earlier is None else "continued.py")
        space.write_text(text, encoding="utf-8")
        job = resolve(dataclasses.replace(flags, space=str(space)), folder, earlier)
    return dataclasses.replace(job, settings=job.settings.model_copy(update={"space": told}))


def plan(flags: Flags, console: Console | None = None) -> None:
    """Show what `search` would do with the same flags, and write plan.png. Trains nothing.

    Raises:
        InputError: as of `search`.
    """
    from raysearch.job.preview import as_plan, show_plan

    if flags.resume is not None:
        raise InputError("--plan shows a new search; a run that is resumed has its plan already")
    if flags.serve is not None:
        raise InputError("--plan trains nothing, so there is no page to --serve")
    job = job_of(flags, flags.results / flags.run_name if flags.run_name else None)
    show_plan(as_plan(job, flags.results / (flags.run_name or _stem(flags))), console=console)


def _stem(flags: Flags) -> str:
    if flags.continue_ is not None:
        return "continued"
    return "recipe" if flags.recipe is not None else Path(flags.space or "run").stem
