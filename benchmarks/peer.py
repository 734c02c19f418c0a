"""The same search as a script written from Ray Tune's guides: seconds and test accuracy of both, side by side.

    python benchmarks/peer.py [--trials 32] [--epochs 8] [--seeds 0 1 2] [--warm] [--out peer.jsonl]
    python benchmarks/peer.py --growth 8 32 128 --peer-up-to 32 --seeds 0 --out growth.jsonl --plot growth.png
    python benchmarks/peer.py --ours-only --out peer.jsonl        (beside the peer's figures that are there already)

Same images, weights, trials, epochs at most, batch size, ranges (benchmarks/peer_space.py) and concurrency; refits off.
The two run one after the other, the order alternating, as whole processes from start to exit: start-up, filling the
cache (ours begins with an empty folder; --warm runs once more on what it left) and the test evaluation count. Neither
starts before every process of the last one is gone. What favours whom: the peer has no cache to fill and no tables to
write; we train the head once where it trains one in every trial, and a promoted trial goes on where it stopped. The
peer's own times are whole seconds.
"Reached" is when a side had first seen the best validation accuracy that the peer ended with (the heads of ours
count, the peer reports none), from the start of its command; null: never.
--growth compares at several numbers of trials, for the first seed. Beyond --peer-up-to the peer is not run: its seconds
are those a trial of its largest measured search took, times the trials, and marked "extrapolated" (its start-up is in
them each time, which favours us).
After each arm a line is added to --out; --go-on takes from there what a broken-off run had finished, with the same
settings. Run it alone on the machine. Progress is on stderr; prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from machine import machine
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ASSETS = ROOT / "raysearch" / "assets"
IMAGES, WEIGHTS = ASSETS / "cifar10-mini.zip", ASSETS / "densenet121_cifar100.safetensors"
PEER = ROOT.parent / "shared" / "peers" / "plain_tune.py"
NOT_INHERITED = ("RAY", "TUNE_", "WANDB_", "OPTUNA_")
"""Beginnings of names of variables (RAYSEARCH_ too) that would make one side's Ray or cache another than a user's."""
MARK = "PEER_BENCHMARK"
PATIENCE_SECONDS = 120

Figures = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What both sides do."""

    trials: int
    seed: int
    epochs: int
    concurrent: int
    data: str
    """The file's name: figures of other images are not to be mixed up with these."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended well."""

    began: float
    """Seconds since 1970."""
    seconds: float
    said: str


class Arms:
    """The arms' figures as they come, each a line of a file too.

    Args:
        out: the file; None: nowhere.
    """

    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.there: dict[tuple[str, Task], Figures] = {}
        if out is not None and out.is_file():
            for line in out.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self.there[row["arm"], Task(**row["task"])] = row["figures"]

    def add(self, arm: str, task: Task, figures: Figures) -> None:
        """Note what an arm found."""
        self.there[arm, task] = figures
        row = {"arm": arm, "task": vars(task), "figures": figures, "machine": machine()}
        if self.out is not None:
            with self.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        shown = {name: value for name, value in figures.items() if name != "improvements"}
        say(f"{arm}, {task.trials} trials, seed {task.seed}: {json.dumps(shown)}")

    def fill(
        self, names: Sequence[str], tasks: Sequence[Task], run: Callable[[str, Task], Figures], *, go_on: bool
    ) -> None:
        """Run every arm of every task; with `go_on`, those that are not there already."""
        for task in tasks:
            for name in names:
                if not (go_on and (name, task) in self.there):
                    say(f"{name}, seed {task.seed}: started")
                    self.add(name, task, run(name, task))


def with_out(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The flags, with those of a benchmark that writes a line after each run; exits where they do not fit."""
    parser.add_argument("--out", type=Path, metavar="JSONL", help="a line is added after each run")
    parser.add_argument("--go-on", action="store_true", help="leave out the runs that --out has already")
    options = parser.parse_args()
    if options.go_on and options.out is None:
        parser.error("--go-on needs --out")
    return options


def need_files(parser: argparse.ArgumentParser, options: argparse.Namespace, names: Sequence[str]) -> None:
    """Make these options' paths absolute; exits where one is no file."""
    for name in names:
        path = getattr(options, name)
        if not path.is_file():
            parser.exit(2, f"--{name} {path}: no such file; say where it is\n")
        setattr(options, name, path.resolve())


def say(line: str) -> None:
    """Progress."""
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def run(command: list[str], scratch: Path, cache: Path | None = None) -> Ended:
    """A command to its end, and to the end of every process that it started.

    Args:
        command: and its arguments.
        scratch: where it keeps temporary files.
        cache: of raysearch.

    Raises:
        RuntimeError: it failed; the end of its error output is in the message.
    """
    mark = uuid.uuid4().hex
    own = {MARK: mark, "TMPDIR": str(scratch), "RAY_TMPDIR": tempfile.gettempdir()}  # Ray's sockets need short paths
    own |= {"RAY_USAGE_STATS_ENABLED": "0", "NO_ALBUMENTATIONS_UPDATE": "1"}  # nobody waits for the network
    own |= {"RAYSEARCH_CACHE": str(cache)} if cache is not None else {}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    began, start = time.time(), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=inherited | own, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stderr[-4000:]}")
    wait_until_gone(mark)
    return Ended(began, seconds, done.stdout)


def wait_until_gone(mark: str) -> None:
    """Waits for every process with this mark in its environment, and kills those that do not end by themselves.

    They would disturb the next arm; the figures of this one are worth keeping all the same.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while left := list(marked(mark)):
        if time.monotonic() > end:
            for process in left:
                with suppress(psutil.Error):
                    say(f"killed, because it still ran after {PATIENCE_SECONDS} s: {' '.join(process.cmdline())[:200]}")
                    process.kill()
        time.sleep(0.2)


def marked(mark: str) -> Iterator[psutil.Process]:
    """The processes that have it, zombies aside."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def run_peer(task: Task, options: argparse.Namespace) -> Figures:
    """The peer's own report, its wall seconds, and when it got better."""
    flags = {
        "data": options.data,
        "weights": options.weights,
        "trials": task.trials,
        "epochs": task.epochs,
        "concurrent": task.concurrent,
        "seed": task.seed,
    }
    with tempfile.TemporaryDirectory(prefix="raysearch-peer-") as folder:
        ended = run([sys.executable, str(options.peer), *as_flags(flags)], Path(folder))
        rows = [
            json.loads(line)
            for file in Path(folder).glob("*/peer/*/result.json")
            for line in file.read_text(encoding="utf-8").splitlines()
        ]
    report = json.loads(ended.said.strip().splitlines()[-1])
    found = improvements((row["timestamp"] - ended.began, row["val"]) for row in rows if "val" in row)
    return {"wall_seconds": round(ended.seconds, 2), **report, "improvements": found}


def run_ours(task: Task, options: argparse.Namespace, cache: Path) -> Figures:
    """Wall seconds of the command, and what its run folder says."""
    with tempfile.TemporaryDirectory(prefix="raysearch-ours-") as folder:
        flags = {
            "space": HERE / "peer_space.py",
            "data": options.data,
            "weights": options.weights,
            "backbone": "densenet121",
            "image-size": 32,
            "trials": task.trials,
            "max-epochs": task.epochs,
            "concurrent": task.concurrent,
            "refits": 0,
            "seed": task.seed,
            "results": folder,
            "run-name": "ours",
        }
        ended = run([sys.executable, "-m", "raysearch.tune", *as_flags(flags)], Path(folder), cache)
        done = Path(folder) / "ours"
        trials, heads = pd.read_csv(done / "trials.csv"), pd.read_csv(done / "heads.csv")
        info = json.loads((done / "run.json").read_text(encoding="utf-8"))
        evaluation = json.loads((done / "evaluation.json").read_text(encoding="utf-8"))
        events = [json.loads(line) for line in (done / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = (event for event in events if event["event"] == "epoch")
    found = improvements((event["time"] - ended.began, event["val_accuracy"]) for event in epochs)
    return {
        "wall_seconds": round(ended.seconds, 2),
        "trials": len(trials),
        "errors": int((trials["state"] == "failed").sum()),
        "trial_epochs": int(trials["epochs"].sum()),
        "head_epochs": int(heads["epochs"].sum()),
        "cache_mib": round(sum(file.stat().st_size for file in cache.rglob("*.act")) / 2**20, 1),
        "cache_plan": info["cache"]["lines"],
        "val": found[-1][1],
        "test": evaluation["test"]["accuracy"]["mean"],
        "improvements": found,
    }


def improvements(reports: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (seconds, accuracy) in any order, those that were better than all before them."""
    better: list[tuple[float, float]] = []
    for seconds, accuracy in sorted(reports):
        if not better or accuracy > better[-1][1]:
            better.append((round(max(0.0, seconds), 1), round(accuracy, 6)))
    return better


def reached(figures: Figures, target: float) -> float | None:
    """Seconds until a side had seen this accuracy."""
    return next((seconds for seconds, accuracy in figures["improvements"] if accuracy >= target - 1e-6), None)


def as_flags(values: dict[str, Any]) -> list[str]:
    """{"max-epochs": 8} -> ["--max-epochs", "8"]."""
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def run_task(task: Task, arms: Arms, options: argparse.Namespace, *, peer_first: bool) -> None:
    """Every arm of a task that is wanted and not there yet."""
    with_peer = not options.ours_only and (options.peer_up_to is None or task.trials <= options.peer_up_to)
    for side in ("peer", "ours") if peer_first else ("ours", "peer"):
        wanted = {"peer": ["peer"] * with_peer, "ours": ["ours", "ours_warm"][: 1 + options.warm]}[side]
        if not wanted or (options.go_on and all((arm, task) in arms.there for arm in wanted)):
            continue
        say(f"{side}, {task.trials} trials, seed {task.seed}: started")
        if side == "peer":
            arms.add("peer", task, run_peer(task, options))
            continue
        with tempfile.TemporaryDirectory(prefix="raysearch-cache-") as cache:
            for arm in wanted:
                arms.add(arm, task, run_ours(task, options, Path(cache)))


def extrapolated(task: Task, arms: Arms) -> Figures | None:
    """The peer's seconds, were it to take as long for a trial as in its largest search; None: it has none."""
    measured = [
        other
        for arm, other in arms.there
        if arm == "peer" and vars(other) | {"trials": 0} == vars(task) | {"trials": 0}
    ]
    if not measured:
        return None
    largest = max(measured, key=lambda other: other.trials)
    seconds = arms.there["peer", largest]["wall_seconds"] / largest.trials * task.trials
    return {"wall_seconds": round(seconds, 1), "extrapolated": True, "of_trials": largest.trials}


def compare(task: Task, arms: Arms, options: argparse.Namespace) -> Figures:
    """Both sides of a task: their figures, the ratio peer / ours, and when each had reached the peer's best."""
    ours = {arm: dict(arms.there[arm, task]) for arm in ("ours", "ours_warm")[: 1 + options.warm]}
    peer = arms.there.get(("peer", task))
    if peer is None and options.growth:
        peer = extrapolated(task, arms)
    row: Figures = {"trials": task.trials, "seed": task.seed, **ours, "peer": peer}
    if peer is None:
        return row
    for figures in ours.values():
        figures["ratio"] = round(peer["wall_seconds"] / figures["wall_seconds"], 2)
    if "extrapolated" in peer:
        return row
    row["peer"] = {**peer, "reached_seconds": (there := reached(peer, peer["val"]))}
    for figures in ours.values():
        figures["reached_seconds"] = reached(figures, peer["val"])
        if figures["reached_seconds"] and there:
            figures["reached_ratio"] = round(there / figures["reached_seconds"], 2)
    return row


def summarize(rows: list[Figures]) -> Figures:
    """Over all tasks, where both sides were measured."""
    both = [row for row in rows if row["peer"] is not None and "extrapolated" not in row["peer"]]
    if not both:
        return {}
    total = {side: sum(row[side]["wall_seconds"] for row in both) for side in ("peer", "ours")}
    return {
        "ratio": round(total["peer"] / total["ours"], 2),
        "ratios": [row["ours"]["ratio"] for row in both],
        "reached_ratios": [row["ours"].get("reached_ratio") for row in both],
        "test_peer": round(statistics.mean(row["peer"]["test"] for row in both), 4),
        "test_ours": round(statistics.mean(row["ours"]["test"] for row in both), 4),
    }


def plot(rows: list[Figures], path: Path) -> None:
    """Seconds against trials; hollow where they are extrapolated."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    sides = {"peer": ("plain Ray Tune", "#D55E00"), "ours": ("raysearch", "#0072B2")}
    sides |= {"ours_warm": ("raysearch, warm cache", "#56B4E9")} if "ours_warm" in rows[0] else {}
    for side, (label, colour) in sides.items():
        points = [(row["trials"], row[side]) for row in rows if row[side] is not None]
        measured = [(n, one["wall_seconds"]) for n, one in points if "extrapolated" not in one]
        beyond = [(n, one["wall_seconds"]) for n, one in points if "extrapolated" in one]
        if beyond:
            line = zip(*[*measured[-1:], *beyond], strict=True)
            axes.plot(*line, "o--", color=colour, markerfacecolor="white", label=f"{label}, extrapolated")
        if measured:
            axes.plot(*zip(*measured, strict=True), "o-", color=colour, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([row["trials"] for row in rows], [str(row["trials"]) for row in rows])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("trials")
    axes.set_ylabel("seconds, from start to exit")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def read_options() -> argparse.Namespace:
    """The flags, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, default=PEER, help="the peer script")
    parser.add_argument("--data", type=Path, default=IMAGES, help="a .zip or .npz that both read")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="of DenseNet121, a safetensors file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=8, help="of a trial, at most")
    parser.add_argument("--concurrent", type=int, default=2)
    parser.add_argument("--warm", action="store_true", help="run ours once more on the cache that it has filled")
    parser.add_argument("--ours-only", action="store_true", help="the peer's figures are those of --out, if any")
    parser.add_argument("--growth", type=int, nargs="+", metavar="N", help="numbers of trials; one seed")
    parser.add_argument("--peer-up-to", type=int, metavar="N", help="with --growth: beyond it, extrapolate the peer")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="with --growth: seconds against trials")
    options = with_out(parser)
    need_files(parser, options, ("data", "weights", *([] if options.ours_only else ["peer"])))
    if options.growth is None and (options.peer_up_to is not None or options.plot is not None):
        parser.error("--peer-up-to and --plot belong to --growth")
    if options.growth and options.peer_up_to is not None and options.peer_up_to < min(options.growth):
        parser.error(f"--peer-up-to {options.peer_up_to}: nothing to extrapolate from in --growth {options.growth}")
    return options


def main() -> None:
    """Run every task, then print the comparison."""
    options = read_options()
    pairs = [(options.trials, seed) for seed in options.seeds]
    if options.growth:
        pairs = [(trials, options.seeds[0]) for trials in sorted(set(options.growth))]
    tasks = [Task(trials, seed, options.epochs, options.concurrent, options.data.name) for trials, seed in pairs]
    arms = Arms(options.out)
    for number, task in enumerate(tasks):
        run_task(task, arms, options, peer_first=number % 2 == 0)
    rows = [compare(task, arms, options) for task in tasks]
    if options.plot is not None:
        plot(rows, options.plot)
    summary = {
        "benchmark": "peer_growth" if options.growth else "peer",
        "epochs": options.epochs,
        "concurrent": options.concurrent,
        **summarize(rows),
        "machine": machine(),
        "runs": rows,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
