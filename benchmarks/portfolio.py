"""Whether a search does better if a portfolio comes first: replayed on a recorded table, a data set left out at a time.

    python benchmarks/portfolio.py [--table benchmarks/portfolio_table.csv] [--metric accuracy] [--repetitions 50]

For each data set of the table (portfolio_table.py) a portfolio is chosen from all others: the recipes that complement
the default and each other, greedily (raysearch.search.portfolio; regrets are from 0 for the best recipe of a data set
to 1 for its worst). Every arm begins with the default recipe, as a search does:

    random          random recipes
    tpe             Optuna's TPE as raysearch.search.sampler sets it up (depths aren't taken in turn here)
    gp              Optuna's GPSampler, after as many random trials as TPE has
    portfolio       the other seven of the portfolio, then random recipes
    portfolio_tpe   the same, then TPE, which knows what they scored

**Values off the table.** Proposals are recipes that nobody trained. For each data set a random forest on what was
searched says what they would score ("r2": out of bag, how much of the recorded values it explains). A recorded recipe
is judged by those of its trees that have not seen it, or the portfolio would be judged by values that remember their
noise, and proposals by values that do not (--remember does that). A forest smooths: it has no noise, its best recipe is
less good and its worst less bad than they are. So arms differ less here than they do, and samplers that learn are
helped: what they see is true.
**On the table** ("pool") only recorded recipes are tried, and what counts is what was recorded: where a forest explains
nothing, that alone says something. A sampler's proposal stands for the nearest recorded recipe that it has not tried.
Arms can differ only while most recipes are untried: after 8 and 12 trials.

Regret is what the best trial so far lacks of the best of the data set, in points of accuracy (or nats, with --metric
loss), the mean over data sets. Differences are paired by data set: the mean over the repetitions of each, and of these
the mean with its 95 % interval (Student's, data sets are few). The portfolio "beats" an arm where the interval is above
0. Progress is on stderr; prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import optuna
import torch
from machine import machine
from optuna.samplers import BaseSampler, GPSampler, RandomSampler
from peer import Figures, need_files, say
from portfolio_scores import Recipe, Scores, Space, Surrogate, Table, columns, read_table
from portfolio_table import FIXED, SPACE, TABLE

from raysearch.intervals import mean_interval
from raysearch.search.sampler import STARTUP_TRIALS, tpe
from raysearch.space.load import load_space

AT = (8, 12, 32, 50)
"""Trials after which arms are compared."""
AT_IN_THE_POOL = (8, 12)
DRAWS = 20_000
"""Random recipes among which the best of a data set is looked for."""
CONFIDENCE = 0.95

Found = TypeVar("Found")

# ---- searches --------------------------------------------------------------------------------------------------------


def samplers(arm: str, seeds: Sequence[int]) -> list[BaseSampler]:
    """One for each repetition of an arm."""
    if arm.endswith("tpe"):
        return [tpe(seed) for seed in seeds]
    if arm == "gp":
        return [GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS) for seed in seeds]
    return [RandomSampler(seed=seed) for seed in seeds]


def replayed(
    own: Sequence[BaseSampler],
    begin: Sequence[tuple[Recipe, float]],
    judge: Callable[[Sequence[Recipe]], Scores],
    space: Space,
) -> Scores:
    """What the trials of searches score, shape (searches, trials): those that it begins with, then the proposals.

    The searches go side by side, because a forest answers fifty questions as fast as one.
    """
    studies = [optuna.create_study(direction="maximize", sampler=sampler) for sampler in own]
    for study in studies:
        study.add_trials([known(recipe, value, space) for recipe, value in begin])
    seen: list[Scores] = [np.full(len(studies), value) for _, value in begin]
    while len(seen) < AT[-1]:
        asked = [study.ask(dict(space)) for study in studies]
        values = judge([trial.params for trial in asked])
        for study, trial, value in zip(studies, asked, values, strict=True):
            study.tell(trial, value)
        seen.append(values)
    return np.stack(seen, axis=1)


def best_known(surrogate: Surrogate, scores: Iterable[Scores], space: Space, draws: int) -> float:
    """The best that is known of a data set: of what was recorded, of so many random recipes, and of these scores."""
    drawn = optuna.create_study(sampler=RandomSampler(seed=-1 % 2**31))
    return max(
        float(surrogate.recorded.max()),
        float(surrogate([drawn.ask(dict(space)).params for _ in range(draws)]).max()),
        *(float(found.max()) for found in scores),
    )


def on_each_data_set(
    replay: Callable[[Table, int, argparse.Namespace, Space], Found], options: argparse.Namespace
) -> tuple[Table, list[Found]]:
    """The table, and what a replay finds with each of its data sets left out, several at once."""
    loaded = load_space(str(SPACE), fixed=FIXED)
    space = {path: loaded.distributions[path] for path in loaded.trial_paths(1)}
    table = read_table(options.table, options.metric, space)
    number = len(table.data_sets)
    with ProcessPoolExecutor(options.workers) as workers:
        return table, list(workers.map(replay, [table] * number, range(number), [options] * number, [space] * number))


def replay(table: Table, left_out: int, options: argparse.Namespace, space: Space) -> Figures:
    """All arms on the data set that is left out: regrets after so many trials, shape (repetitions,) each."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    surrogate = Surrogate(table.recipes, table.scores[left_out], space, remember=options.remember)
    chosen = table.portfolio(without=left_out)
    seeds = [1000 * left_out + number for number in range(options.repetitions)]
    scores = {}
    for arm in ("random", "tpe", "gp", "portfolio", "portfolio_tpe"):
        begin = [
            (table.recipes[one], surrogate.recorded[one]) for one in (chosen if "portfolio" in arm else chosen[:1])
        ]
        own = samplers(arm, seeds[: options.gp_repetitions] if arm == "gp" else seeds)
        scores[arm] = replayed(own, begin, surrogate, space)
    best = best_known(surrogate, scores.values(), space, DRAWS)
    say(f"{table.data_sets[left_out]}: done")
    return {
        "r2": round(surrogate.r2, 3),
        "portfolio": chosen,
        "default": best - surrogate.recorded[0],
        "regret": {arm: {at: best - found[:, :at].max(axis=1) for at in AT} for arm, found in scores.items()},
        "pool": in_the_pool(table, left_out, options, space),
    }


def in_the_pool(table: Table, left_out: int, options: argparse.Namespace, space: Space) -> Figures:
    """The same among recorded recipes alone, by what was recorded.

    A sampler's proposal stands for the recorded recipe that is nearest to it and that it has not tried.
    """
    scores, chosen = table.scores[left_out], table.portfolio(without=left_out)
    seeds = [1000 * left_out + number for number in range(options.repetitions)]
    orders: dict[str, list[list[int]]] = {}
    for arm, begin in (("random", chosen[:1]), ("portfolio", chosen)):
        others = [one for one in range(len(scores)) if one not in begin]
        orders[arm] = [[*begin, *np.random.default_rng(seed).permutation(others)] for seed in seeds]
    for arm in ("tpe", "gp", "portfolio_tpe"):
        begin = chosen if "portfolio" in arm else chosen[:1]
        own = samplers(arm, seeds[: options.gp_repetitions] if arm == "gp" else seeds)
        orders[arm] = [nearest_order(one, begin, table.recipes, scores, space) for one in own]
    return {
        arm: {at: np.array([scores.max() - scores[order[:at]].max() for order in found]) for at in AT_IN_THE_POOL}
        for arm, found in orders.items()
    }


def nearest_order(
    own: BaseSampler, begin: Sequence[int], recipes: Sequence[Recipe], scores: Scores, space: Space
) -> list[int]:
    """The recorded recipes in the order in which a sampler tries them."""
    study = optuna.create_study(direction="maximize", sampler=own)
    places = columns(recipes, space)
    spread = places.std(axis=0) + 1e-12
    order: list[int] = []
    while len(order) < AT_IN_THE_POOL[-1]:
        if len(order) < len(begin):
            one = begin[len(order)]
        else:
            asked = study.ask(dict(space))
            study.tell(asked, state=optuna.trial.TrialState.FAIL)  # it is not what is tried
            distances = np.abs((places - columns([asked.params], space)) / spread).sum(axis=1)
            distances[order] = np.inf
            one = int(distances.argmin())
        order.append(one)
        study.add_trial(known(recipes[one], scores[one], space))
    return order


def known(recipe: Recipe, value: float, space: Space) -> optuna.trial.FrozenTrial:
    """A trial that was told."""
    return optuna.trial.create_trial(params=recipe, distributions=dict(space), value=value)


# ---- what it says ----------------------------------------------------------------------------------------------------


def over_sets(regrets: Sequence[Figures]) -> Figures:
    """The mean regret of each arm after so many trials, over data sets."""
    return {
        arm: {at: round(float(np.mean([one[arm][at].mean() for one in regrets])), 3) for at in values}
        for arm, values in regrets[0].items()
    }


def less_regret(regrets: Sequence[Figures], arm: str, other: str) -> Figures:
    """By how much an arm has less regret than another: the mean over data sets, and the ends of its interval."""
    found: Figures = {}
    for at in regrets[0][arm]:
        differences = [one[other][at].mean() - one[arm][at].mean() for one in regrets]
        found[at] = [round(value, 3) for value in mean_interval(differences, CONFIDENCE)]
    return found


def compared(regrets: Sequence[Figures]) -> Figures:
    """The comparisons that decide."""
    pairs = [(arm, other) for arm in ("portfolio", "portfolio_tpe") for other in ("random", "tpe", "gp")]
    return {f"{arm} against {other}": less_regret(regrets, arm, other) for arm, other in [*pairs, ("gp", "tpe")]}


def read_options() -> argparse.Namespace:
    """The flags, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--metric", choices=["accuracy", "loss"], default="accuracy")
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--gp-repetitions", type=int, default=5, help="of GPSampler, which is slow")
    parser.add_argument("--remember", action="store_true", help="judge recorded recipes by trees that have seen them")
    parser.add_argument("--workers", type=int, default=2, help="processes, a data set each")
    options = parser.parse_args()
    need_files(parser, options, ("table",))
    return options


def main() -> None:
    """Replay every data set, then print the table."""
    options = read_options()
    table, found = on_each_data_set(replay, options)
    regrets = [one["regret"] for one in found]
    pool = [one["pool"] for one in found]
    print(
        json.dumps(
            {
                "benchmark": "portfolio",
                "metric": options.metric,
                "recipes": len(table.recipes),
                "remember": options.remember,
                "repetitions": [options.repetitions, options.gp_repetitions],
                "r2": {name: one["r2"] for name, one in zip(table.data_sets, found, strict=True)},
                "regret_of_default": round(float(np.mean([one["default"] for one in found])), 3),
                "regret": over_sets(regrets),
                "less_regret": compared(regrets),
                "pool": {"regret": over_sets(pool), "less_regret": compared(pool)},
                "portfolios": {name: one["portfolio"] for name, one in zip(table.data_sets, found, strict=True)},
                "portfolio_of_all": table.portfolio(),
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
