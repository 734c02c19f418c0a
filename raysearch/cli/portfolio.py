"""Recipes to try first on the next images, from the searches that a person has made: `raysearch portfolio`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raysearch.cli.arguments import Results, check_ending, say
from raysearch.cli.outputs import check_output
from raysearch.errors import Problems

if TYPE_CHECKING:
    from raysearch.job.portfolio import Portfolio


def portfolio(
    runs: Annotated[
        list[str],
        tyro.conf.arg(
            metavar="RUN", help="Runs of one space, best each on other images; the first one's space is copied."
        ),
    ],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="SPACE.py", help="The space file to write.")],
    size: Annotated[int, tyro.conf.arg(metavar="K", help="How many recipes.")] = 8,
    results: Results = Path("results"),
) -> int:
    """Make a space whose first trials are the recipes that served you best: a few that complement each other.

    Each recipe that one of the runs tried has a regret in every run: 0 for the run's best, 1 for its worst; where a run
    did not try it, a random forest of that run's trials estimates it. Chosen one after the other, each recipe lowers
    the mean of the least regret over the runs the most. A search of the written space tries its default, then these in
    order, then what the sampler proposes; so give --trials more than K, or fewer to try no more than the first.

        raysearch portfolio flowers-1 birds-2 leaves-1 --out mine.py
        python -m raysearch.tune --space mine.py --data shells/
    """
    from raysearch.job.portfolio import portfolio as chosen
    from raysearch.storage.files import replace_text

    problems = Problems()
    check_ending("--out", out, (".py",), problems)
    spaces = [folder / run / "space.py" for folder in (Path(), results) for run in runs]
    check_output("--out", out, problems, spaces)
    problems.check(bool(runs), "name the runs to choose from")
    problems.stop_if_any()
    made = chosen(runs, results, size)
    replace_text(out, made.space_text())
    Console().print(_table(made))
    say(
        f"{len(made.picks)} of {made.candidates} recipes that these runs tried. Where a run did not try one, its "
        "regret is the estimate of a random forest of the run's trials; and recipes that are chosen by figures look "
        "better by these than they are."
    )
    say(f"{out}: search it by python -m raysearch.tune --space {out} --data SOURCE")
    return 0


def _table(made: Portfolio) -> Table:
    """A row a recipe, with what differs from the row above it in words of the space."""
    from raysearch.space.space import decode

    space = made.runs[0].space
    table = Table()
    table.add_column("tried in")
    table.add_column("measured in", justify="right")
    table.add_column("mean regret, best so far", justify="right")
    table.add_column("other than the default", overflow="fold")
    table.add_row("the default", "", f"{made.default_regret:.3f}", "")
    for pick in made.picks:
        other = (
            f"{path.removeprefix('schedule.')} {_short(decode(value))}"
            for path, value in pick.values.items()
            if value != space.default[path]
        )
        row = (f"{pick.run} {pick.trial}", f"{pick.measured} of {len(made.runs)}", f"{pick.regret_after:.3f}")
        table.add_row(*map(Text, row), Text(", ".join(other)))
    return table


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
