"""Several runs side by side: `raysearch compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raysearch.cli.arguments import Results, check_ending, say
from raysearch.cli.outputs import check_output
from raysearch.errors import Problems


def compare(
    runs: Annotated[
        list[str], tyro.conf.arg(metavar="RUN", help="Finished runs; the first is what others are held to.")
    ],
    /,
    *,
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.html", help="Write a page with the table and the intervals.")
    ] = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json", help="Print one JSON list instead of a table.")] = False,
    results: Results = Path("results"),
) -> int:
    """Hold what several runs ship against what the first ships, image by image on the same test images.

    Runs whose test images differ are refused. To compare with and without cleaning, search the manifest that raysearch
    audit --write left: its test images are all of them.

        raysearch compare baseline-1 feature_extraction-1 fine_tune-1
        raysearch compare fine_tune-1 fine_tune-cleaned --out compare.html
    """
    from raysearch.record.folder import RunFolder
    from raysearch.reporting.runs import compare_runs, runs_table, write_runs_page

    problems = Problems()
    problems.check(len(runs) > 1, f"name two runs or more, got {len(runs)}")
    check_ending("--out", out, (".html", ".htm"), problems)
    check_output("--out", out, problems)
    opened = [problems.attempt(RunFolder.open, run, results) for run in runs]
    problems.stop_if_any()
    compared = compare_runs([run for run in opened if run is not None])
    if as_json:
        rows = [
            {
                "run": one.run.name,
                "trained": one.run.what,
                "backbone": one.run.recipe.backbone,
                "images": len(one.run.right),
                "accuracy": one.run.accuracy,
                "interval": [one.low, one.high],
                "against_first": None
                if one.against is None
                else {"difference": one.against.difference, "interval": [one.against.low, one.against.high]},
            }
            for one in compared
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        told = runs_table(compared)
        table = Table()
        for number, name in enumerate(told.columns):
            table.add_column(name, justify="left" if number in told.words else "right")
        for row in told.rows:
            table.add_row(*map(Text, row))
        Console().print(table)
    if out is not None:
        write_runs_page(compared, out)
        if not as_json:
            say(str(out))
    return 0
