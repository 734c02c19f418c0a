"""A run, or a space, for other programs: `raysearch wandb`, `tensorboard` and `sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from raysearch.cli.arguments import Results, RunName, say
from raysearch.cli.outputs import check_output
from raysearch.errors import InputError, Problems


def sweep(
    *,
    space: Annotated[str, tyro.conf.arg(metavar="NAME", help="What is searched, as for the search.")],
    project: Annotated[str, tyro.conf.arg(metavar="PROJECT", help="PROJECT or ENTITY/PROJECT of W&B.")] = "raysearch",
    out: Annotated[Path, tyro.conf.arg(metavar="FILE", help="The file to write.")] = Path("sweep.yaml"),
    metric: Annotated[str, tyro.conf.arg(metavar="NAME", help="What W&B maximises on validation.")] = "accuracy",
    data: Annotated[str | None, tyro.conf.arg(metavar="SOURCE", help="Images, as for the search.")] = None,
    backbone: Annotated[str | None, tyro.conf.arg(metavar="NAME", help="As for the search.")] = None,
    weights: Annotated[str | None, tyro.conf.arg(metavar="NAME|PATH", help="As for the search.")] = None,
    max_epochs: Annotated[int | None, tyro.conf.arg(metavar="N", help="Epochs of a recipe after the head's.")] = None,
) -> int:
    """Write a sweep file for those who want W&B to steer: each of its agents trains one recipe at a time.

    W&B's Bayesian search then proposes, instead of Optuna; recipes share no head, and none is stopped early.

        raysearch sweep --space fine_tune --project flowers --data flowers/
        wandb sweep sweep.yaml
        wandb agent ENTITY/flowers/ID
    """
    from raysearch.job.wanted import Wanted
    from raysearch.recipe import AT_HAND
    from raysearch.reporting.tracking.process import check_tracking
    from raysearch.reporting.tracking.sweep import agents_file
    from raysearch.space.load import load_space
    from raysearch.storage.files import replace_text

    problems = Problems()
    check_output("--out", out, problems, (space, data))
    problems.stop_if_any()
    check_tracking(project, None)
    if backbone is not None and ("," in backbone or backbone == AT_HAND):
        raise InputError(f"--backbone {backbone}: name one network, or write a space that chooses among several")
    default = Wanted()
    wanted = Wanted(backbone=backbone or default.backbone, weights=weights or default.weights)
    flags = {"space": space, "metric": metric, "data": data, "backbone": backbone, "weights": weights}
    loaded = load_space(space, fixed=wanted.shared)
    replace_text(out, agents_file(loaded, metric, project, {**flags, "max-epochs": max_epochs}))
    say(f"{out} written; start it by: wandb sweep {out}")
    return 0


def wandb(
    run: RunName,
    /,
    *,
    project: Annotated[
        str | None,
        tyro.conf.arg(metavar="PROJECT", help="PROJECT or ENTITY/PROJECT. Default: the run's own --wandb."),
    ] = None,
    results: Results = Path("results"),
) -> int:
    """Upload a run to Weights & Biases, as a sweep with a run a trial.

    It is for runs that were offline or not tracked at all, finished or not. What is there already is not sent again, so
    it can be repeated. Needs a key (wandb login). Exit code 1 if not everything could be sent.

        raysearch wandb fine_tune-1 --project flowers
    """
    from raysearch.reporting.tracking.follow import show_now
    from raysearch.reporting.tracking.process import check_tracking
    from raysearch.reporting.tracking.wandb_runs import WandbRuns
    from raysearch.run import Run

    opened = Run.open(run, results)
    project = project or opened.info["settings"].get("wandb")
    if project is None:
        raise InputError("--project PROJECT is missing: the run was started without --wandb, so say where it shall go")
    check_tracking(project, "online")
    return 0 if show_now(opened, WandbRuns(opened, project, "online"), say) else 1


def tensorboard(run: RunName, /, *, results: Results = Path("results")) -> int:
    """Write TensorBoard's files of a run into its folder, finished or not; a search does so itself by --tensorboard.

    raysearch tensorboard fine_tune-1
    """
    from raysearch.reporting.tracking.follow import show_now
    from raysearch.reporting.tracking.tensorboard import TensorBoard
    from raysearch.run import Run

    opened = Run.open(run, results)
    return 0 if show_now(opened, TensorBoard(opened), say) else 1
