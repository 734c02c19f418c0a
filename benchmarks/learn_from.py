"""How many trials `--learn-from` saves: replayed on a recorded table, a data set left out at a time.

    python benchmarks/learn_from.py [--table benchmarks/portfolio_table.csv] [--metric accuracy] [--repetitions 50]

Each other data set of the table (portfolio_table.py) is an earlier run: the default recipe and others of its recorded
ones, drawn at random, --run of them, ranked by what was recorded. The search on the data set that is left out begins
with the default recipe, then asks TPE, which knows

    nothing     nothing else, as a search does without --learn-from
    one         one earlier run, another one at each repetition
    all         all earlier runs
    shuffled    all of them, with the places of their trials in their rankings shuffled: what earlier runs cost that
                say nothing about these images

What a proposal would score is said by a random forest on the recorded recipes of the data set ("values off the table"
in portfolio.py). Depths aren't taken in turn here.

Regret is what the best trial so far lacks of the best that is known of the data set, in points of accuracy (or nats,
with --metric loss). Differences are paired by data set: the mean over the repetitions of each, and of these the mean
with its 95 % interval (Student's). "as_good_as" says after how many trials the mean regret is as small as after so many
without earlier runs: the difference is what is saved. Progress is on stderr; prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import optuna
import torch
from machine import machine
from peer import Figures, need_files, say
from portfolio import CONFIDENCE, best_known, known, less_regret, on_each_data_set
from portfolio_scores import Recipe, Scores, Space, Surrogate, Table
from portfolio_table import TABLE

from raysearch.record.prior import PriorTrial
from raysearch.search.prior import beside, spread, still_there
from raysearch.search.sampler import tpe

ARMS = ("nothing", "one", "all", "shuffled")
TRIALS = 24
AT = (4, 6, 8, 12, 18, 24)
"""Trials after which arms are compared."""
DRAWS = 1000
"""Random recipes among which the best of a data set is looked for: it shifts all arms' regrets alike."""


def earlier_run(table: Table, data_set: int, trials: int, generator: np.random.Generator) -> list[PriorTrial]:
    """What a run on a data set has to say: its trials with their places, in the order in which they stay."""
    scores = table.scores[data_set]
    tried = [0, *generator.choice(np.arange(1, len(scores)), trials - 1, replace=False).tolist()]
    ranked = sorted(tried, key=lambda one: scores[one], reverse=True)
    told = [
        PriorTrial(
            run=data_set,
            trial=str(one),
            head=False,
            stage=1,
            place=1 - (rank + 0.5) / len(ranked),
            params=table.recipes[one],
        )
        for rank, one in enumerate(ranked)
    ]
    return [told[at] for at in spread(len(told))]


def told_by(arm: str, table: Table, left_out: int, seed: int, run: int) -> list[PriorTrial]:
    """The trials of earlier runs that a search of this arm knows."""
    generator = np.random.default_rng(seed)
    others = [one for one in range(len(table.data_sets)) if one != left_out]
    if arm == "nothing":
        return []
    if arm == "one":
        others = [others[seed % len(others)]]
    runs = [earlier_run(table, one, run, generator) for one in others]
    in_turn = [one for turn in zip_longest(*runs) for one in turn if one is not None]
    if arm == "shuffled":
        places = generator.permutation([one["place"] for one in in_turn])
        return [PriorTrial(**{**one, "place": float(place)}) for one, place in zip(in_turn, places, strict=True)]
    return in_turn


def searched(
    told: Sequence[Sequence[PriorTrial]],
    seeds: Sequence[int],
    begin: tuple[Recipe, float],
    judge: Surrogate,
    space: Space,
) -> Scores:
    """What the trials of searches score, shape (searches, trials). Each question has its own study, as in a search."""
    own: list[list[tuple[Recipe, float]]] = [[begin] for _ in seeds]
    for number in range(1, TRIALS):
        asked = []
        for trials, seed, so_far in zip(told, seeds, own, strict=True):
            study = optuna.create_study(direction="maximize", sampler=tpe(seed * 1000 + number))
            scores = [(value,) for _, value in so_far]
            study.add_trials(beside(still_there(trials, dict(space), len(scores)), dict(space), scores, 1, False))
            study.add_trials([known(recipe, value, space) for recipe, value in so_far])
            asked.append(study.ask(dict(space)).params)
        for so_far, recipe, value in zip(own, asked, judge(asked).tolist(), strict=True):
            so_far.append((recipe, value))
    return np.array([[value for _, value in so_far] for so_far in own])


def replay(table: Table, left_out: int, options: argparse.Namespace, space: Space) -> dict[str, Scores]:
    """Regret of each arm on the data set that is left out, shape (repetitions, trials): of the best trial so far."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    surrogate = Surrogate(table.recipes, table.scores[left_out], space, remember=False)
    begin = (table.recipes[0], float(surrogate.recorded[0]))
    seeds = [1000 * left_out + number for number in range(options.repetitions)]
    scores = {
        arm: searched(
            [told_by(arm, table, left_out, seed, options.run) for seed in seeds], seeds, begin, surrogate, space
        )
        for arm in ARMS
    }
    best = best_known(surrogate, scores.values(), space, DRAWS)
    say(f"{table.data_sets[left_out]}: done")
    return {arm: best - np.maximum.accumulate(found, axis=1) for arm, found in scores.items()}


def as_good_as(arm: Scores, nothing: Scores) -> Figures:
    """After how many trials a mean regret, shape (trials,), is as small as another is after so many; None: never."""
    found = {at: np.flatnonzero(arm <= nothing[at - 1]) for at in AT}
    return {str(at): int(places[0]) + 1 if len(places) else None for at, places in found.items()}


def read_options() -> argparse.Namespace:
    """The flags, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--metric", choices=["accuracy", "loss"], default="accuracy")
    parser.add_argument("--run", type=int, default=18, help="trials of an earlier run")
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2, help="processes, a data set each")
    options = parser.parse_args()
    need_files(parser, options, ("table",))
    return options


def main() -> None:
    """Replay every data set, then print the table."""
    options = read_options()
    table, found = on_each_data_set(replay, options)
    mean = {arm: np.mean([one[arm].mean(axis=0) for one in found], axis=0) for arm in ARMS}
    at = [{arm: {str(n): regret[:, n - 1] for n in AT} for arm, regret in one.items()} for one in found]
    print(
        json.dumps(
            {
                "benchmark": "learn_from",
                "metric": options.metric,
                "recipes": len(table.recipes),
                "trials_of_an_earlier_run": options.run,
                "repetitions": options.repetitions,
                "regret": {arm: {str(n): round(float(curve[n - 1]), 3) for n in AT} for arm, curve in mean.items()},
                "less_regret": {f"{arm} against nothing": less_regret(at, arm, "nothing") for arm in ARMS[1:]},
                "as_good_as": {arm: as_good_as(mean[arm], mean["nothing"]) for arm in ARMS[1:]},
                "less_by_data_set": {
                    name: {
                        arm: {str(n): round(float((one["nothing"] - one[arm])[:, n - 1].mean()), 2) for n in (8, 12)}
                        for arm in ARMS[1:]
                    }
                    for name, one in zip(table.data_sets, found, strict=True)
                },
                "confidence": CONFIDENCE,
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
