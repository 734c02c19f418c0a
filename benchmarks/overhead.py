"""What a segment costs beside its work: empty segments, each of which only reports once.

    python benchmarks/overhead.py [--segments 24] [--nested 4] [--controller 10000] [--only ARM ...]

Arms, each a process and a Ray of its own, one after the other:
    plain        a Tune function that reports once, actors reused: the least that Ray Tune itself costs
    ours         the same through our runner: controller, driver, log and tables included
    nested       the documented recipe: a Tune function that starts a one-worker TorchTrainer with TuneReportCallback
    controller   the search's decisions alone, simulated without Ray: seconds and peak memory
Seconds are from the start of the search to its end, Ray's own start-up aside. Run it alone on the machine.
Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import machine

from raysearch.recipe import Recipe, Stage
from raysearch.record.events import SegmentEnded, SegmentStarted
from raysearch.search.controller import Proposal

if TYPE_CHECKING:
    from raysearch.run import Run

Figures = dict[str, Any]


def empty(config: dict[str, Any]) -> None:
    """A segment without work."""
    from ray import tune

    tune.report({"val_accuracy": 0.5, "epoch": 1})


def empty_worker(config: dict[str, Any]) -> None:
    """The same inside Ray Train."""
    import ray.train

    ray.train.report({"val_accuracy": 0.5, "epoch": 1})


def nested(config: dict[str, Any]) -> None:
    """A Tune function as Ray's Train + Tune guide shows it."""
    from ray import train, tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    TorchTrainer(
        empty_worker,
        scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.9}),
        run_config=train.RunConfig(
            name=tune.get_context().get_trial_id(),
            storage_path=config["storage"],
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]  # Ray types the older RunConfig
        ),
    ).fit()


def fit(
    trainable: Callable[[dict[str, Any]], None], samples: int, cpus: float, *, dashboard: bool, reuse_actors: bool
) -> Figures:
    """Seconds for `samples` trials of a Tune function, two at a time."""
    import ray
    from ray import tune

    ray.init(include_dashboard=dashboard, logging_level=logging.ERROR, log_to_driver=False)
    with tempfile.TemporaryDirectory(prefix="raysearch-overhead-") as storage:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": cpus}),
            param_space={"storage": storage},
            tune_config=tune.TuneConfig(
                metric="val_accuracy",
                mode="max",
                num_samples=samples,
                max_concurrent_trials=2,
                reuse_actors=reuse_actors,
            ),
            run_config=tune.RunConfig(storage_path=storage, name="overhead", verbose=0),
        )
        start = time.perf_counter()
        results = tuner.fit()
        seconds = time.perf_counter() - start
    ray.shutdown()
    if results.num_errors:
        raise RuntimeError(f"{results.num_errors} of {samples} trials failed: {results.errors[0]}")
    return {"segments": samples, "seconds": round(seconds, 2), "seconds_each": round(seconds / samples, 3)}


def plain_arm(options: argparse.Namespace) -> Figures:
    """Ray Tune at its cheapest."""
    return fit(empty, options.segments, 1, dashboard=False, reuse_actors=True)


def nested_arm(options: argparse.Namespace) -> Figures:
    """Ray Train under Ray Tune. With include_dashboard=False it may never end: its cleaner asks the dashboard."""
    return fit(nested, options.nested, 0.05, dashboard=True, reuse_actors=False)


def empty_segments(run: Run, trials: int) -> None:
    """A whole search through our runner whose segments do nothing, in a run folder; Ray is there.

    Raises:
        RuntimeError: not all trials were done.
    """
    from ray import tune

    from raysearch.record.events import BudgetSet
    from raysearch.record.trial import State
    from raysearch.search.controller import Controller
    from raysearch.search.driver import Driver
    from raysearch.search.messages import Trained
    from raysearch.search.rules import Rules
    from raysearch.workers.runner import run_segments

    class Empty(tune.Trainable):
        """A segment without work."""

        def setup(self, config: dict[str, Any]) -> None:
            """Nothing to open."""
            self._trial = config["task"].trials[0]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            """Reuse the actor."""
            self._trial = new_config["task"].trials[0]
            return True

        def step(self) -> dict[str, Any]:
            """One epoch, which is the last."""
            row = {"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0}
            return {"results": [Trained(self._trial, row, row, finished=True)]}

    controller = Controller(Rules(rungs=(1,)), Sampled(random.Random(0), epochs=1))
    # One head, that they start from.
    budget = BudgetSet(event="budget", heads=1, trials=trials, max_epochs=1)
    run.append(budget)
    controller.apply(budget)
    run_segments(Driver(run, controller, concurrency=2), Empty, {}, {"cpu": 1})
    if (counts := controller.counts())[State.DONE] != trials:
        raise RuntimeError(f"{counts} of {trials} trials")


def ours_arm(options: argparse.Namespace) -> Figures:
    """Our runner with a trainable that does nothing, writing a run folder as a search does."""
    from raysearch.run import Run
    from raysearch.workers.session import ray_session

    with tempfile.TemporaryDirectory(prefix="raysearch-overhead-") as folder, ray_session(None):
        run = Run.create(Path(folder) / "run", {})
        start = time.perf_counter()
        empty_segments(run, options.segments)
        seconds = time.perf_counter() - start
    done = options.segments
    return {"segments": done, "seconds": round(seconds, 2), "seconds_each": round(seconds / done, 3)}


class Sampled:
    """Proposes recipes at random: what is measured here is not Optuna."""

    def __init__(self, rng: random.Random, epochs: int) -> None:
        self.rng, self.epochs = rng, epochs

    def pack(self, number: int, at_most: int, state: object) -> list[Proposal]:
        """A head alone."""
        return [self._proposal(depth=0, stage=0, parent=None)]

    def trial(self, number: int, state: object, *, level: int, role: str | None) -> Proposal:
        """A trial one to three blocks deep."""
        return self._proposal(depth=self.rng.choice((1, 2, 3)), stage=1, parent="h0000")

    def _proposal(self, depth: int, stage: int, parent: str | None) -> Proposal:
        params = {"learning_rate": self.rng.uniform(1e-5, 1e-2)}
        return Proposal(parent, params, recipe(depth, self.epochs, stage + 1), stage)


@cache
def recipe(depth: int, epochs: int, stages: int) -> Recipe:
    """Made once: what is measured is not how long it takes to make one."""
    schedule = (Stage(depth=0, epochs=3), Stage(depth=depth, epochs=epochs))
    return Recipe(backbone="", image_size=8, schedule=schedule[:stages])


def controller_arm(options: argparse.Namespace) -> Figures:
    """A whole search as events: decide, apply, end the oldest of the running segments, until nothing is left."""
    from raysearch.search.controller import Controller
    from raysearch.search.rules import Rules

    rng = random.Random(0)
    controller = Controller(Rules(rungs=(1, 3, 9)), Sampled(rng, epochs=9))
    before = peak_mebibytes()
    start = time.perf_counter()
    controller.apply({"event": "budget", "heads": 12, "trials": options.controller, "max_epochs": 9})
    running: deque[SegmentStarted] = deque()
    segments, dropped = 0, 0
    while not controller.finished:
        while len(running) < options.running and (events := controller.decide()):
            for event in events:
                controller.apply(event)
            running.extend(event for event in events if event["event"] == "segment")
        segment = running.popleft()
        segments += 1
        score = rng.random() * segment["to_epoch"] / 9
        row = {"epoch": segment["to_epoch"], "val_accuracy": score, "val_loss": 1.0 - score}
        full = segment["trial"].startswith("h") or segment["to_epoch"] == 9
        controller.apply(
            SegmentEnded(
                event="segment_end",
                trial=segment["trial"],
                segment=segment["segment"],
                epoch=segment["to_epoch"],
                finished=full,
                seconds=1.0,
                best=row,
            )
        )
        if segments % options.drop_every == 0:
            for name in controller.droppable():
                controller.apply({"event": "dropped", "trial": name})
                dropped += 1
    seconds = time.perf_counter() - start
    return {
        "trials": options.controller,
        "segments": segments,
        "dropped": dropped,
        "seconds": round(seconds, 2),
        "microseconds_per_segment": round(1e6 * seconds / segments, 1),
        "peak_mebibytes": round(peak_mebibytes(), 1),
        "peak_mebibytes_before": round(before, 1),
    }


def peak_mebibytes() -> float:
    """Peak resident memory of this process, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


ARMS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "plain": plain_arm,
    "ours": ours_arm,
    "nested": nested_arm,
    "controller": controller_arm,
}


def main() -> None:
    """Run every arm in a process of its own, and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=24, help="empty segments of an arm (nested aside)")
    parser.add_argument("--nested", type=int, default=4, help="trials of the nested arm")
    parser.add_argument("--controller", type=int, default=10_000, help="trials of the controller arm")
    parser.add_argument("--running", type=int, default=16, help="segments that run at once in the controller arm")
    parser.add_argument("--drop-every", type=int, default=1, help="segments between two looks for checkpoints to drop")
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--in-process", choices=ARMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        print(json.dumps(ARMS[options.in_process](options)))
        return
    found: dict[str, Figures] = {}
    for arm in options.only:
        command = [sys.executable, *sys.argv, "--in-process", arm]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=quiet_environment())
        found[arm] = json.loads(done.stdout.strip().splitlines()[-1])
    if "plain" in found:
        each = found["plain"]["seconds_each"]
        above = {
            arm: round(figures["seconds_each"] - each, 3)
            for arm, figures in found.items()
            if arm not in ("plain", "controller")
        }
        found["seconds_each_above_plain"] = above
    print(json.dumps({"benchmark": "overhead", **found, "machine": machine()}))


def quiet_environment() -> dict[str, str]:
    """This process's environment, without Ray's usage report, Tune's progress lines and its files a trial.

    Our runner turns those files off too: what is compared is the running of segments.
    """
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    return os.environ | quiet


if __name__ == "__main__":
    main()
