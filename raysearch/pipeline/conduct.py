"""A whole search, in order: run folder, segments under Ray Tune, refits, evaluation, summary. Also its resume."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from raysearch.data.shared import put_all
from raysearch.errors import NothingSucceededError, StorageError
from raysearch.job.flags import Flags
from raysearch.job.job import Job
from raysearch.job.learned import beforehand
from raysearch.job.network_work import caches, network_infos, outcomes, plan_frozen_work
from raysearch.job.reopen import note_places, reopen
from raysearch.job.settings import BALANCE
from raysearch.pipeline.final_evaluation import evaluate_run
from raysearch.pipeline.final_training import FinalTraining, effort_of
from raysearch.pipeline.first_head import first_head
from raysearch.pipeline.leave import draw_curves, resume_command, show_augmentation, write_report, write_run_pictures
from raysearch.pipeline.levels import compare_of, judge_of, range_test_of
from raysearch.pipeline.pace import pace_of
from raysearch.pipeline.progress import Progress
from raysearch.pipeline.segments import bench_config, call_of, ray_of, run_trials
from raysearch.pipeline.shipping import asked_for
from raysearch.record.events import BudgetSet, Event, Finished, Interrupted
from raysearch.record.files import BEST, CHECKPOINTS, LOG
from raysearch.record.folder import RunFolder
from raysearch.record.prior import PRIOR
from raysearch.record.sync import RunSync
from raysearch.record.worked_on import worked_on
from raysearch.reporting.intake import show_intake
from raysearch.reporting.live_view import LiveView
from raysearch.reporting.summary import summary
from raysearch.reporting.tracking.process import tracked
from raysearch.search.controller import Controller
from raysearch.search.driver import Driver
from raysearch.search.sampler import OptunaProposer
from raysearch.search.state import SearchState
from raysearch.search.study_file import export_study
from raysearch.storage.files import patient
from raysearch.workers.cluster import Call


def start(job: Job, folder: Path, flags: Flags, console: Console, began: float) -> RunFolder:
    """A new search, in a new run folder; there is none yet if Ray does not start, or is not waited for.

    Args:
        job, folder, flags, console: what to search, where, and how it is shown.
        began: when the person started it (`time.monotonic`); a time budget counts from there.
    """
    chatter = _chatter(flags, console)
    intake = job.dataset.account.as_json()
    show_intake(intake, chatter)
    for line in (*job.weights_lines(), *beforehand(job)):
        chatter.print(line, markup=False, highlight=False, soft_wrap=True)
    if job.unlabelled is not None:
        told = f"Without labels: {len(job.unlabelled.train):,} images, from which a student learns after the search"
        chatter.print(told, highlight=False, soft_wrap=True)
    with ExitStack() as session:
        if job.machine.elsewhere:  # what is measured there needs it; what is measured here is better off alone
            session.enter_context(ray_of(job.machine))
        call = call_of(job.machine, chatter)
        planned, networks = plan_frozen_work(job, call), network_infos(job, call)
        for line in planned["lines"]:
            chatter.print(f"Frozen work, {line}", highlight=False, soft_wrap=True)
        session.enter_context(ray_of(job.machine))
        run = RunFolder.create(folder, job.settings.model_dump(mode="json"))
        session.enter_context(worked_on(folder))
        (folder / "space.py").write_text(job.space.source, encoding="utf-8")
        if job.prior is not None:
            run.write_json(PRIOR, job.prior)
        run.update_info(
            fingerprints={
                "data": job.dataset.fingerprint,
                "weights": job.weights.digest,
                **({} if job.unlabelled is None else {"unlabelled": job.unlabelled.fingerprint}),
            },
            weights={
                "origin": job.weights.origin,
                "reason": job.weights.reason,
                "license": job.weights.metadata.get("license"),
            },
            classes=list(job.dataset.classes),
            skipped=[{"path": one.path, "reason": one.reason} for one in job.dataset.skipped],
            intake=intake,
            cache=planned,
            **({"networks": networks} if networks else {}),
            **(
                {}
                if job.head is None
                else {"head": {"trial": job.head.trial, "recipe": job.head.recipe.model_dump(mode="json")}}
            ),
        )
        show_augmentation(job, run)
        _conduct(job, run, flags, chatter, began)
    summary(run, console)
    return run


def go_on(run: RunFolder, flags: Flags, console: Console, began: float) -> RunFolder:
    """A run that was stopped, killed, or is to get more trials; of a finished one it says that it is finished.

    The caller sees that nobody else works on it: see `raysearch.record.worked_on`.
    """
    job = reopen(run.info, run.folder / "space.py", flags)
    events = run.events()
    budgets = [(event["heads"], event["trials"]) for event in events if event["event"] == "budget"]
    wanted = (job.settings.heads, job.settings.trials)
    if (point := job.settings.ship_point) not in (BALANCE, *job.goal.several):
        known = SearchState(job.rules)
        known.replay(events, str(run.folder / LOG))
        asked_for(known, point)  # whatever is wrong with it is said before anything is written
    same_point = job.settings.ship_point == run.info["settings"].get("ship_point", BALANCE)
    if events and events[-1]["event"] == "finished" and budgets[-1] == wanted and same_point:
        note_places(run, job.settings)
        console.print(f"{run.folder} is finished; --trials N adds to it.", highlight=False, soft_wrap=True)
        if job.storage is not None:
            run.storage = job.storage / run.name
            RunSync(run, console.print).copy()
    else:
        with ray_of(job.machine):
            run.update_info(settings=job.settings.model_dump(mode="json"))
            _conduct(job, run, flags, _chatter(flags, console), began)
    summary(run, console)
    return run


def _chatter(flags: Flags, console: Console) -> Console:
    """The console that everything but the summary is printed to."""
    return Console(quiet=True) if flags.quiet else console


def _conduct(job: Job, run: RunFolder, flags: Flags, chatter: Console, began: float) -> None:
    """The search itself, to its evaluation; Ray is there."""
    if job.storage is not None:
        run.storage = job.storage / run.name
    with (
        tracked(run, partial(chatter.print, highlight=False, soft_wrap=True)),
        LiveView(chatter) as view,
        patient(view.note),
        ExitStack() as storing,
    ):
        sync = None
        if job.storage is not None:
            view.note(f"Images and checkpoints are kept in {job.storage.uri}")
            put_all(job.storage, job.dataset.place)
            if job.unlabelled is not None:
                put_all(job.storage, job.unlabelled.place)
            sync = storing.enter_context(RunSync(run, view.note))
        conductor = _Conductor(job, run, view, flags.refit_workers, began, sync, call_of(job.machine, chatter))
        try:
            conductor.begin()
            conductor.search()
            conductor.finish()
        except StorageError:
            conductor.say_how_to_go_on("Stopped. Nothing that was finished is lost")
            raise
        except KeyboardInterrupt:
            conductor.note_interruption()
            raise
        finally:
            conductor.leave()


class _Conductor:
    """The steps of a search, in order, on what they share.

    Args:
        job: the settings and what they name.
        run: the run folder.
        view: where the search is shown.
        refit_workers: of the job that trains after the search; None: as many as trials have at once.
        began: when the person started it (`time.monotonic`).
        sync: keeps the run in its storage, if it has one.
        call: calls a function where trials run.
    """

    def __init__(
        self,
        job: Job,
        run: RunFolder,
        view: LiveView,
        refit_workers: int | None,
        began: float,
        sync: RunSync | None,
        call: Call,
    ) -> None:
        settings, machine = job.settings, job.machine
        self._job, self._run, self._view, self._sync, self._call = job, run, view, sync, call
        prior = run.prior
        proposer = OptunaProposer(
            job.space, job.rules, settings.seed, settings.max_epochs, () if prior is None else prior["trials"]
        )
        self._controller = Controller(job.rules, proposer)
        self._controller.replay(run.events(), str(run.folder / LOG))
        self._workers = refit_workers or machine.concurrent * machine.workers
        pace = pace_of(job, self._controller, effort_of(job), self._workers)
        self._progress = Progress(job, self._controller, view, pace, began)
        self._bench = bench_config(job)
        self._bench["cache"] = caches(run.info["cache"])
        self._driver = Driver(
            run,
            self._controller,
            machine.concurrent,
            self._progress.take,
            judge_of(job, run),
            range_test_of(job),
            sync,
            compare_of(job, run),
        )

    def begin(self) -> None:
        """Log what the search may spend, and the head that it starts from, if it is an earlier run's."""
        settings, controller = self._job.settings, self._controller
        events: list[Event] = []
        if (controller.heads_wanted, controller.trials_wanted) != (settings.heads, settings.trials):
            events.append(
                BudgetSet(event="budget", heads=settings.heads, trials=settings.trials, max_epochs=settings.max_epochs)
            )
        if settings.starts_from is not None and controller.best_head() is None:
            events += self._first_head()
        self._driver.log(*events)

    def _first_head(self) -> list[Event]:
        """The events by which the search has the head of another run."""
        folder = self._driver.checkpoints / "h0000"
        events = first_head(self._job, self._run, self._bench, folder, self._call, self._view.note)
        if self._sync is not None:
            self._sync.put(f"{CHECKPOINTS}/h0000/{BEST}")
        return events

    def search(self) -> None:
        """Train trials until none is left to train, or no more may start.

        Raises:
            KeyboardInterrupt: Ctrl-C ended it.
            NothingSucceededError: there is no winner.
        """
        run_trials(self._job, self._driver, self._bench, self._progress.time_to_search)
        if self._driver.stopping == "Ctrl-C":
            raise KeyboardInterrupt
        winner = self._controller.winner
        if winner is None or winner.best is None:
            raise NothingSucceededError(self._why_nothing())

    def _why_nothing(self) -> str:
        errors = [event["error"] for event in self._run.events() if event["event"] == "failed"]
        if errors:
            return f"no trial succeeded: {len(errors)} failed, the first with: {errors[0]}"
        stopped = self._driver.stopping or "the search ended"
        go_on = resume_command(self._run, self._job.machine)
        return f"no trial came to its first comparison before {stopped}; go on with: {go_on}"

    def finish(self) -> None:
        """The final comparison and the refits, one look at the test images, and what is left to look at."""
        job, run, driver = self._job, self._run, self._driver
        bench = bench_config(job)
        bench["cache"] = caches(run.info["cache"], refits=True)
        bench["unlabelled"] = None if job.unlabelled is None else job.unlabelled.place
        bench["halves"] = job.space.tested and job.settings.refit_on == "train"
        training = FinalTraining(job, run, driver, self._controller, self._progress, self._workers, bench)
        finish = training.run(self._progress.effort_in_time(), self._call)
        self._progress.evaluating()
        seen_val = evaluate_run(job, run, self._controller, finish, self._call)
        export_study(run.folder / "study.db", self._controller, job.space, run.name)
        write_run_pictures(job, run, trained_on_val=seen_val)
        if driver.stopping is None:
            driver.log(Finished(event="finished"))
        else:
            driver.log(Interrupted(event="interrupted", reason=driver.stopping))
            self.say_how_to_go_on(f"Stopped: {driver.stopping}")

    def note_interruption(self) -> None:
        """Ctrl-C: what was finished is kept."""
        self._driver.log(Interrupted(event="interrupted", reason="Ctrl-C"))
        export_study(self._run.folder / "study.db", self._controller, self._job.space, self._run.name)
        self.say_how_to_go_on("Stopped. Nothing that was finished is lost")

    def say_how_to_go_on(self, what: str) -> None:
        """What happened, and the command that goes on."""
        self._view.note(f"{what}; go on with: {resume_command(self._run, self._job.machine)}")

    def leave(self) -> None:
        """Bring tables, curves and the page up to date, however the search ended."""
        run = self._run
        run.derive()
        draw_curves(run, self._job.settings.metric, self._controller.winner)
        events = run.events()
        run.update_info(
            failures=[event for event in events if event["event"] in ("failed", "segment_lost")],
            cache=run.info["cache"] | {"outcome": outcomes(self._job, run.info["cache"], events)},
        )
        write_report(run)
