"""The final comparison of a search, as its log tells it: who was held to the default, and what was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysearch.record.events import Event
from raysearch.record.metric import in_words, is_share
from raysearch.reporting.elements import percent


@dataclass(frozen=True)
class Race:
    """How a challenger stood against the first finalist after some folds."""

    trial: str
    folds: int
    images: int
    mean: float
    low: float
    high: float
    """How much better it was in the metric, and the ends of the interval."""
    goes_on: bool
    nearer: float = 0.0
    """By how much less it missed what the search requires."""

    @property
    def surely(self) -> bool:
        """Whether it was better: what is required comes first, then the metric by more than chance explains."""
        return self.nearer > 0 or (self.nearer == 0 and self.low > 0)


@dataclass(frozen=True)
class Comparison:
    """What the events "finals", "race" and "chosen" say together."""

    finalists: tuple[str, ...]
    """Trials; all others are held to the first, and none are where there were no folds."""
    first_is_default: bool
    folds: int
    refits: int
    all_images: bool
    """Whether the refits are trained on the validation images too."""
    confidence: float
    """The level of the two-sided intervals."""
    races: tuple[Race, ...]
    chosen: str | None
    """The trial that was chosen; None as long as it is open."""
    fold_trainings: int
    asked: str | None
    """The trial that --ship-point asks for; None: the comparison chose."""
    seconds: float
    """Seconds of training, on folds and for good, added up over workers."""

    @property
    def first(self) -> str:
        """The finalist that is kept unless another is surely better, in words."""
        return f"{self.finalists[0]} (the default)" if self.first_is_default else self.finalists[0]

    def last_races(self) -> list[Race]:
        """How each challenger stood when it was last compared."""
        return list({race.trial: race for race in self.races}.values())


def comparison_of(events: Sequence[Event]) -> Comparison | None:
    """The last final comparison of a log, done or going on; None where there was none.

    A search that was resumed tells the same again, and one that got more trials has another.
    """
    begins = [(place, event) for place, event in enumerate(events) if event["event"] == "finals"]
    if not begins or not begins[-1][1].get("finalists"):
        return None
    place, began = begins[-1]
    since, finalists = events[place:], tuple(began["finalists"])
    roles = {event["trial"]: event.get("role") for event in events if event["event"] == "trial"}
    races = {
        (event["trial"], event["folds"]): Race(
            event["trial"],
            event["folds"],
            event["images"],
            event["mean"],
            event["low"],
            event["high"],
            event["goes_on"],
            event.get("nearer", 0.0),
        )
        for event in since
        if event["event"] == "race"
    }
    chosen = [event["trial"] for event in since if event["event"] == "chosen"]
    trained = {event["name"]: event for event in since if event["event"] in ("fold", "refit") and "name" in event}
    return Comparison(
        finalists,
        roles.get(finalists[0]) == "default",
        began.get("folds", 0),
        began.get("refits", 0),
        began.get("on") == "train+val",
        began.get("confidence", 0.9),
        tuple(sorted(races.values(), key=lambda race: (race.folds, race.trial))),
        chosen[-1] if chosen else None,
        sum(event["event"] == "fold" for event in trained.values()),
        began.get("asked"),
        sum(event.get("seconds") or 0.0 for event in trained.values()),
    )


def comparison_line(comparison: Comparison, metric: str) -> str:
    """The comparison in a sentence or two: who was compared on how many folds, and whether the default was kept."""
    first, others = comparison.first, comparison.finalists[1:]
    if not comparison.folds:
        return f"Nothing was compared out of fold: {first}, the best on validation, was trained again as it is."
    if not others:
        return f"Final comparison: {first} had no challenger; {comparison.folds} folds say what is made of it."
    told = f"Final comparison on {comparison.folds} folds of all labelled images: {first} against {', '.join(others)}."
    if comparison.chosen is None:
        return f"{told} It is not over."
    races = {race.trial: race for race in comparison.last_races()}
    if comparison.chosen in races:
        gain = _interval(races[comparison.chosen], metric, comparison.confidence)
        if comparison.asked is not None:
            gain += _missing(races[comparison.chosen])
            return f"{told} {comparison.chosen} is taken, as --ship-point asks; against the default it is {gain}."
        if (nearer := races[comparison.chosen].nearer) > 0:
            return f"{told} {comparison.chosen} replaces it: it misses what is required by {nearer:.4f} less; {gain}."
        return f"{told} {comparison.chosen} replaces it: it is better by {gain}."
    stood = [f"{race.trial} {_behind(race, comparison, metric)}" for race in races.values()]
    return f"{told} {comparison.finalists[0]} is kept" + (f": {'; '.join(stood)}." if stood else ".")


def gain_text(value: float, metric: str) -> str:
    """A difference of a metric with its sign, in points where it is one of shares."""
    return f"{100 * value:+.1f}" if is_share(metric) else f"{value:+.4f}"


def unit(metric: str) -> str:
    """What `gain_text` counts in."""
    return "points" if is_share(metric) else in_words(metric)


def _behind(race: Race, comparison: Comparison, metric: str) -> str:
    gain = f"{_interval(race, metric, comparison.confidence)} against it{_missing(race)}"
    if race.folds < comparison.folds:
        return f"{gain} after {race.folds} of {comparison.folds} folds, and dropped"
    return f"{gain}, which chance explains" if race.nearer == 0 and race.mean > 0 >= race.low else gain


def _missing(race: Race) -> str:
    if race.nearer >= 0:
        return ""
    return f", {'but' if race.mean > 0 else 'and'} it misses what is required by {-race.nearer:.4f} more"


def _interval(race: Race, metric: str, confidence: float) -> str:
    low, high = (gain_text(value, metric) for value in (race.low, race.high))
    return f"{gain_text(race.mean, metric)} {unit(metric)} ({percent(confidence, 0)} interval {low} to {high})"
