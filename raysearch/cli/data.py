"""What a search would make of somebody's images: `raysearch data SOURCE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raysearch.cli.arguments import Columns, GroupBy, ImagesFolder, check_ending, check_seed
from raysearch.cli.outputs import check_output
from raysearch.errors import Problems

if TYPE_CHECKING:
    from raysearch.data.account import Account
    from raysearch.data.dataset import Dataset

_SHEET_IMAGES = 64


def data(
    source: Annotated[
        str,
        tyro.conf.arg(metavar="SOURCE", help="A folder, .zip, .csv, … or a name, as for --data of a search."),
    ],
    /,
    *,
    images: ImagesFolder = None,
    columns: Columns = None,
    group_by: GroupBy = None,
    metric: Annotated[
        str, tyro.conf.arg(metavar="NAME", help="What a search would be led by: tells which classes are too small.")
    ] = "accuracy",
    image_size: Annotated[
        int | None, tyro.conf.arg(metavar="PX", help="As of a search. Default: the images' own.")
    ] = None,
    seed: Annotated[int, tyro.conf.arg(metavar="N", help="Of the splits that SOURCE does not give.")] = 0,
    keep_copies: Annotated[
        bool, tyro.conf.arg(help="Count copies of val and test images, and leave none out.")
    ] = False,
    strict: Annotated[bool, tyro.conf.arg(help="Exit with code 2 if something is probably wrong.")] = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json", help="Print one JSON object instead.")] = False,
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.png", help="Write a contact sheet: some images of each class.")
    ] = None,
) -> int:
    r"""Look at labelled images as a search would take them: splits, classes, what is passed over, what looks odd.

    Trains nothing. The images are decoded into the cache, where the search finds them. Exit code 2 if they cannot be
    used.

        raysearch data photos/
        raysearch data photos/ --out sheet.png --strict
        raysearch data scans/ --group-by 'patient([0-9]+)_'
    """
    from raysearch.data.pixels import load
    from raysearch.data.reading import Reading
    from raysearch.job.intake import checked
    from raysearch.record.goal import Goal
    from raysearch.reporting.intake import show_intake

    problems = Problems()
    check_ending("--out", out, (".png", ".jpg", ".jpeg"), problems)
    check_output("--out", out, problems, (source, images))
    check_seed(seed, problems)
    reading = problems.attempt(Reading.of, columns, images, group_by)
    problems.stop_if_any()
    assert reading is not None
    how: dict[str, Any] = {"keep_copies": keep_copies, "progress": not as_json, "reading": reading}
    dataset = load(source, image_size=image_size, seed=seed, **how)
    goal = Goal(metric)
    problems.found += goal.check(dataset.classes)
    dataset = checked(dataset, goal, strict=False, problems=problems)
    account, console = dataset.account, Console()
    if as_json:
        print(json.dumps({"source": source, "classes": list(dataset.classes), **account.as_json()}, indent=2))
    else:
        console.print(counts_table(account))
        show_intake(account.as_json(), console, most=100)
    if out is not None:
        write_sheet(dataset, out)
        if not as_json:
            console.print(f"Some images of each class: {out}", markup=False, highlight=False, soft_wrap=True)
    problems.stop_if_any()
    if strict and account.doubts:
        print(f"error: --strict: {len(account.doubts)} warning(s)", file=sys.stderr)
        return 2
    return 0


def counts_table(account: Account) -> Table:
    """Images by class and split."""
    table = Table(show_footer=True)
    table.add_column("class", "all")
    for split, by_class in account.counts.items():
        table.add_column(split, f"{sum(by_class.values()):,}", justify="right")
    for name in next(iter(account.counts.values()), {}):
        table.add_row(Text(name), *(f"{by_class[name]:,}" for by_class in account.counts.values()))
    return table


def write_sheet(dataset: Dataset, file: Path) -> None:
    """Write a contact sheet of the training images, as many of each class as there is room for."""
    import numpy as np

    from raysearch.data.sheet import sheet
    from raysearch.storage.files import replace_with

    labels = dataset.train.labels
    each = max(1, _SHEET_IMAGES // len(dataset.classes))
    chosen = np.concatenate([np.flatnonzero(labels == number)[:each] for number in range(len(dataset.classes))])
    names = [dataset.classes[label] for label in labels[chosen]]
    replace_with(file, sheet(np.asarray(dataset.train.take(chosen).pixels), names).save)
