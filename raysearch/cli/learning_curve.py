"""What fewer images would have made of it, and what more would: `raysearch learning-curve`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table

from raysearch.cli.arguments import DeviceName, Results, RunName, say
from raysearch.cli.outputs import check_output
from raysearch.errors import Problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raysearch.pipeline.learning_curve import Forecast, Point
    from raysearch.recipe import Recipe
    from raysearch.run import Run

_FILE = "learning_curve.json"
_GROWING = "learning_curve.partial.json"
"""The curve as far as it is trained, where there is an earlier one."""


def learning_curve(
    run: RunName,
    /,
    *,
    fractions: Annotated[
        str, tyro.conf.arg(metavar="SHARES", help="Of the run's training images, nested and of each class alike.")
    ] = "0.1,0.2,0.5,1",
    seeds: Annotated[int, tyro.conf.arg(metavar="N", help="Trainings of each share, with fresh seeds.")] = 3,
    as_json: Annotated[bool, tyro.conf.arg(name="json", help="Print one JSON object instead of a table.")] = False,
    device: DeviceName = "auto",
    results: Results = Path("results"),
) -> int:
    """Train a run's chosen recipe on parts of its training images, to see what more images would bring.

    All are judged by the validation images; the test images are not looked at. The recipe is the same for all parts,
    its epochs too, so a small part is trained for fewer steps. The trainings run here, one after the other, and each
    is kept in RUN/learning_curve.json as soon as it is done; an earlier curve stays there until this one is whole.

        raysearch learning-curve fine_tune-1
        raysearch learning-curve fine_tune-1 --fractions 0.05,0.1,0.2,0.5,1 --seeds 5
    """
    from raysearch.job.images import settings_of
    from raysearch.pipeline.learning_curve import checked_fractions
    from raysearch.pipeline.learning_curve import learning_curve as train
    from raysearch.run import Run

    opened, shares, problems = Run.open(run, results), checked_fractions(fractions), Problems()
    problems.check(seeds >= 1, f"--seeds {seeds}: must be at least 1")
    check_output("the file", opened.folder / _FILE, problems)
    problems.stop_if_any()
    settings = settings_of(opened)
    points: list[Point] = []
    unwritten: OSError | None = None
    growing = _GROWING if (opened.folder / _FILE).exists() else _FILE
    for point in train(settings, chosen_recipe(opened), shares, seeds, device):
        points.append(point)
        if not as_json:
            say(f"{point.fraction:.4g} of the images ({point.images:,}), seed {point.seed}: {point.figure:.4f}")
        try:
            opened.write_json(growing, _document(settings.metric, points))
            unwritten = None
        except OSError as error:  # there may be room for the next; if not, what was found is told all the same
            unwritten = error
    if growing != _FILE and unwritten is None:
        (opened.folder / growing).replace(opened.folder / _FILE)
    if as_json:
        print(json.dumps(_document(settings.metric, points), indent=2))
    else:
        _show(settings.metric, points)
    if unwritten is not None:
        raise unwritten
    return 0


def chosen_recipe(run: Run) -> Recipe:
    """The recipe that the run chose, as it was trained for good: a student in best/ has a shorter one of its own."""
    from raysearch.recipe import Recipe

    best, evaluation = run.best.recipe, run.evaluation
    trial = None if evaluation is None else evaluation["trial"]
    refits = [one["recipe"] for one in run.events() if one["event"] == "refit" and one["trial"] == trial]
    return Recipe.model_validate(refits[-1]) if refits else best


def _more(points: Sequence[Point]) -> Forecast | None:
    """What twice as many images would bring, as far as that can be told."""
    from raysearch.pipeline.learning_curve import forecast

    return forecast(points, 2 * max(point.images for point in points))


def _document(metric: str, points: Sequence[Point]) -> dict[str, object]:
    """What is kept in the run, and shown by --json."""
    more = _more(points)
    return {
        "metric": metric,
        "points": [asdict(point) for point in points],
        "forecast": None if more is None else asdict(more),
    }


def _show(metric: str, points: Sequence[Point]) -> None:
    from raysearch.pipeline.learning_curve import summed_up
    from raysearch.record.metric import in_words

    table = Table()
    for name in ("share", "training images", f"validation {in_words(metric)}"):
        table.add_column(name, justify="right")
    for share, images, mean, spread in summed_up(points, lambda point: point.figure):
        table.add_row(f"{share:.4g}", f"{images:,}", f"{mean:.4f}" + ("" if spread is None else f" ± {spread:.4f}"))
    Console().print(table)
    if (more := _more(points)) is None:
        say("What more images would bring can be told from three shares or more.")
        return
    say(
        f"With {more.images:,} images, twice as many, accuracy would be about {more.accuracy:.4f} (90 % interval "
        f"{more.low:.4f} to {more.high:.4f}), if the error goes on falling as images ** -{more.exponent:.2f}. "
        "Images of another kind may bring more than as many of this one."
    )
