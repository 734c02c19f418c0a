"""What fewer images would have made of it, and what more would: `raysearch learning-curve`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from raysearch.cli.arguments import DeviceName, Results, RunName, say
from raysearch.errors import InputError


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
    its epochs too, so a small part is trained for fewer steps. The trainings run here, one after the other, and are
    kept in RUN/learning_curve.json.

        raysearch learning-curve fine_tune-1
        raysearch learning-curve fine_tune-1 --fractions 0.05,0.1,0.2,0.5,1 --seeds 5
    """
    from raysearch.job.images import settings_of
    from raysearch.pipeline.learning_curve import checked_fractions, forecast, summed_up
    from raysearch.pipeline.learning_curve import learning_curve as train
    from raysearch.record.metric import in_words
    from raysearch.run import Run

    opened, shares = Run.open(run, results), checked_fractions(fractions)
    if seeds < 1:
        raise InputError(f"--seeds {seeds}: must be at least 1")
    settings = settings_of(opened)
    recipe, points = opened.best.recipe, []
    for point in train(settings, recipe, shares, seeds, device):
        points.append(point)
        if not as_json:
            say(f"{point.fraction:.4g} of the images ({point.images:,}), seed {point.seed}: {point.figure:.4f}")
    more = forecast(points, 2 * max(point.images for point in points))
    document = {
        "metric": settings.metric,
        "points": [asdict(point) for point in points],
        "forecast": None if more is None else asdict(more),
    }
    opened.write_json("learning_curve.json", document)
    if as_json:
        print(json.dumps(document, indent=2))
        return 0
    table = Table()
    for name in ("share", "training images", f"validation {in_words(settings.metric)}"):
        table.add_column(name, justify="right")
    for share, images, mean, spread in summed_up(points, lambda point: point.figure):
        table.add_row(f"{share:.4g}", f"{images:,}", f"{mean:.4f}" + ("" if spread is None else f" ± {spread:.4f}"))
    Console().print(table)
    if more is None:
        say("What more images would bring can be told from three shares or more.")
        return 0
    say(
        f"With {more.images:,} images, twice as many, accuracy would be about {more.accuracy:.4f} (90 % interval "
        f"{more.low:.4f} to {more.high:.4f}), if the error goes on falling as images ** -{more.exponent:.2f}. "
        "Images of another kind may bring more than as many of this one."
    )
    return 0
