"""What a search of many trials costs its driver, and how long GPUs wait for it: simulated, on one machine.

    python benchmarks/scale.py [--trials 100 1000 10000] [--gpus 16] [--measure-up-to N] [--only ARM ...] [--plot PNG]

Everything is real but the training: the space `fine_tune` with its TPE, the controller, the driver, its log, tables,
checkpoint folders and progress, and Ray Tune. Trials sleep for --epoch-seconds an epoch and write a checkpoint of a few
bytes; 2 or 6 epochs as the halving decides, so a trial takes about a second, the length of those in Ray's own figure.
Their accuracies follow from their recipes. Arms, for each number of trials a process of its own:
    driver   without Ray: what a trial costs the driver, in seconds and in memory
    ray      through Ray Tune, on --nodes simulated nodes of this machine that share --gpus logical GPUs
Of the ray arm, "ideal_seconds" is all sleep divided by the GPUs; "overhead" is what the search took beyond it, as a
share of it; "idle_share" what the GPUs did not use of the whole; "seconds_added_per_trial" how long a GPU waited for
each trial. "full_after_seconds" is when the last GPU had its first trial: the workers' start is in the other figures
too, Ray's own start is not. Beside it stands Ray's published figure: 10,000 trials of one second on 16 CPUs in 715 s,
where 625 s is the least.
Numbers of trials beyond --measure-up-to are extrapolated from the two largest that were measured, and say so.
Run it alone on the machine: all nodes share its cores. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from machine import machine
from ray import tune

from raysearch.record.events import trial_of
from raysearch.search.messages import Pack, RateTest, Result, Segment, Trained

if TYPE_CHECKING:  # the trial actors unpickle this module, and must not import torch
    from raysearch.recipe import Stage
    from raysearch.record.events import Event, Role
    from raysearch.record.folder import RunFolder
    from raysearch.search.controller import Proposal
    from raysearch.search.driver import Driver
    from raysearch.search.state import SearchState

Figures = dict[str, Any]

RAY_PUBLISHED_OVERHEAD = 715 / 625 - 1
MAX_EPOCHS = 6
_ENOUGH = 500  # trials, for memory to show through the noise


# ---- trials that train nothing ---------------------------------------------------------------------------------------


class Pretence:
    """A worker's task, a trial's segment or a pack of heads, with figures that follow from the recipe."""

    def __init__(self, task: Segment | Pack, checkpoints: Path) -> None:
        self._task, self._checkpoints = task, checkpoints
        self._epoch = 0 if isinstance(task, Pack) else task.from_epoch
        self._best: dict[str, float] | None = None

    def step(self) -> list[Result]:
        """An epoch of a trial, or all of a pack."""
        if isinstance(self._task, Pack):
            return [
                self._trained(head.trial, head.recipe.schedule[0], head.recipe.schedule[0].epochs)
                for head in self._task.heads
                if not head.ended
            ]
        self._epoch += 1
        return [self._trained(self._task.trial, self._task.recipe.schedule[self._task.stage], self._epoch)]

    def _trained(self, trial: str, stage: Stage, epoch: int) -> Trained:
        folder = self._checkpoints / trial
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("best.safetensors", "last.pt"):
            (folder / name).write_bytes(b"tensors")
        row = pretended_row(trial, stage, epoch)
        if self._best is None or row["val_accuracy"] > self._best["val_accuracy"] or isinstance(self._task, Pack):
            self._best = row
        handed = isinstance(self._task, Segment) and self._task.parent is not None and epoch == 1
        over = epoch == stage.epochs
        return Trained(trial, row, self._best, finished=over, handover_delta=1e-7 if handed else None)


def pretended_row(trial: str, stage: Stage, epoch: int) -> dict[str, float]:
    """An epoch's figures: best near a learning rate of 5e-4, slowly better, with a trial's and an epoch's luck."""
    luck = [zlib.crc32(f"{trial}/{what}".encode()) / 2**32 - 0.5 for what in ("trial", epoch)]
    away = math.log10(stage.learning_rate / 5e-4)
    accuracy = 0.7 + 0.02 * stage.depth - 0.05 * away**2 - 0.2 / (1 + epoch) + 0.02 * luck[0] + 0.01 * luck[1]
    figures = {"val_accuracy": accuracy, "val_macro_f1": accuracy - 0.01, "val_loss": 2.0 - accuracy}
    trained = {"lr": stage.learning_rate, "train_loss": 1.9 - accuracy, "micro_batch": 64, "seconds": 1.0}
    return {"epoch": epoch, **trained, **figures}


class Sleeper(tune.Trainable):
    """Does nothing for as long as an epoch takes."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first task."""
        self._seconds, self._checkpoints = config["epoch_seconds"], Path(config["checkpoints"])
        self._work = Pretence(config["task"], self._checkpoints)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another task."""
        self._work = Pretence(new_config["task"], self._checkpoints)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch."""
        time.sleep(self._seconds)
        return {"results": self._work.step()}


# ---- what the driver is made of --------------------------------------------------------------------------------------


@dataclass
class TimedProposer:
    """A proposer, and the seconds that each of its answers took."""

    proposer: Any
    seconds: list[float] = field(default_factory=list)

    def pack(self, number: int, at_most: int, state: SearchState) -> Sequence[Proposal]:
        """The proposer's."""
        return self.proposer.pack(number, at_most, state)

    def trial(self, number: int, state: SearchState, *, level: int, role: Role | None) -> Proposal:
        """The proposer's, timed."""
        start = time.perf_counter()
        proposed: Proposal = self.proposer.trial(number, state, level=level, role=role)
        self.seconds.append(time.perf_counter() - start)
        return proposed

    def figures(self) -> Figures:
        """Of a proposal, milliseconds."""
        ordered = sorted(self.seconds)
        return {
            "proposal_milliseconds": round(1e3 * sum(ordered) / len(ordered), 2),
            "proposal_milliseconds_p99": round(1e3 * ordered[int(0.99 * len(ordered))], 2),
        }


class Gauge:
    """Watches this process: its memory at a tenth of the trials and at the end, its processor time, the folders."""

    def __init__(self, trials: int, gpus: int, checkpoints: Path) -> None:
        self._process, self._trials, self._gpus = psutil.Process(), trials, gpus
        self._checkpoints, self._folders = checkpoints, 0
        self._ended: set[str] = set()
        self._first: tuple[int, int] | None = None
        self._busy: set[str] = set()
        self.full_at: float | None = None
        self._cpu = self._process.cpu_times()

    def take(self, event: Event) -> None:
        """An event of the log."""
        kind, trial = event["event"], trial_of(event) or ""
        if kind == "epoch" and self.full_at is None:
            self._busy.add(trial)
            if len([name for name in self._busy if name.startswith("t")]) >= min(self._gpus, self._trials):
                self.full_at = time.perf_counter()
        if kind == "segment_end" and trial.startswith("t"):
            self._ended.add(trial)
            if self._first is None and len(self._ended) * 10 >= self._trials:
                self._first = (len(self._ended), self._bytes())
            if len(self._ended) % max(1, self._trials // 100) == 0:
                self._folders = max(self._folders, sum(1 for _ in self._checkpoints.iterdir()))

    def _bytes(self) -> int:
        """Memory of this process alone."""
        return int(self._process.memory_full_info().uss)

    def figures(self, seconds: float) -> Figures:
        """At the search's end."""
        assert self._first is not None
        began, at_first = self._first
        later, grown = len(self._ended) - began, self._bytes() - at_first
        cpu = self._process.cpu_times()
        used = cpu.user + cpu.system - self._cpu.user - self._cpu.system
        return {
            "driver_cpu_seconds": round(used, 2),
            "driver_cpu_milliseconds_per_trial": round(1e3 * used / self._trials, 2),
            "driver_cpu_share_of_a_core": round(used / seconds, 3),
            "driver_mebibytes": round(self._bytes() / 2**20, 1),
            "driver_kibibytes_per_trial": round(grown / 2**10 / later, 1) if later >= _ENOUGH else None,
            "checkpoint_folders_at_most": self._folders,
        }


@contextmanager
def search(trials: int, concurrent: int) -> Iterator[tuple[Driver, TimedProposer, Gauge]]:
    """A search of `fine_tune` as the command would begin it, its progress drawn to nowhere."""
    from rich.console import Console

    from raysearch.job.flags import Flags
    from raysearch.pipeline.entry import job_of
    from raysearch.pipeline.final_training import effort_of
    from raysearch.pipeline.pace import pace_of
    from raysearch.pipeline.progress import Progress
    from raysearch.reporting.live_view import LiveView
    from raysearch.run import Run
    from raysearch.search.controller import Controller
    from raysearch.search.driver import Driver
    from raysearch.search.sampler import OptunaProposer

    flags: dict[str, Any] = {"backbone": "simple_cnn", "weights": "random", "device": "cpu", "refits": 0, "quiet": True}
    flags |= {"space": "fine_tune", "trials": trials, "max_epochs": MAX_EPOCHS, "concurrent": concurrent}
    job = job_of(Flags(**flags), None)
    settings = job.settings
    with tempfile.TemporaryDirectory(prefix="raysearch-scale-") as folder, Path(os.devnull).open("w") as nowhere:
        run = Run.create(Path(folder) / "run", settings.model_dump(mode="json"))
        proposer = TimedProposer(OptunaProposer(job.space, job.rules, settings.seed, settings.max_epochs))
        controller = Controller(job.rules, proposer)
        gauge = Gauge(trials, concurrent, run.folder / "checkpoints")
        with LiveView(Console(file=nowhere, force_terminal=True)) as view:
            progress = Progress(job, controller, view, pace_of(job, controller, effort_of(job), 1), time.monotonic())

            def watch(event: Event) -> None:
                progress.take(event)
                gauge.take(event)

            driver = Driver(run, controller, concurrent, watch)
            driver.log({"event": "budget", "heads": settings.heads, "trials": trials, "max_epochs": MAX_EPOCHS})
            yield driver, proposer, gauge


def trained(run: RunFolder) -> int:
    """Steps of the workers: the epochs of trials, and a step for each pack of heads."""
    events = run.events()
    packs = {event["pack"] for event in events if event["event"] == "trial" and event.get("pack") is not None}
    return sum(event["event"] == "epoch" and event["trial"].startswith("t") for event in events) + len(packs)


def complete(driver: Driver, trials: int) -> None:
    """Refuses the figures of a search that did not do its work."""
    from raysearch.record.trial import State

    counts = driver.controller.counts()
    if counts[State.DONE] + counts[State.STOPPED] != trials:
        raise RuntimeError(f"{trials} trials were to be trained, there are {counts}")


def replayed(driver: Driver) -> None:
    """What a resume begins with: the log, read and replayed."""
    from raysearch.run import Run
    from raysearch.search.controller import Controller

    controller = Controller(driver.controller.rules, driver.controller.proposer)
    controller.replay(Run.open(driver.run.folder).events())
    if not controller.finished:
        raise RuntimeError("the replayed search is not finished")


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# ---- arms ------------------------------------------------------------------------------------------------------------


def driver_arm(trials: int, options: argparse.Namespace) -> Figures:
    """The driver alone: workers are entries of a heap, and time is theirs."""
    with search(trials, options.gpus) as (driver, proposer, gauge):
        running: list[tuple[float, str, Pretence]] = []
        now, began, spent = 0.0, 0, 0.0
        start = time.perf_counter()
        while not driver.done:
            while len(running) < options.gpus and (task := driver.start(f"w{began}")):
                assert not isinstance(task, RateTest)
                heapq.heappush(running, (now + 1.0 + 1e-6 * began, f"w{began}", Pretence(task, driver.checkpoints)))
                began += 1
            now, worker, work = heapq.heappop(running)
            pretending = time.perf_counter()
            results = work.step()
            spent += time.perf_counter() - pretending
            if driver.results(worker, results):
                heapq.heappush(running, (now + 1.0, worker, work))
        driver.close()
        seconds = time.perf_counter() - start
        complete(driver, trials)
        figures = gauge.figures(seconds)
        return {
            "trials": trials,
            "seconds": round(seconds - spent, 2),
            "milliseconds_per_trial": round(1e3 * (seconds - spent) / trials, 2),
            **proposer.figures(),
            **figures,
            "log_kibibytes_per_trial": round((driver.run.folder / "log.jsonl").stat().st_size / 2**10 / trials, 2),
            "tables_seconds": round(timed(driver.run.derive), 2),
            "replay_seconds": round(timed(lambda: replayed(driver)), 2),
        }


def ray_arm(trials: int, options: argparse.Namespace) -> Figures:
    """The same through our runner and Ray Tune."""
    from raysearch.workers.runner import run_segments
    from raysearch.workers.session import ray_session

    with (
        nodes(options.nodes, options.gpus) as address,
        ray_session(address),
        search(trials, options.gpus) as (driver, proposer, gauge),
    ):
        config = {"epoch_seconds": options.epoch_seconds, "checkpoints": str(driver.checkpoints)}
        start = time.perf_counter()
        run_segments(driver, Sleeper, config, {"cpu": 1, "gpu": 1})
        seconds = time.perf_counter() - start
        figures = gauge.figures(seconds)
        complete(driver, trials)
        busy = trained(driver.run) * options.epoch_seconds
        assert gauge.full_at is not None
        return {
            "trials": trials,
            **waiting(seconds, busy, trials, options.gpus),
            "full_after_seconds": round(gauge.full_at - start, 2),
            **proposer.figures(),
            **figures,
        }


def waiting(seconds: float, busy: float, trials: int, gpus: int) -> Figures:
    """What GPUs that were `busy` for so many seconds in all waited."""
    return {
        "seconds": round(seconds, 2),
        "busy_seconds": round(busy, 2),
        "ideal_seconds": round(busy / gpus, 2),
        "overhead": round(seconds * gpus / busy - 1, 4),
        "idle_share": round(1 - busy / (seconds * gpus), 4),
        "seconds_added_per_trial": round((seconds * gpus - busy) / trials, 4),
    }


@contextmanager
def nodes(count: int, gpus: int) -> Iterator[str]:
    """A cluster of simulated nodes, each with its share of logical GPUs, beside a head that has none; its address."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=gpus // count, num_gpus=gpus // count)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


ARMS: dict[str, Callable[[int, argparse.Namespace], Figures]] = {"driver": driver_arm, "ray": ray_arm}


# ---- all of it -------------------------------------------------------------------------------------------------------


def extrapolated(trials: int, rows: Sequence[Figures], gpus: int) -> Figures:
    """What the line through the two largest searches says of a larger one."""
    before, last = rows[-2:]

    def at(name: str) -> float:
        slope = (last[name] - before[name]) / (last["trials"] - before["trials"])
        return float(last[name] + slope * (trials - last["trials"]))

    figures: Figures = {"trials": trials, "extrapolated": True, "seconds": round(at("seconds"), 2)}
    if "busy_seconds" in last:
        figures |= waiting(at("seconds"), at("busy_seconds"), trials, gpus)
    figures["driver_cpu_seconds"] = round(at("driver_cpu_seconds"), 2)
    figures["driver_mebibytes"] = round(at("driver_mebibytes"), 1)
    return figures


def plot(found: dict[str, list[Figures]], path: Path) -> None:
    """Overhead, driver memory and processor time against trials; hollow where they are extrapolated."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = figure.subplots(1, 3)
    draw = [
        ("overhead", "overhead, % of the least time", 100.0),
        ("driver_cpu_seconds", "driver, CPU ms a trial", None),
        ("driver_mebibytes", "driver, MiB", 1.0),
    ]
    colours = {"ray": "#0072B2", "driver": "#D55E00"}
    labels = {"ray": "through Ray Tune", "driver": "the driver without Ray"}
    for axes, (name, title, scale) in zip(panels, draw, strict=True):
        for arm, rows in found.items():
            points = [
                (row["trials"], row[name] * scale if scale is not None else 1e3 * row[name] / row["trials"])
                for row in rows
                if name in row
            ]
            measured = [point for point, row in zip(points, rows, strict=False) if "extrapolated" not in row]
            if len(points) > len(measured):
                beyond = points[max(0, len(measured) - 1) :]
                axes.plot(*zip(*beyond, strict=True), "o--", color=colours[arm], markerfacecolor="white")
            if measured:
                axes.plot(*zip(*measured, strict=True), "o-", color=colours[arm], label=labels[arm])
        axes.set_xscale("log")
        axes.margins(y=0.1)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("trials")
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].axhline(100 * RAY_PUBLISHED_OVERHEAD, color="grey", linestyle=":")
    panels[0].annotate("Ray's own, 14.4 %", (0.02, 18), xycoords=("axes fraction", "data"), fontsize=8)
    panels[2].legend(frameon=False, fontsize=8, loc="lower left")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run every arm at every number of trials in a process of its own, and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--measure-up-to", type=int, default=10_000, metavar="N", help="trials of the ray arm")
    parser.add_argument("--gpus", type=int, default=16, help="logical ones, each a process of some 200 MiB")
    parser.add_argument("--nodes", type=int, default=4, help="simulated ones, each some 200 MiB")
    parser.add_argument("--epoch-seconds", type=float, default=0.3)
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--in-process", nargs=2, metavar=("ARM", "N"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.gpus % options.nodes:
        parser.error(f"--gpus {options.gpus} cannot be shared equally by --nodes {options.nodes}")
    measured = [trials for trials in options.trials if trials <= options.measure_up_to]
    if len(measured) < min(2, len(options.trials)):
        parser.error(f"--measure-up-to {options.measure_up_to}: at least two of --trials must be measured")
    if options.in_process:
        logging.basicConfig(level=logging.ERROR)
        arm, trials = options.in_process
        print(json.dumps(ARMS[arm](int(trials), options)))
        return
    found: dict[str, list[Figures]] = {arm: [] for arm in options.only}
    for arm, rows in found.items():
        for trials in sorted(set(options.trials)):
            if arm == "ray" and trials > options.measure_up_to:
                rows.append(extrapolated(trials, rows, options.gpus))
                continue
            command = [sys.executable, *sys.argv, "--in-process", arm, str(trials)]
            environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
    if options.plot is not None:
        plot(found, options.plot)
    about = {"gpus": options.gpus, "nodes": options.nodes, "epoch_seconds": options.epoch_seconds}
    peer = {"ray_published_overhead": round(RAY_PUBLISHED_OVERHEAD, 4)}
    print(json.dumps({"benchmark": "scale", **about, **peer, **found, "machine": machine()}))


if __name__ == "__main__":
    main()
