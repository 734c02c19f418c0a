"""What showing a search in W&B costs it: empty trials, each of which only reports once, with W&B offline and without.

    python benchmarks/wandb_overhead.py [--trials 24] [--only ARM ...]

Arms, each a process and a Ray of its own, one after the other:
    plain         a Tune function that reports once, actors reused
    callback      the same with Ray's WandbLoggerCallback, which starts an actor for every trial
    ours          the same through our runner: controller, driver, log and tables included
    ours_wandb    the same with --wandb: one process for all trials, which reads the log
Seconds are from the start of the search to its end; of ours_wandb, to the end of the process that shows it, and what of
it came after the search's own end stands beside. Run it alone on the machine. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from machine import machine
from overhead import Figures, empty, empty_segments, quiet_environment


def tune_arm(trials: int, *, wandb: bool) -> Figures:
    """Ray Tune, two trials at a time."""
    import ray
    from ray import tune

    ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    with tempfile.TemporaryDirectory(prefix="raysearch-wandb-") as storage:
        callbacks: list[tune.Callback] = []
        if wandb:
            from ray.air.integrations.wandb import WandbLoggerCallback

            callbacks.append(WandbLoggerCallback(project="overhead", dir=storage))
        tuner = tune.Tuner(
            tune.with_resources(empty, {"cpu": 1}),
            param_space={"learning_rate": tune.loguniform(1e-5, 1e-2)},
            tune_config=tune.TuneConfig(
                metric="val_accuracy", mode="max", num_samples=trials, max_concurrent_trials=2, reuse_actors=True
            ),
            run_config=tune.RunConfig(storage_path=storage, name="overhead", verbose=0, callbacks=callbacks),
        )
        start = time.perf_counter()
        results = tuner.fit()
        seconds = time.perf_counter() - start
        written = len(list(Path(storage).glob("wandb/offline-run-*"))) if wandb else None
    ray.shutdown()
    if results.num_errors or (wandb and written != trials):
        raise RuntimeError(f"{results.num_errors} of {trials} trials failed, {written} were shown")
    return {"seconds": round(seconds, 2)}


def our_arm(trials: int, *, wandb: bool) -> Figures:
    """Our runner with a trainable that does nothing, writing a run folder as a search does."""
    from raysearch.reporting.tracking.process import tracked
    from raysearch.run import Run
    from raysearch.workers.session import ray_session

    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="raysearch-wandb-") as folder, ray_session(None):
        settings = {"wandb": "overhead" if wandb else None, "wandb_mode": "offline", "tensorboard": False}
        run = Run.create(Path(folder) / "run", settings | {"metric": "accuracy"})
        start = time.perf_counter()
        with tracked(run, said.append):
            empty_segments(run, trials)
            searched = time.perf_counter() - start
        seconds = time.perf_counter() - start
        written = len(list(run.folder.glob("wandb/offline-run-*-t*")))
    if wandb and written != trials:
        raise RuntimeError(f"{written} of {trials} trials were shown; {said}")
    return {"seconds": round(seconds, 2), "seconds_after_the_search": round(seconds - searched, 2)}


ARMS: dict[str, Callable[[int], Figures]] = {
    "plain": lambda trials: tune_arm(trials, wandb=False),
    "callback": lambda trials: tune_arm(trials, wandb=True),
    "ours": lambda trials: our_arm(trials, wandb=False),
    "ours_wandb": lambda trials: our_arm(trials, wandb=True),
}


def main() -> None:
    """Run every arm in a process of its own, and print what W&B adds to each trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--in-process", choices=ARMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        print(json.dumps(ARMS[options.in_process](options.trials)))
        return
    found: dict[str, Figures] = {}
    environment = quiet_environment() | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    for arm in options.only:
        command = [sys.executable, *sys.argv, "--in-process", arm]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        found[arm] = json.loads(done.stdout.strip().splitlines()[-1])
    added = {
        arm: round((found[arm]["seconds"] - found[without]["seconds"]) / options.trials, 3)
        for arm, without in (("callback", "plain"), ("ours_wandb", "ours"))
        if arm in found and without in found
    }
    told = {"trials": options.trials, **found, "seconds_a_trial_that_wandb_adds": added}
    print(json.dumps({"benchmark": "wandb_overhead", **told, "machine": machine()}))


if __name__ == "__main__":
    main()
