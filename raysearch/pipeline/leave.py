"""What a search leaves to look at: curves, pictures, the report page."""

from __future__ import annotations

import logging

from raysearch.job.job import Job
from raysearch.job.preview import contact_sheet
from raysearch.record.folder import RunFolder
from raysearch.record.trial import Trial
from raysearch.reporting.plots import learning_curves
from raysearch.storage.files import replace_with
from raysearch.training.numerics import choose_device
from raysearch.winner.best_files import read_best
from raysearch.winner.pictures import shown_strengths, write_pictures
from raysearch.workers.machine import Machine

logger = logging.getLogger(__name__)


def show_augmentation(job: Job, run: RunFolder) -> None:
    """Write augmentation.png for W&B: a batch as the default recipe's last stage sees it."""
    if job.settings.wandb is not None:
        sheet = contact_sheet(job.dataset, job.space.recipe({}, job.settings.max_epochs))
        replace_with(run.folder / "augmentation.png", sheet.save)


def write_run_pictures(job: Job, run: RunFolder, *, trained_on_val: bool) -> None:
    """Write pictures/; pictures that cannot be made must not make a search fail."""
    try:
        write_pictures(
            run.folder,
            job.dataset.at(read_best(run.folder / "best")[0].image_size),
            shown_strengths(job.space),
            seed=job.settings.seed,
            device=choose_device("cpu" if job.machine.elsewhere else job.settings.device),
            trained_on_val=trained_on_val,
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the search itself is done
        logger.warning("the pictures of the report were not made (%s: %s)", type(error).__name__, error)


def write_report(run: RunFolder) -> None:
    """Write report.html; a page that cannot be drawn must not make a search fail."""
    from raysearch.reporting.page import write_page  # plotly takes a second to import

    try:
        write_page(run)
    except Exception as error:  # noqa: BLE001 - whatever it is, the search itself is done
        logger.warning("report.html was not written (%s: %s); see raysearch report", type(error).__name__, error)


def draw_curves(run: RunFolder, metric: str, winner: Trial | None) -> None:
    """Write curves.png, if any trial has trained an epoch."""
    history, trials, heads = run.history, run.trials, run.heads
    if not len(trials):  # heads were all that was searched
        trials, heads = heads, heads.iloc[:0]
    if history["trial"].isin(trials["trial"]).any():
        figure = learning_curves(trials, heads, history, metric, winner.name if winner is not None else None)
        replace_with(run.folder / "curves.png", lambda path: figure.savefig(path, dpi=120))


def resume_command(run: RunFolder, machine: Machine) -> str:
    """What a person types to go on as before: the machine is not the run's, so what was typed of it is typed again."""
    where = run.folder if run.storage is None else run.storage.uri
    told = "" if machine.address is None else f" --address {machine.address}"
    told += f" --concurrent {machine.at_most}" * (machine.at_most is not None)
    told += f" --gpus-per-trial {machine.gpus:g}" * (0 < machine.gpus < 1)
    return f"python -m raysearch.tune --resume {where}{told}"
