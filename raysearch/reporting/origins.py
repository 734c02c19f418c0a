"""What a search took from elsewhere: recipes that its space names, and trials of earlier runs."""

from __future__ import annotations

from collections.abc import Sequence

from raysearch.record.events import Event, TrialMade
from raysearch.record.prior import Prior
from raysearch.reporting.elements import Table


def origin_lines(events: Sequence[Event], prior: Prior | None, winner: str | None) -> list[str]:
    """Which trials were recipes that the space names, and how long earlier runs had a say; none where nothing came.

    Args:
        events: of the log.
        prior: what the search was told of earlier runs.
        winner: the trial whose recipe leads.
    """
    made = [event for event in events if event["event"] == "trial"]
    return [*_first(made, winner), *(_faded(made, prior, winner) if prior is not None else [])]


def origins_table(prior: Prior | None) -> Table | None:
    """The earlier runs."""
    if prior is None:
        return None
    rows = [
        [one["run"], one["data"], one["backbone"], str(one["compared"]), str(one["compared"] - one["left_out"])]
        for one in prior["runs"]
    ]
    return Table(["run", "images", "network", "trials and heads compared", "of these, could be drawn here"], rows)


def _first(made: Sequence[TrialMade], winner: str | None) -> list[str]:
    named = [event["trial"] for event in made if "first" in event]
    if not named:
        return []
    told = (
        f"{_listed(named)} {'is a recipe' if len(named) == 1 else 'are recipes'} that the space names to be tried first"
    )
    return [f"{told}; {winner}, whose recipe leads, is one of them." if winner in named else f"{told}."]


def _faded(made: Sequence[TrialMade], prior: Prior, winner: str | None) -> list[str]:
    runs = _listed([one["run"] for one in prior["runs"]])
    found = [
        f"Trials of {runs} stood beside this search's own when recipes were drawn. They were measured on other images, "
        "or in another search, so they count for nothing else: no table, test or choice has them."
    ]
    for kind, what in (("h", "heads"), ("t", "trials")):
        drawn = [event for event in made if event["trial"].startswith(kind)]
        with_them = [event for event in drawn if event.get("prior")]
        if not with_them:
            continue
        last = drawn.index(with_them[-1])
        none = f"from {drawn[last + 1]['trial']} on there were none" if last + 1 < len(drawn) else "that was the last"
        most = with_them[0]["prior"]
        found.append(
            f"Of {what}, {with_them[0]['trial']} was drawn with {most} of them in sight, "
            f"{with_them[-1]['trial']} with {with_them[-1]['prior']}; {none}."
        )
    ours = next((event for event in made if event["trial"] == winner), None)
    if ours is not None and ours.get("prior"):
        found.append(f"{winner}, whose recipe leads, was drawn with {ours['prior']} of them in sight.")
    return found


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
