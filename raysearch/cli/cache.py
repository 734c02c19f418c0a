"""What trials share on disk: `raysearch cache`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from raysearch.activations.store import CacheEntry


def cache(
    action: Annotated[
        Literal["list", "verify", "clear"],
        tyro.conf.arg(
            metavar="list|verify|clear",
            help="verify: read every file and delete the damaged ones; clear: delete all that no search is reading.",
        ),
    ] = "list",
    /,
) -> int:
    """Look at the activations kept on this machine's disk, check them, or delete them.

    They are made again when a search needs them. Exit code 1 if verify found damage.

        raysearch cache
        raysearch cache clear
    """
    from raysearch.activations import upkeep

    out = Console(soft_wrap=True, highlight=False)
    if action == "clear":
        cleared = upkeep.clear()
        stay = f"; {cleared.in_use} are in use and stay" if cleared.in_use else ""
        out.print(f"{cleared.files} files, {cleared.bytes / 2**20:.1f} MiB deleted{stay}")
        return 0
    if action == "verify":
        damaged = upkeep.verify()
        for path, problem in damaged:
            out.print(f"{path}: {problem}; deleted", markup=False)
        out.print(f"{len(upkeep.list_entries())} files are whole, {len(damaged)} were not")
        return 1 if damaged else 0
    _show_cache(upkeep.list_entries())
    return 0


def _show_cache(entries: Sequence[CacheEntry]) -> None:
    from raysearch.activations.upkeep import grouped

    console = Console()
    table = Table(box=None, pad_edge=False)
    for name in ("backbone", "boundary", "images", "strength", "precision"):
        table.add_column(name, no_wrap=True)
    for name in ("views", "MiB", "last used"):
        table.add_column(name, justify="right", no_wrap=True)
    for group in grouped(entries):
        used = datetime.fromtimestamp(group.used).strftime("%d %b %H:%M")
        table.add_row(*group.what, str(group.views), f"{group.bytes / 2**20:.1f}", used)
    if entries:
        console.print(table)
    console.print(f"{len(entries)} files, {sum(entry.bytes for entry in entries) / 2**20:.1f} MiB", highlight=False)
