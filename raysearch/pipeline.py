"""A whole search, in order: run folder, segments under Ray Tune, refits, evaluation, summary. Also its resume."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from raysearch.activations.planner import CachePlan
from raysearch.caching import expected_reads, outcome, plan_cache, record
from raysearch.data.shared import put_images
from raysearch.errors import InputError, NothingSucceededError, StorageError
from raysearch.files import patient, replace_with
from raysearch.finish import best_tensors, evaluate_run
from raysearch.job import Job, reopen
from raysearch.machine import Machine
from raysearch.models.registry import backbone_spec
from raysearch.pictures import shown_strengths, write_pictures
from raysearch.plan import Plan, contact_sheet
from raysearch.progress import Progress
from raysearch.recipe import Recipe
from raysearch.reporting.plots import learning_curves
from raysearch.reporting.terminal import LiveView, summary
from raysearch.run import BEST, Run
from raysearch.search.actor import TrialActor
from raysearch.search.cluster import Call, Room, call_here, on_worker
from raysearch.search.controller import Controller
from raysearch.search.crew import Crews
from raysearch.search.driver import Driver
from raysearch.search.refit import refit, refit_recipe, refit_seeds
from raysearch.search.relay import RESOURCES, Relay
from raysearch.search.runner import ray_session, run_segments
from raysearch.search.sampler import OptunaProposer, export_study
from raysearch.search.stopping import judge
from raysearch.search.tracking.process import tracked
from raysearch.search.trial import Event, Trial
from raysearch.space import describe
from raysearch.starting_head import starting_head
from raysearch.sync import RunSync
from raysearch.training.checkpoint import load_tensors
from raysearch.training.numerics import choose_device
from raysearch.training.stage import Bench

logger = logging.getLogger(__name__)


class Flags(Protocol):
    """What of the command's flags is not a setting of the run."""

    @property
    def trials(self) -> int | None:
        """Recipes to start."""

    @property
    def time_budget(self) -> str | None:
        """As people write it."""

    @property
    def concurrent(self) -> int | None:
        """Trials at once."""

    @property
    def gpus_per_trial(self) -> float | None:
        """GPUs of one trial."""

    @property
    def workers_per_trial(self) -> int | None:
        """Processes of one trial."""

    @property
    def address(self) -> str | None:
        """Of a Ray cluster."""

    @property
    def quiet(self) -> bool:
        """Whether only the summary is shown."""

    @property
    def refit_workers(self) -> int | None:
        """Workers of the refit job."""


def start(job: Job, folder: Path, flags: Flags, console: Console, began: float) -> Run:
    """A new search, in a new run folder; there is none yet if Ray does not start, or is not waited for.

    Args:
        job, folder, flags, console: what to search, where, and how it is shown.
        began: when the person started it (`time.monotonic`); a time budget counts from there.
    """
    chatter = _chatter(flags, console)
    chatter.print(f"Weights: {job.weights.origin} ({job.weights.reason})", highlight=False, soft_wrap=True)
    with ExitStack() as session:
        if job.machine.elsewhere:  # what is measured there needs it; what is measured here is better off alone
            session.enter_context(_ray(job.machine))
        chosen, costs = plan_cache(job, _call(job.machine, chatter))
        for line in chosen.lines():
            chatter.print(f"Frozen work, {line}", highlight=False, soft_wrap=True)
        session.enter_context(_ray(job.machine))
        run = Run.create(folder, job.settings.model_dump(mode="json"))
        (folder / "space.py").write_text(job.space.source, encoding="utf-8")
        run.update_info(
            fingerprints={"data": job.dataset.fingerprint, "weights": job.weights.digest},
            weights={"origin": job.weights.origin, "reason": job.weights.reason},
            classes=list(job.dataset.classes),
            skipped=[{"path": one.path, "reason": one.reason} for one in job.dataset.skipped],
            cache=record(chosen, costs),
            **(
                {}
                if job.head is None
                else {"head": {"trial": job.head.trial, "recipe": job.head.recipe.model_dump(mode="json")}}
            ),
        )
        show_augmentation(job, run)
        with tracked(run, partial(chatter.print, highlight=False, soft_wrap=True)):
            _run(job, run, flags, console, began)
    summary(run, console)
    return run


def go_on(run: Run, flags: Flags, console: Console, began: float) -> Run:
    """A run that was stopped, killed, or is to get more trials; of a finished one it says that it is finished."""
    job = reopen(run.info, run.folder / "space.py", flags)
    events = run.events()
    budgets = [(event["heads"], event["trials"]) for event in events if event["event"] == "budget"]
    wanted = (job.settings.heads, job.settings.trials)
    if events and events[-1]["event"] == "finished" and budgets[-1] == wanted:
        console.print(f"{run.folder} is finished; --trials N adds to it.", highlight=False, soft_wrap=True)
        if job.storage is not None:
            run.storage = job.storage / run.name
            RunSync(run, console.print).copy()
    else:
        with _ray(job.machine):
            run.update_info(settings=job.settings.model_dump(mode="json"))
            with tracked(run, partial(_chatter(flags, console).print, highlight=False, soft_wrap=True)):
                _run(job, run, flags, console, began)
    summary(run, console)
    return run


def show_augmentation(job: Job, run: Run) -> None:
    """Write augmentation.png for W&B: a batch as the default recipe's last stage sees it."""
    if job.settings.wandb is not None:
        sheet = contact_sheet(job.dataset, job.space.recipe({}, job.settings.max_epochs))
        replace_with(run.folder / "augmentation.png", sheet.save)


def _chatter(flags: Flags, console: Console) -> Console:
    """Where everything but the summary goes."""
    return Console(quiet=True) if flags.quiet else console


def _ray(machine: Machine) -> AbstractContextManager[None]:
    return ray_session(machine.address, machine.cpus * machine.workers * machine.concurrent)


def _call(machine: Machine, console: Console) -> Call:
    """Calls what needs a trial's device: as a Ray task with a trial's resources, unless this process may use it."""
    if not machine.elsewhere:
        return call_here

    def tell(message: str) -> None:
        console.print(message, highlight=False, soft_wrap=True)

    return partial(on_worker, trial=machine.trial, tell=tell)


def as_plan(job: Job, folder: Path) -> Plan:
    """What `raysearch.plan` shows of a job."""
    settings, default = job.settings, job.space.recipe({}, job.settings.max_epochs)
    searched: dict[str, Any] = {key: describe(value) for key, value in job.space.distributions.items()}
    return Plan(
        dataset=job.dataset,
        recipe=default,
        weights_origin=job.weights.origin,
        weights_reason=job.weights.reason,
        space_name=job.space.name,
        space=searched,
        depths=sorted(expected_reads(job)),
        heads=settings.heads,
        head=f"{job.head.trial} of {job.head.run}" if job.head is not None else None,
        trials=settings.trials,
        rungs=settings.rungs,
        levels=len(job.space.levels),
        tested=job.space.tested,
        refits=settings.refits,
        device=settings.device,
        precision=settings.precision,
        concurrent=job.machine.concurrent,
        workers_per_trial=job.machine.workers,
        cpus_per_worker=job.machine.cpus,
        gpus_per_worker=job.machine.gpus,
        folder=folder,
    )


def _run(job: Job, run: Run, flags: Flags, console: Console, began: float) -> None:
    """The search itself, to its evaluation; Ray is there."""
    settings, machine = job.settings, job.machine
    proposer = OptunaProposer(job.space, job.rules, settings.seed, settings.max_epochs)
    controller = Controller(job.rules, proposer)
    controller.replay(run.events())
    workers = min(flags.refit_workers or machine.concurrent * machine.workers, max(1, settings.refits))
    call = _call(machine, _chatter(flags, console))
    if job.storage is not None:
        run.storage = job.storage / run.name
    with LiveView(_chatter(flags, console)) as view, ExitStack() as open_:
        open_.enter_context(patient(view.note))
        if job.storage is not None:
            view.note(f"Images and checkpoints are kept in {job.storage.uri}")
            put_images(job.storage, job.dataset.folder)
        sync = open_.enter_context(RunSync(run, view.note)) if run.storage is not None else None
        progress = Progress(job, controller, view, workers, began)
        bench = bench_keywords(job) | {"cache": CachePlan.from_json(run.info["cache"]["plan"]).settings()}
        driver = Driver(run, controller, machine.concurrent, progress.take, _judge(job, run), _range_test(job), sync)
        budget = {"heads": settings.heads, "trials": settings.trials, "max_epochs": settings.max_epochs}
        begin: list[Event] = []
        if (controller.heads_wanted, controller.trials_wanted) != (settings.heads, settings.trials):
            begin.append({"event": "budget", **budget})
        if settings.head is not None and controller.best_head() is None:
            head = job.head or starting_head(Run.open(settings.head))
            if head.trial != run.info["head"]["trial"]:
                raise InputError(
                    f"--head {head.run}: its best head is {head.trial} by now, this run began with "
                    f"{run.info['head']['trial']}; start a new run"
                )
            view.note(f"Starting from {head.trial} of {head.run}: no heads are trained")
            # On the CPU, where trials have a GPU: this process has none.
            here = bench | ({"device": "cpu", "precision": "fp32", "cache": None} if machine.elsewhere else {})
            begin += head.adopt(driver.checkpoints / "h0000", Bench.open(**here))
            if sync is not None:
                sync.put(f"checkpoints/h0000/{BEST}")
        driver.log(*begin)
        try:
            _run_segments(job, driver, bench, progress.time_to_search)
            if driver.stopping == "Ctrl-C":
                raise KeyboardInterrupt
            winner = controller.winner
            if winner is None or winner.best is None:
                raise NothingSucceededError(_why_nothing(run, controller, driver))
            cached = CachePlan.from_json(run.info["cache"]["plan"]).refit_settings()
            refits = _refit(
                job,
                run,
                winner,
                workers,
                driver,
                progress,
                bench_keywords(job) | {"cache": cached, "halves": job.space.tested and settings.refit_on == "train"},
            )
            view.note("Evaluating: one look at the test images")
            evaluate_run(job, run, controller, refits, call)
            export_study(run.folder / "study.db", controller, job.space, run.name)
            _write_pictures(job, run, trained_on_val=settings.refit_on == "train+val" and bool(refits))
            if driver.stopping is None:
                driver.log({"event": "finished"})
            else:
                driver.log({"event": "interrupted", "reason": driver.stopping})
                view.note(f"Stopped: {driver.stopping}; go on with: {resume_command(run)}")
        except StorageError:
            view.note(f"Stopped. Nothing that was finished is lost; go on with: {resume_command(run)}")
            raise
        except KeyboardInterrupt:
            driver.log({"event": "interrupted", "reason": "Ctrl-C"})
            export_study(run.folder / "study.db", controller, job.space, run.name)
            view.note(f"Stopped. Nothing that was finished is lost; go on with: {resume_command(run)}")
            raise
        finally:
            run.derive()
            draw_curves(run, settings.metric, controller.winner)
            events = run.events()
            run.update_info(
                failures=[event for event in events if event["event"] in ("failed", "segment_lost")],
                cache=run.info["cache"] | {"outcome": outcome(job, run.info["cache"], events)},
            )
            _write_page(run)


def _run_segments(job: Job, driver: Driver, bench: dict[str, Any], time_left: Callable[[], float]) -> None:
    """The trials, in Tune's own actors or in crews beside them."""
    machine, search = job.machine, job.space.search
    config = {
        "bench": bench,
        "checkpoints": str(driver.checkpoints.resolve()),
        "threads": machine.cpus,
        "storage": driver.run.storage.uri if driver.run.storage is not None else None,
        "heads": {
            # A few batches may hold fewer images of a class than there are folds.
            "folds": search.folds if job.settings.max_batches is None else 0,
            "reduction": job.settings.reduction,
            "first_rung_epochs": search.first_rung_epochs,
        },
    }
    room = Room(machine.trial, machine.at_most, machine.workers) if machine.address is not None else None
    if machine.workers == 1:
        run_segments(driver, TrialActor, config, {"cpu": machine.cpus, "gpu": machine.gpus}, time_left, room)
        return
    with Crews(machine.workers, {"CPU": machine.cpus, "GPU": machine.gpus}, config) as crews:
        run_segments(driver, Relay, {"desk": crews.desk}, RESOURCES, time_left, room)


def bench_keywords(job: Job) -> dict[str, Any]:
    """What a process needs to open its own bench: plain values, for `raysearch.training.stage.Bench.open`."""
    settings = job.settings
    return {
        "dataset": str(job.dataset.folder),
        "backbone": settings.backbone,
        "weights": settings.weights,
        "seed": settings.seed,
        "device": settings.device,
        "precision": settings.precision,
        "metric": settings.metric,
        "max_batches": settings.max_batches,
        "halves": job.space.tested,
    }


def _judge(job: Job, run: Run) -> Callable[[Trial, Trial | None], Event]:
    """Says what a level brought: its leader against its control, on the images that were held out."""
    search, blocks = job.space.search, backbone_spec(job.settings.backbone).block_names

    def losses(trial: Trial) -> list[float]:
        return load_tensors(best_tensors(run, trial))[1]["held_out"]

    def judge_level(leader: Trial, control: Trial | None) -> Event:
        before = len(blocks) - leader.recipe["schedule"][leader.stage - 1]["depth"]
        told = {"opened": blocks[len(blocks) - leader.depth : before], "before": blocks[before:]}
        if control is None or control.best is None:
            return {**told, "verdict": "untested"}
        found = judge(losses(control), losses(leader), confidence=search.confidence, min_gain=search.min_gain)
        return told | asdict(found)

    return judge_level


def _range_test(job: Job) -> Callable[[int, Trial], Event]:
    """Says with which recipe the learning rates of each depth of a level are tested."""

    def recipes(level: int, start: Trial) -> Event:
        recipe = job.space.recipe({}, job.settings.max_epochs)
        begun = Recipe.model_validate(start.recipe)
        found = {}
        for depth in job.space.every_value(f"schedule.{level}.depth"):
            stage = recipe.schedule[level].model_copy(update={"depth": depth, "inherit": None})
            path = begun.model_copy(update={"schedule": (*begun.schedule, stage)})
            found[str(depth)] = path.model_dump(mode="json")
        return found

    return recipes


def _refit(
    job: Job, run: Run, winner: Trial, workers: int, driver: Driver, progress: Progress, bench: dict[str, Any]
) -> list[dict[str, Any]]:
    """The winner with fresh seeds, logged; nothing if no refits are wanted."""
    settings, machine = job.settings, job.machine
    assert winner.best is not None
    recipe = Recipe.model_validate(winner.recipe)
    path = driver.controller.path(winner)
    kept_epochs = [trial.best["epoch"] for trial in path if trial.best is not None]
    recipes = [
        refit_recipe(recipe, seed, kept_epochs, settings.refit_on)
        for seed in refit_seeds(settings.seed, settings.refits)
    ]
    if not recipes:
        return []
    progress.view.note(f"Training {winner.name} again with {len(recipes)} fresh seeds")

    def lost(reason: str) -> None:
        driver.log({"event": "refit_lost", "reason": reason})
        progress.view.note(f"The refits were lost ({reason}); those that had not ended begin again")

    outcomes = refit(
        run.folder,
        winner.name,
        bench,
        recipes,
        on=settings.refit_on,
        workers=workers,
        gpus=min(1.0, machine.gpus),
        max_failures=settings.max_failures,
        watch=progress.refits,
        lost=lost,
        storage=run.storage,
    )
    for one in outcomes:
        driver.log({"event": "refit_failed" if "error" in one else "refit", "trial": winner.name, **one})
    return [one for one in outcomes if "error" not in one]


def _write_pictures(job: Job, run: Run, *, trained_on_val: bool) -> None:
    """Write pictures/; pictures that cannot be made must not make a search fail."""
    try:
        write_pictures(
            run.folder,
            job.dataset,
            shown_strengths(job.space),
            seed=job.settings.seed,
            device=choose_device("cpu" if job.machine.elsewhere else job.settings.device),
            trained_on_val=trained_on_val,
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the search itself is done
        logger.warning("the pictures of the report were not made (%s: %s)", type(error).__name__, error)


def _write_page(run: Run) -> None:
    """Write report.html; a page that cannot be drawn must not make a search fail."""
    from raysearch.reporting.page import write_page  # plotly takes a second to import

    try:
        write_page(run)
    except Exception as error:  # noqa: BLE001 - whatever it is, the search itself is done
        logger.warning("report.html was not written (%s: %s); see raysearch report", type(error).__name__, error)


def resume_command(run: Run) -> str:
    """What a person types to go on."""
    return f"python -m raysearch.tune --resume {run.folder if run.storage is None else run.storage.uri}"


def draw_curves(run: Run, metric: str, winner: Trial | None) -> None:
    """Write curves.png, if any trial has trained an epoch."""
    history, trials, heads = run.history, run.trials, run.heads
    if not len(trials):  # heads were all that was searched
        trials, heads = heads, heads.iloc[:0]
    if history["trial"].isin(trials["trial"]).any():
        figure = learning_curves(trials, heads, history, metric, winner.name if winner is not None else None)
        replace_with(run.folder / "curves.png", lambda path: figure.savefig(path, dpi=120))


def _why_nothing(run: Run, controller: Controller, driver: Driver) -> str:
    errors = [event["error"] for event in run.events() if event["event"] == "failed"]
    if errors:
        return f"no trial succeeded: {len(errors)} failed, the first with: {errors[0]}"
    stopped = driver.stopping or "the search ended"
    return f"no trial came to its first comparison before {stopped}; go on with: {resume_command(run)}"
