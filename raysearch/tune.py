"""The main command: search for the best way to fine-tune a classifier on somebody's images.

    python -m raysearch.tune --space fine_tune

is enough to see it work: it runs on the bundled images and weights. Give it your own with --data.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console

from raysearch.errors import InputError, NothingSucceededError, Problems, StorageError
from raysearch.run import Run, is_uri

if TYPE_CHECKING:
    from raysearch.job import Job

# torch and Ray take seconds to import, so what needs them is imported when it runs: --help answers at once.


def _unset(metavar: str) -> Any:
    """A flag whose default depends on other things: its help text says on which."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


@dataclass(frozen=True)
class Settings:
    """Search for the best way to fine-tune an image classifier on your own images.

    First a short search for heads on the frozen network, then trials that unfreeze blocks, then fresh refits of the
    winner and one look at the test images. Ctrl-C stops cleanly; --resume RUN goes on.
    """

    space: Annotated[str | None, _unset("NAME")] = None
    """What is searched: a name in search_spaces/ (fine_tune, unfreeze_schedule, feature_extraction, keras_report,
    baseline), or the path of a space file."""
    recipe: Annotated[Path | None, _unset("FILE")] = None
    """Search nothing: train the recipe in this FILE (best/recipe.json of a run), stage by stage, from the pretrained
    weights alone; with another --seed if you like."""
    parameters: Annotated[Path | None, _unset("FILE")] = None
    """Search nothing: train one recipe of the space, with the values in this JSON FILE for what it searches. This is
    what agents of a W&B sweep run: see raysearch sweep."""
    data: Annotated[str | None, _unset("SOURCE")] = None
    """SOURCE of images: a folder or .zip of class folders (with train/, val/, test/ or without), a .csv
    (path,label[,split]), a MedMNIST-style .npz, or a name: cifar10-mini is bundled, cifar10, fashion-mnist, … come
    through torchvision. Default: cifar10-mini."""
    backbone: Annotated[str | None, _unset("NAME")] = None
    """densenet121, vgg19 or simple_cnn. Default: densenet121."""
    weights: Annotated[str | None, _unset("auto|imagenet|bundled|random|PATH")] = None
    """auto (ImageNet's if they can be had, else the bundled ones), imagenet, bundled, random, or the PATH of a file
    (safetensors or torch). Default: auto."""
    head: Annotated[str | None, _unset("RUN")] = None
    """Start from the best head of this run (a path, or a name under --results) instead of searching heads: same
    backbone, weights, image size and classes. Default: a head search comes first."""
    preset: Literal["quick", "default", "best"] = "default"
    """How much to spend: quick = 12 trials of at most 6 epochs, default = 32 of 12, best = 100 of 30. A space of heads
    alone says itself how many."""
    trials: Annotated[int | None, _unset("N")] = None
    """Recipes to start, the head search aside; in a space of heads alone, heads. Default: the preset's; the space's."""
    time_budget: Annotated[str | None, _unset("30m")] = None
    """Stop searching in time to finish within this, refits and evaluation included, e.g. 30m or 1h30m."""
    max_epochs: Annotated[int | None, _unset("N")] = None
    """Epochs of one trial at most, after the head's. Default: the preset's; for heads alone, the space's."""
    image_size: Annotated[int | None, _unset("PX")] = None
    """Height and width that the network sees, in pixels. Default: the images' own, between 32 and 224."""
    fit: Annotated[Literal["squash", "crop", "pad"] | None, _unset("squash|crop|pad")] = None
    """How an image that is not square becomes one. Default: squash."""
    metric: Annotated[str | None, _unset("NAME")] = None
    """What the search maximises on validation: accuracy, balanced_accuracy, macro_f1, auroc (two classes), loss
    (minimised), recall_CLASS or precision_CLASS. Default: accuracy."""
    seed: Annotated[int | None, _unset("N")] = None
    """Seeds splits, proposals, first weights, batches and views. Default: 0."""
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"] | None, _unset("auto|cpu|cuda|mps")] = None
    """Where networks run. Default: auto."""
    gpus_per_trial: Annotated[float | None, _unset("X")] = None
    """GPUs of one trial; fractions share one. Default: 1 a worker where there are any."""
    workers_per_trial: Annotated[int | None, _unset("N")] = None
    """Processes that train one trial together, each on a GPU (or cores) of its own, perhaps of several machines. They
    share out every batch, so learning rates need not change. Default: 1."""
    concurrent: Annotated[int | None, _unset("N")] = None
    """Trials at once, at most. Default: as many as there are GPUs, or cores (at most 8); on a cluster, as many as it
    has room for, while nodes come and go."""
    max_failures: Annotated[int | None, _unset("N")] = None
    """How often a trial may lose its process, and go on from its last checkpoint, before it counts as failed. Losing
    its machine does not count. Default: 3."""
    address: Annotated[str | None, _unset("auto|HOST:PORT")] = None
    """A Ray cluster to join (auto finds the one of this machine). Default: a Ray of its own."""
    cache: Literal["auto", "on", "off"] = "auto"
    """Whether activations of frozen blocks are kept on disk and shared by all trials: auto where it saves time."""
    cache_gb: Annotated[float | None, _unset("GB")] = None
    """Disk that cached activations may take. Default: a quarter of what is free."""
    refits: Annotated[int | None, _unset("N")] = None
    """How often the winner is trained again with fresh seeds, for an honest figure. Default: the preset's (3, 3, 5)."""
    refit_on: Literal["train", "train+val"] = "train"
    """What the refits train on; with train+val they stop at the winner's best epoch."""
    refit_workers: Annotated[int | None, _unset("N")] = None
    """Workers of the refit job; each trains its share of the seeds. Default: as many as trials at once."""
    results: Path = Path("results")
    """Where run folders are."""
    storage: Annotated[str | None, _unset("URI")] = None
    """Keep checkpoints, decoded images and a copy of the run folder there, too, for workers that share no disk, and to
    go on elsewhere: s3://bucket/prefix, or whatever pyarrow or fsspec opens. Credentials come from the environment
    alone. Default: everything is under --results."""
    run_name: Annotated[str | None, _unset("NAME")] = None
    """The run's name. Default: the space and the time."""
    resume: Annotated[str | None, _unset("RUN")] = None
    """Go on with this run (a path, a name under --results, or its URI under --storage), with its own settings; --trials
    may add more."""
    wandb: Annotated[str | None, _unset("PROJECT")] = None
    """Show the search in this project (or ENTITY/PROJECT) of Weights & Biases. Default: not there."""
    wandb_mode: Annotated[Literal["online", "offline"] | None, _unset("online|offline")] = None
    """online: live, as a sweep; offline: into files under the run, to be uploaded by raysearch wandb RUN. Default:
    online if W&B knows a key (wandb login)."""
    tensorboard: bool = False
    """Write TensorBoard's files, too: tensorboard --logdir RUN/tensorboard."""
    serve: Annotated[tuple[int, ...] | None, _unset("[PORT]")] = None
    """Serve the report page to this machine's browsers while the search runs, on this port; 8300 if none is named."""
    plan: bool = False
    """Only show what would happen, with a contact sheet of a training batch in plan.png."""
    fast_dev_run: bool = False
    """One head, one trial, one epoch of two batches, one refit: does everything once, to see that it works."""
    quiet: bool = False
    """No progress display; the summary is still printed."""


_SEARCHING = ("space", "head", "trials", "max-epochs")
# With --resume, all other flags are the run's own.
_ON_RESUME = {
    "resume",
    "trials",
    "time_budget",
    "results",
    "concurrent",
    "address",
    "gpus_per_trial",
    "workers_per_trial",
    "refit_workers",
    "max_failures",
    "serve",
    "quiet",
}


def search(settings: Settings, console: Console | None = None) -> Run:
    """Run a whole search, or go on with one, and return its run.

    Raises:
        InputError: whatever is wrong with the settings, the space, the data or the weights, all together.
        KeyboardInterrupt: the search was stopped by Ctrl-C; everything that was finished is in the run folder.
        NothingSucceededError: every trial failed.
        StorageError: the run folder could not be written to, for minutes.
    """
    began = time.monotonic()
    console, problems = console or Console(), Problems()
    with ExitStack() as at_the_end:
        if settings.resume is not None:
            wanted = settings.resume
            problems.attempt(lambda: _refuse_changes(settings))
            run = problems.attempt(lambda: _brought(wanted, settings.results))
            problems.stop_if_any()
            assert run is not None
            _serve(settings, run.folder, console, at_the_end)
            from raysearch.pipeline import go_on

            return go_on(run, settings, console, began)
        folder = Path(settings.results) / (settings.run_name or f"{_stem(settings)}-{time.strftime('%Y%m%d-%H%M%S')}")
        problems.attempt(lambda: _serve(settings, folder, console, at_the_end))
        job = problems.attempt(lambda: job_of(settings, folder))
        problems.stop_if_any()
        assert job is not None
        from raysearch.pipeline import start

        return start(job, folder, settings, console, began)


def _serve(settings: Settings, folder: Path, console: Console, at_the_end: ExitStack) -> None:
    """Serve the page of the search, if it is asked for, until `at_the_end`.

    Raises:
        InputError: the port cannot be had.
    """
    from raysearch.serve import LivePage, port_of

    if settings.serve is None:
        return
    page = at_the_end.enter_context(LivePage(folder, port_of(settings.serve)))
    if not settings.quiet:
        console.print(f"The report page, live: {page.address}", highlight=False, soft_wrap=True)


def _brought(wanted: str, results: Path) -> Run:
    """The run to go on with; one in a storage is brought under `results` first, and stays there as well."""
    if not is_uri(wanted):
        return Run.open(wanted, results)
    from raysearch.remote import bring
    from raysearch.storage import Storage

    run = Run.open(bring(wanted, results, checkpoints=False))
    run.update_info(settings=run.info["settings"] | {"storage": Storage(wanted).parent.uri})
    return run


def job_of(settings: Settings, folder: Path | None) -> Job:
    """As `raysearch.job.resolve`; a recipe becomes a space in which nothing is searched, and so does one of a space."""
    from raysearch.job import RECIPE_FLAGS, resolve
    from raysearch.replay import recipe_space

    if settings.parameters is not None:
        return _job_at(settings, folder)
    if settings.recipe is None:
        return resolve(settings, folder)
    refused = [
        f"--{name} cannot be used with --recipe, which searches nothing"
        for name in _SEARCHING
        if getattr(settings, name.replace("-", "_")) is not None
    ]
    if refused:
        raise InputError(refused)
    text, epochs = recipe_space(
        settings.recipe, without=[name for name in RECIPE_FLAGS if getattr(settings, name) is not None]
    )
    return _searching_nothing(settings, text, epochs, str(settings.recipe), folder)


def _job_at(settings: Settings, folder: Path | None) -> Job:
    """The job of one recipe of a space: `--space NAME --parameters FILE`."""
    from raysearch.job import DEFAULTS, PRESETS, RECIPE_FLAGS
    from raysearch.replay import recipe_at, space_of
    from raysearch.space import load_space

    assert settings.parameters is not None
    refused = [
        f"--{name} cannot be used with --parameters" for name in ("recipe", "head", "trials") if getattr(settings, name)
    ]
    if settings.space is None:
        refused.append("--parameters FILE: --space NAME is missing, whose values they are")
    if refused or settings.space is None:
        raise InputError(refused)
    wanted = {name: value for name in RECIPE_FLAGS if (value := getattr(settings, name)) is not None}
    # The image size may be the data's own, which is not known yet, and does not matter here.
    fixed = {name: DEFAULTS[name] for name in RECIPE_FLAGS if name in DEFAULTS} | {"image_size": 32, "seed": 0} | wanted
    space = load_space(settings.space, fixed=fixed)
    recipe = recipe_at(space, settings.parameters, settings.max_epochs or PRESETS[settings.preset]["max_epochs"])
    given = f"--parameters {settings.parameters}"
    text, epochs = space_of(recipe, given, without=[name for name in RECIPE_FLAGS if name not in space.tree])
    return _searching_nothing(settings, text, epochs, f"{settings.space} {given}", folder)


def _searching_nothing(settings: Settings, text: str, epochs: int, told: str, folder: Path | None) -> Job:
    """As `raysearch.job.resolve`, of a space in which nothing is searched; `told` is its name in the settings."""
    from raysearch.job import resolve

    with TemporaryDirectory(prefix="raysearch-recipe-") as scratch:
        space = Path(scratch) / "recipe.py"
        space.write_text(text, encoding="utf-8")
        refits = 0 if settings.refits is None else settings.refits
        job = resolve(dataclasses.replace(settings, space=str(space), max_epochs=epochs, refits=refits), folder)
    return dataclasses.replace(job, settings=job.settings.model_copy(update={"space": told}))


def plan(settings: Settings, console: Console | None = None) -> None:
    """Show what `search` would do with the same settings, and write plan.png. Trains nothing.

    Raises:
        InputError: as of `search`.
    """
    from raysearch.pipeline import as_plan
    from raysearch.plan import show_plan

    if settings.resume is not None:
        raise InputError("--plan shows a new search; a run that is resumed has its plan already")
    if settings.serve is not None:
        raise InputError("--plan trains nothing, so there is no page to --serve")
    job = job_of(settings, settings.results / settings.run_name if settings.run_name else None)
    show_plan(as_plan(job, settings.results / (settings.run_name or _stem(settings))), console=console)


def _stem(settings: Settings) -> str:
    return "recipe" if settings.recipe is not None else Path(settings.space or "run").stem


def _refuse_changes(settings: Settings) -> None:
    changed = [
        f"--{field.name.replace('_', '-')} cannot change when a run is resumed: it keeps its own settings"
        for field in dataclasses.fields(settings)
        if field.name not in _ON_RESUME and getattr(settings, field.name) != field.default
    ]
    if changed:
        raise InputError(changed)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code.

    Returns: 0 done, 1 no trial succeeded or nothing could be written, 2 bad input, 130 stopped by Ctrl-C.
    """
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    settings = tyro.cli(
        Settings, args=arguments, prog="python -m raysearch.tune", config=(tyro.conf.FlagCreatePairsOff,)
    )
    errors = Console(stderr=True)
    try:
        if settings.plan:
            plan(settings)
        else:
            search(settings)
    except InputError as error:
        for problem in error.problems:
            errors.print(f"error: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    except (NothingSucceededError, StorageError) as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        told = f"error: {error}: make room, and start again; a run that had begun goes on with --resume"
        errors.print(told, style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
