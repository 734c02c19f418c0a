"""How often a search's best recipe survives to be trained to the end: our ASHA against Ray Tune's, on learning curves.

    python benchmarks/asha.py [--searches 200] [--trials 32] [--epochs 12] [--delay 0 1 2]
    python benchmarks/asha.py --curves HISTORY_CSV ... [--each [--without-default]]

The claim: where deeper trials start lower and end higher, ASHA that promotes and compares trials of one depth with each
other loses the best recipe less often. How much lower must they start for that to pay, and what does it cost where they
do not? Arms, each on the same curves in the same order, by as many workers:
    ours            the search's own controller: every decision, its rungs, the first and the leading trial to the end
    ours_pooled     the same with all depths compared with each other
    tune            Ray Tune's ASHAScheduler with the same first rung and reduction
    tune_by_depth   one of them for each depth
    tune_stock      ASHAScheduler with its own defaults: first rung after 1 epoch, reduction 4
Ray Tune's are the real schedulers, asked as Tune's controller asks them: `on_trial_add` and, after every epoch,
`on_trial_result`; only the trials are stand-ins, which have an id and nothing else, for no more is read. A worker's
next epoch is done at a random time, all epochs taking as long on average. A recipe is chosen by its best epoch in all
arms: ours has it so, of the trials that were trained to the end; for Tune it is `get_best_result(scope="all")`.

Without --curves they are drawn: depths 0 to 3 at equal odds, and a power law from the first epoch to the last,
    accuracy(e) = end - lag * (e**-speed - epochs**-speed) / (1 - epochs**-speed)
    end   ~ normal(0.70 + 0.02 * depth, 0.03)
    lag   = lognormal(log(0.08), 0.4) + 0.05 * depth * delay
    speed = lognormal(log(1.2), 0.3) / (1 + 0.3 * depth * delay)
of which every epoch shows the accuracy plus normal(0, 0.01). The best recipe is the one with the highest end. How late
deeper trials are decides what comparing by depth is worth, so there is a result for every --delay (0: not at all late).
"by_depth" has the mean accuracy at the first rung and at the end, to be compared with what real runs show.

With --curves they are those of earlier runs: of each history.csv, and of the trials.csv beside it, the trials that
trained for --epochs epochs, no more and no fewer. Their noise is part of them: the best recipe is the one with the
highest recorded accuracy (any of those that share it). Curves that ASHA let live are better at its rungs than others.
With --each every history.csv is a search of its own, a seed each, whose --searches differ only in the order in which
the trials come and in who is done first; its first trial, the default recipe, comes first as it did there, or is left
out (--without-default).

Regret is the best recipe's accuracy at full length less that of the chosen one (its "accuracy"), be it trained so far
or not. Prints one JSON line; "_std" is over the seeds.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from machine import machine
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from raysearch.recipe import Recipe, Stage
from raysearch.record.events import Role, SegmentEnded, SegmentStarted, epoch_trained
from raysearch.record.line import Row
from raysearch.search.asha import rungs_for
from raysearch.search.controller import Controller, Proposal
from raysearch.search.rules import Rules
from raysearch.search.state import SearchState

Figures = dict[str, Any]

DEPTHS = 4


@dataclass(frozen=True)
class Curve:
    """A recipe's training at full length."""

    depth: int
    accuracies: tuple[float, ...]
    """On validation images, as seen after each epoch."""
    end: float
    """What it is worth at full length."""


@dataclass(frozen=True)
class Outcome:
    """What a search did."""

    epochs: dict[int, int]
    """Trained epochs of each recipe, by number."""
    chosen: int


# ---- curves ----------------------------------------------------------------------------------------------------------


def drawn(rng: np.random.Generator, trials: int, epochs: int, delay: float) -> list[Curve]:
    """Curves of the family that the module describes."""
    epoch, curves = np.arange(1, epochs + 1, dtype=float), []
    for depth in rng.integers(DEPTHS, size=trials).tolist():
        end = rng.normal(0.70 + 0.02 * depth, 0.03)
        lag = rng.lognormal(np.log(0.08), 0.4) + 0.05 * depth * delay
        speed = rng.lognormal(np.log(1.2), 0.3) / (1 + 0.3 * depth * delay)
        true = end - lag * (epoch**-speed - epochs**-speed) / (1 - epochs**-speed)
        curves.append(Curve(depth, tuple((true + rng.normal(0, 0.01, epochs)).tolist()), float(end)))
    return curves


def sampled(rng: np.random.Generator, trials: int, pool: Sequence[Curve]) -> list[Curve]:
    """Some of the recorded curves, each at most once."""
    return [pool[at] for at in rng.permutation(len(pool))[:trials]]


def reordered(rng: np.random.Generator, trials: int, pool: Sequence[Curve], first: int) -> list[Curve]:
    """The first few curves of a run as they are, then others of it at random."""
    return [*pool[:first], *sampled(rng, trials - first, pool[first:])]


def recorded(histories: Sequence[Path], epochs: int) -> list[Curve]:
    """The curves of all trials of these runs that trained for so many epochs, in order; heads are left out."""
    curves = []
    for path in histories:
        trials = pd.read_csv(path.with_name("trials.csv")).set_index("trial")
        for name, rows in pd.read_csv(path).groupby("trial"):
            rows = rows.sort_values("epoch")
            if name in trials.index and rows["epoch"].tolist() == list(range(1, epochs + 1)):
                accuracies = rows["val_accuracy"].tolist()
                curves.append(Curve(int(trials.loc[name, "depth"]), tuple(accuracies), max(accuracies)))
    return curves


# ---- workers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipes:
    """Proposes the curves in turn."""

    curves: Sequence[Curve]

    def pack(self, number: int, at_most: int, state: SearchState) -> list[Proposal]:
        """Nothing: there is no head search here."""
        return []

    def trial(self, number: int, state: SearchState, *, level: int, role: Role | None) -> Proposal:
        """A recipe that is as long and as deep."""
        curve = self.curves[number]
        stage = Stage(depth=curve.depth, epochs=len(curve.accuracies))
        return Proposal(None, {"number": number}, Recipe(backbone="", image_size=8, schedule=(stage,)), level)


def ours(curves: Sequence[Curve], options: argparse.Namespace, rng: random.Random) -> Outcome:
    """The real controller, played as the driver plays it, an epoch at a time."""
    rungs = rungs_for(options.epochs, options.reduction)
    controller = Controller(Rules(rungs, options.reduction, levels=(0,)), Recipes(curves))
    controller.apply({"event": "budget", "heads": 0, "trials": len(curves), "max_epochs": options.epochs})
    running: list[SegmentStarted] = []
    best: dict[str, Row] = {}
    epochs = dict.fromkeys(range(len(curves)), 0)

    def start(prefer: str | None = None) -> bool:
        events = controller.decide(prefer)
        for event in events:
            controller.apply(event)
        running.extend(event for event in events if event["event"] == "segment")
        return bool(events)

    while True:
        while len(running) < options.workers and start():
            pass
        if not running:
            break
        segment = rng.choice(running)
        name, number = segment["trial"], controller.trials[segment["trial"]].params["number"]
        epochs[number] += 1
        accuracy = curves[number].accuracies[epochs[number] - 1]
        row = {"epoch": epochs[number], "val_accuracy": accuracy, "val_loss": 1.0 - accuracy}
        controller.apply(epoch_trained(name, 0, row))
        best[name] = max(best.get(name, row), row, key=controller.rules.score)
        if epochs[number] == segment["to_epoch"]:
            running.remove(segment)
            controller.apply(
                SegmentEnded(
                    event="segment_end",
                    trial=name,
                    segment=segment["segment"],
                    epoch=epochs[number],
                    finished=epochs[number] == options.epochs,
                    seconds=1.0,
                    best=best[name],
                )
            )
            if controller.may_go_on(name):
                start(prefer=name)
    assert controller.winner is not None
    return Outcome(epochs, controller.winner.params["number"])


def ours_pooled(curves: Sequence[Curve], options: argparse.Namespace, rng: random.Random) -> Outcome:
    """The controller, told that all recipes have one depth."""
    return ours([replace(curve, depth=0) for curve in curves], options, rng)


def tune(curves: Sequence[Curve], options: argparse.Namespace, rng: random.Random) -> Outcome:
    """One ASHAScheduler whose rungs and reduction are ours."""
    shared = same_rungs(options)
    return under(lambda curve: shared, curves, options, rng)


def tune_by_depth(curves: Sequence[Curve], options: argparse.Namespace, rng: random.Random) -> Outcome:
    """An ASHAScheduler for each depth, its rungs and reduction ours."""
    schedulers = {depth: same_rungs(options) for depth in {curve.depth for curve in curves}}
    return under(lambda curve: schedulers[curve.depth], curves, options, rng)


def tune_stock(curves: Sequence[Curve], options: argparse.Namespace, rng: random.Random) -> Outcome:
    """One ASHAScheduler as it comes; only the longest training must be told."""
    stock = ASHAScheduler(metric="val_accuracy", mode="max", max_t=options.epochs)
    return under(lambda curve: stock, curves, options, rng)


def same_rungs(options: argparse.Namespace) -> ASHAScheduler:
    """Tune's scheduler with the first rung and the reduction of ours."""
    rungs = rungs_for(options.epochs, options.reduction)
    settings = {"max_t": options.epochs, "grace_period": rungs[0], "reduction_factor": options.reduction}
    return ASHAScheduler(metric="val_accuracy", mode="max", **settings)


def under(
    scheduler_of: Callable[[Curve], ASHAScheduler],
    curves: Sequence[Curve],
    options: argparse.Namespace,
    rng: random.Random,
) -> Outcome:
    """A search by Tune's schedulers: a trial runs until its scheduler stops it, then the next one starts."""
    trials: list[Any] = [SimpleNamespace(trial_id=f"{number:05d}") for number in range(len(curves))]
    tuning: Any = None  # the schedulers never look at Tune's controller
    epochs = dict.fromkeys(range(len(curves)), 0)
    waiting, running = list(reversed(epochs)), list[int]()
    while waiting or running:
        while waiting and len(running) < options.workers:
            number = waiting.pop()
            scheduler_of(curves[number]).on_trial_add(tuning, trials[number])
            running.append(number)
        number = rng.choice(running)
        accuracy = curves[number].accuracies[epochs[number]]
        epochs[number] += 1
        result = {"training_iteration": epochs[number], "val_accuracy": accuracy}
        decision = scheduler_of(curves[number]).on_trial_result(tuning, trials[number], result)
        if decision == TrialScheduler.STOP:
            running.remove(number)
    return Outcome(epochs, max(epochs, key=lambda number: max(curves[number].accuracies[: epochs[number]])))


ARMS: dict[str, Callable[[Sequence[Curve], argparse.Namespace, random.Random], Outcome]] = {
    "ours": ours,
    "ours_pooled": ours_pooled,
    "tune": tune,
    "tune_by_depth": tune_by_depth,
    "tune_stock": tune_stock,
}


# ---- counting --------------------------------------------------------------------------------------------------------


def judged(curves: Sequence[Curve], outcome: Outcome) -> Figures:
    """Whether the best recipe was trained to the end and chosen, at what cost."""
    top = max(curve.end for curve in curves)
    best = [number for number, curve in enumerate(curves) if curve.end == top]
    full = [number for number, epochs in outcome.epochs.items() if epochs == len(curves[number].accuracies)]
    return {
        "survived": any(number in full for number in best),
        "chosen": outcome.chosen in best,
        "accuracy": curves[outcome.chosen].end,
        "regret": top - curves[outcome.chosen].end,
        "trained_to_the_end": len(full),
        "trial_epochs": sum(outcome.epochs.values()),
    }


def compare(draws: Sequence[Callable[[np.random.Generator], list[Curve]]], options: argparse.Namespace) -> Figures:
    """Every arm on the same searches: means over the seeds, which draw their curves each for itself."""
    means: dict[str, list[pd.Series]] = {arm: [] for arm in options.only}
    seen = []
    for seed, draw in enumerate(draws):
        print(f"seed {seed}", file=sys.stderr)
        rng = np.random.default_rng(seed)
        rows: dict[str, list[Figures]] = {arm: [] for arm in options.only}
        for search in range(options.searches):
            curves = draw(rng)
            seen += curves
            for arm in options.only:
                rows[arm].append(judged(curves, ARMS[arm](curves, options, random.Random(f"{seed}/{search}"))))
        for arm in options.only:
            means[arm].append(pd.DataFrame(rows[arm]).astype(float).mean())
    arms = {}
    for arm, of_seeds in means.items():
        table = pd.DataFrame(of_seeds)
        spread = table[["survived", "chosen", "regret"]].std().add_suffix("_std")
        arms[arm] = pd.concat([table.mean(), spread]).round(5).to_dict()
    first = rungs_for(options.epochs, options.reduction)[0]
    levels = pd.DataFrame([(one.depth, one.accuracies[first - 1], one.end) for one in seen])
    levels = levels.set_axis(["depth", "first_rung", "end"], axis=1).groupby("depth").mean().round(4)
    return {"by_depth": levels.reset_index().to_dict("records"), "arms": arms}


def main() -> None:
    """Play every search in every arm, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--searches", type=int, default=200, help="of each seed")
    parser.add_argument("--trials", type=int, default=32, help="of each search")
    parser.add_argument("--epochs", type=int, default=12, help="at full length")
    parser.add_argument("--reduction", type=int, default=3, help="1 in so many goes on at each rung")
    parser.add_argument("--workers", type=int, default=4, help="trials that train at once")
    parser.add_argument("--delay", type=float, nargs="+", default=[0.0, 1.0, 2.0], help="of deeper trials, if drawn")
    parser.add_argument(
        "--curves", type=Path, nargs="+", help="history.csv files of earlier runs, instead of drawn ones"
    )
    parser.add_argument("--each", action="store_true", help="with --curves: a seed for each file, not all in one pool")
    parser.add_argument("--without-default", action="store_true", help="with --each: recipes drawn at random alone")
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    if options.without_default and not options.each:
        parser.error("--without-default needs --each")
    if options.each:
        if not options.curves:
            parser.error("--each needs --curves")
        options.seeds = len(options.curves)
    results: list[Figures] = []
    if options.curves:
        if options.each:
            without = int(options.without_default)
            pools = [recorded([history], options.epochs)[without:] for history in options.curves]
            draws = [partial(reordered, trials=options.trials, pool=pool, first=1 - without) for pool in pools]
        else:
            pools = [recorded(options.curves, options.epochs)]
            draws = [partial(sampled, trials=options.trials, pool=pools[0])] * options.seeds
        if (fewest := min(map(len, pools))) < options.trials:
            parser.error(f"--trials {options.trials}, but {fewest} recorded ones trained for {options.epochs} epochs")
        results.append({"recorded_curves": [len(pool) for pool in pools], **compare(draws, options)})
    else:
        for delay in options.delay:
            print(f"delay {delay:g}", file=sys.stderr)
            draw = partial(drawn, trials=options.trials, epochs=options.epochs, delay=delay)
            found = compare([draw] * options.seeds, options)
            results.append({"delay": delay, **found})
    settings = ("seeds", "searches", "trials", "epochs", "reduction", "workers")
    about = {name: getattr(options, name) for name in settings}
    about["rungs"] = rungs_for(options.epochs, options.reduction)
    about["trial_epochs_without_stopping"] = options.trials * options.epochs
    print(json.dumps({"benchmark": "asha", **about, "results": results, "machine": machine()}))


if __name__ == "__main__":
    main()
