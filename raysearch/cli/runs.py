"""What there is to see of a run, and its folder from elsewhere: `raysearch show`, `report` and `fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from raysearch.cli.arguments import Results, RunName
from raysearch.errors import InputError, Problems

if TYPE_CHECKING:
    import pandas as pd

    from raysearch.run import Run

_WIDE = 100  # columns of a terminal; in a narrower one, what a list says beside the recipe would leave it no room


def show(
    run: RunName,
    trials: Annotated[
        list[str],
        tyro.conf.arg(metavar="[TRIAL [OTHER]]", help="One trial (t0007) or head (h0012), or two to compare."),
    ] = [],  # noqa: B006 - tyro's way to say that there may be none
    /,
    *,
    heads: Annotated[bool, tyro.conf.arg(help="List the heads of the head search instead of the trials.")] = False,
    where: Annotated[
        str | None, tyro.conf.arg(metavar="CONDITION", help="List only these, e.g. 'depth == 2 and epochs > 3'.")
    ] = None,
    sort: Annotated[
        str | None, tyro.conf.arg(metavar="COLUMN", help="The largest first. Default: the best first.")
    ] = None,
    n: Annotated[int | None, tyro.conf.arg(metavar="N", help="List so many at most.")] = None,
    as_csv: Annotated[bool, tyro.conf.arg(name="csv", help="Print all columns of these rows as CSV.")] = False,
    as_json: Annotated[
        bool, tyro.conf.arg(name="json", help="Print all columns of these rows as a JSON list.")
    ] = False,
    results: Results = Path("results"),
) -> int:
    """Look at a run's trials, at one of them with its curve, or at the difference between two.

    Works while the search runs, too: it reads the log.

        raysearch show fine_tune-1 --where 'depth == 2 and learning_rate > 1e-3' --n 5
        raysearch show fine_tune-1 t0007
        raysearch show fine_tune-1 t0007 t0003
    """
    from raysearch.reporting.show import chosen_rows, difference, find_trial, show_trial
    from raysearch.run import Run

    opened, console = Run.open(run, results), Console()
    metric = opened.info.get("settings", {}).get("metric", "accuracy")
    tables = [opened.trials, opened.heads]
    if len(trials) > 2:
        raise InputError(f"one trial is shown, or two are compared; got {len(trials)}: {', '.join(trials)}")
    named = [find_trial(trial, tables) for trial in trials]
    table = tables[heads or not len(tables[0])]
    if as_csv or as_json or not trials:
        rows = type(table)(named) if named else chosen_rows(table, where, sort, metric, n)
        if as_csv:
            print(rows.to_csv(index=False), end="")
        elif as_json:
            print(rows.to_json(orient="records", indent=2, force_ascii=False))
        else:
            what = "trials" if table is tables[0] else "heads"
            console.print(f"{len(rows)} of {len(table)} {what}", highlight=False)
            _list(console, opened, rows, table, metric)
    elif len(named) == 1:
        show_trial(console, trials[0], tables, opened.history)
    else:
        console.print(difference(named[0], named[1], metric))
    return 0


def _list(console: Console, run: Run, rows: pd.DataFrame, among: pd.DataFrame, metric: str) -> None:
    """Print the rows, and what the search says beside them: its verdicts, and its answer."""
    from raysearch.reporting.sentences import verdict_line
    from raysearch.reporting.show import answer_line
    from raysearch.reporting.summary import recipes_table

    if not len(rows):
        return
    columns = ["trial", "depth", "state"]
    if console.width >= _WIDE:
        columns = ["trial", "parent", "depth", "state", "epochs", "seconds"]
        columns += ["role"] if rows["role"].notna().any() else []
    console.print(recipes_table(rows, among, metric, columns))
    for event in run.events():
        if event["event"] == "level":
            console.print(verdict_line(event), highlight=False, soft_wrap=True)
    if run.evaluation is not None:
        console.print(answer_line(run.evaluation), highlight=False, soft_wrap=True)


def report(
    run: RunName,
    /,
    *,
    serve: Annotated[
        tuple[int, ...] | None,
        tyro.conf.arg(
            metavar="[PORT]",
            help="Serve the page to this machine's browsers instead, and keep it up to date, until Ctrl-C; port 8300 "
            "if none is named.",
        ),
    ] = None,
    results: Results = Path("results"),
) -> int:
    """Write a run's report.html: one page with everything that the search found, which loads nothing.

    A search writes it at its end; this makes it anew, while the search runs or after it was killed, too. The page of a
    run in a storage is put there as well.

        raysearch report fine_tune-1
        raysearch report fine_tune-1 --serve
    """
    from raysearch.record.folder import is_uri
    from raysearch.reporting.serve import PageServer, port_of
    from raysearch.run import Run

    out = Console(soft_wrap=True, highlight=False)
    problems = Problems()
    opened = problems.attempt(Run.open, run, results)
    port = problems.attempt(port_of, serve) if serve is not None else None
    problems.stop_if_any()
    assert opened is not None
    if port is None:
        from raysearch.reporting.page import write_page

        page = write_page(opened)
        if is_uri(run):
            from raysearch.storage.remote import Storage

            Storage(run).put(page, page.name)
        out.print(str(page), markup=False)
        return 0
    with PageServer(opened.folder, port) as server:
        out.print(f"{server.address} (Ctrl-C ends it)", markup=False)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def fetch(
    run: Annotated[
        str,
        tyro.conf.arg(
            metavar="RUN|URI",
            help="A run in a storage (s3://bucket/prefix/run), or one under --results that was started with --storage.",
        ),
    ],
    /,
    *,
    results: Results = Path("results"),
) -> int:
    """Bring a run folder back from its storage, checkpoints included, to DIR/NAME, or bring one there up to date.

    Without a storage the run folder is on the cluster's head alone: ray rsync-down cluster.yaml '~/shared/results/'
    results/ brings it from there.

        raysearch fetch s3://bucket/prefix/fine_tune-1
    """
    from raysearch.record.fetch import bring
    from raysearch.record.folder import is_uri
    from raysearch.run import Run
    from raysearch.storage.remote import Storage

    uri, into = run, results
    if not is_uri(run):
        known = Run.open(run, results)
        storage = known.info.get("settings", {}).get("storage")
        if storage is None:
            raise InputError(f"{known.folder} was not started with --storage: all of it is in that folder")
        uri, into = (Storage(storage) / known.name).uri, known.folder.parent
    Console(soft_wrap=True, highlight=False).print(str(bring(uri, into, checkpoints=True)), markup=False)
    return 0
