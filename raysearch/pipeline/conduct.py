"""A whole search, in order: run folder, segments under Ray Tune, refits, evaluation, summary. Also its resume."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from raysearch.activations.planner import CachePlan
from raysearch.data.shared import put_images
from raysearch.errors import InputError, NothingSucceededError, StorageError
from raysearch.job.flags import Flags
from raysearch.job.frozen_work import outcome, plan_cache, record
from raysearch.job.job import Job
from raysearch.job.reopen import reopen
from raysearch.job.starting_head import starting_head
from raysearch.pipeline.finish import evaluate_run
from raysearch.pipeline.leave import draw_curves, show_augmentation, write_report, write_run_pictures
from raysearch.pipeline.levels import judge_of, range_test_of
from raysearch.pipeline.progress import Progress
from raysearch.pipeline.refits import _refit
from raysearch.pipeline.segments import bench_keywords, call_of, ray_of, run_trials
from raysearch.record.folder import BEST, RunFolder
from raysearch.record.sync import RunSync
from raysearch.record.trial import Event
from raysearch.reporting.live_view import LiveView
from raysearch.reporting.summary import summary
from raysearch.reporting.tracking.process import tracked
from raysearch.search.controller import Controller
from raysearch.search.driver import Driver
from raysearch.search.sampler import OptunaProposer
from raysearch.search.study_file import export_study
from raysearch.storage.files import patient
from raysearch.training.bench import Bench

logger = logging.getLogger(__name__)


def start(job: Job, folder: Path, flags: Flags, console: Console, began: float) -> RunFolder:
    """A new search, in a new run folder; there is none yet if Ray does not start, or is not waited for.

    Args:
        job, folder, flags, console: what to search, where, and how it is shown.
        began: when the person started it (`time.monotonic`); a time budget counts from there.
    """
    chatter = _chatter(flags, console)
    chatter.print(f"Weights: {job.weights.origin} ({job.weights.reason})", highlight=False, soft_wrap=True)
    with ExitStack() as session:
        if job.machine.elsewhere:  # what is measured there needs it; what is measured here is better off alone
            session.enter_context(ray_of(job.machine))
        chosen, costs = plan_cache(job, call_of(job.machine, chatter))
        for line in chosen.lines():
            chatter.print(f"Frozen work, {line}", highlight=False, soft_wrap=True)
        session.enter_context(ray_of(job.machine))
        run = RunFolder.create(folder, job.settings.model_dump(mode="json"))
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


def go_on(run: RunFolder, flags: Flags, console: Console, began: float) -> RunFolder:
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
        with ray_of(job.machine):
            run.update_info(settings=job.settings.model_dump(mode="json"))
            with tracked(run, partial(_chatter(flags, console).print, highlight=False, soft_wrap=True)):
                _run(job, run, flags, console, began)
    summary(run, console)
    return run


def _chatter(flags: Flags, console: Console) -> Console:
    """Where everything but the summary goes."""
    return Console(quiet=True) if flags.quiet else console


def _run(job: Job, run: RunFolder, flags: Flags, console: Console, began: float) -> None:
    """The search itself, to its evaluation; Ray is there."""
    settings, machine = job.settings, job.machine
    proposer = OptunaProposer(job.space, job.rules, settings.seed, settings.max_epochs)
    controller = Controller(job.rules, proposer)
    controller.replay(run.events())
    workers = min(flags.refit_workers or machine.concurrent * machine.workers, max(1, settings.refits))
    call = call_of(machine, _chatter(flags, console))
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
        driver = Driver(
            run, controller, machine.concurrent, progress.take, judge_of(job, run), range_test_of(job), sync
        )
        budget = {"heads": settings.heads, "trials": settings.trials, "max_epochs": settings.max_epochs}
        begin: list[Event] = []
        if (controller.heads_wanted, controller.trials_wanted) != (settings.heads, settings.trials):
            begin.append({"event": "budget", **budget})
        if settings.head is not None and controller.best_head() is None:
            head = job.head or starting_head(RunFolder.open(settings.head))
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
            run_trials(job, driver, bench, progress.time_to_search)
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
            write_run_pictures(job, run, trained_on_val=settings.refit_on == "train+val" and bool(refits))
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
            write_report(run)


def resume_command(run: RunFolder) -> str:
    """What a person types to go on."""
    return f"python -m raysearch.tune --resume {run.folder if run.storage is None else run.storage.uri}"


def _why_nothing(run: RunFolder, controller: Controller, driver: Driver) -> str:
    errors = [event["error"] for event in run.events() if event["event"] == "failed"]
    if errors:
        return f"no trial succeeded: {len(errors)} failed, the first with: {errors[0]}"
    stopped = driver.stopping or "the search ended"
    return f"no trial came to its first comparison before {stopped}; go on with: {resume_command(run)}"
