"""What several verbs ask for and show: arguments, a line, a progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raysearch.errors import Problems

if TYPE_CHECKING:
    import torch

RunName = Annotated[
    str,
    tyro.conf.arg(
        metavar="RUN",
        help="The run: the path of its folder, its name under --results, or its URI in a storage "
        "(s3://bucket/prefix/run). A folder that holds only a best/ will do.",
    ),
]
ImagesFolder = Annotated[
    Path | None,
    tyro.conf.arg(metavar="DIR", help="The folder of the images that a .csv lists. Default: the .csv's own."),
]
Columns = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="path=NAME,label=NAME,split=NAME,group=NAME",
        help="The columns of a table; common names are recognised.",
    ),
]
GroupBy = Annotated[
    str | None,
    tyro.conf.arg(metavar="REGEX", help="Keep images together by the first (…) of its match in their paths."),
]
Results = Annotated[Path, tyro.conf.arg(metavar="DIR", help="Where runs are looked for by name.")]
DeviceName = Annotated[Literal["auto", "cpu", "cuda", "mps"], tyro.conf.arg(help="Where the network runs.")]


def say(line: str) -> None:
    """Print a line as it is."""
    Console(soft_wrap=True, highlight=False).print(line, markup=False)


def device_of(name: str) -> torch.device:
    """The device of that name.

    Raises:
        InputError: this machine has none like it.
    """
    from raysearch.training.numerics import choose_device

    return choose_device(name)


def check_ending(flag: str, file: Path | None, endings: tuple[str, ...], problems: Problems) -> None:
    """Notes a file whose name says another kind than what will be in it."""
    problems.check(
        file is None or file.suffix.lower() in endings,
        f"{flag} {file}: give a name that ends in {' or '.join(endings)}",
    )


def check_seed(seed: int, problems: Problems) -> None:
    """Notes a seed that nothing can be drawn with."""
    problems.check(seed >= 0, f"--seed must be 0 or more, got {seed}")


class Bar:
    """A progress bar on stderr for one step after another, which is gone at the end.

    Args:
        shown: False: it is silent, as it is where stderr is not a terminal.
        console: where lines are told while the bar is there; None: nowhere.
    """

    def __init__(self, shown: bool = True, console: Console | None = None) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = console or Console(stderr=True)
        self._progress = Progress(
            *columns, console=console, transient=True, disable=not (shown and console.is_terminal)
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, what: str, total: int) -> None:
        """A step begins, of `total` parts."""
        self._progress.reset(self._task, description=what, total=total)

    def __call__(self, done: int = 1) -> None:
        """More parts are done."""
        self._progress.advance(self._task, done)
