"""A run from Python: what a search left, and what people do with it.

    run = Run.open("fine_tune-20250102-030405")
    run.trials                                  # a DataFrame, a row a trial
    run.predict(["cat.jpg", "folder/"])         # the winner's answers
    run.best.model()                            # the winner, a plain nn.Module

What a search itself needs of its folder is `raysearch.record.folder.RunFolder`.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from raysearch.errors import InputError
from raysearch.record.folder import RunFolder

if TYPE_CHECKING:
    from raysearch.winner.answers import Images
    from raysearch.winner.best import Best
    from raysearch.winner.export import Exported
    from raysearch.winner.formats import Format


class Run(RunFolder):
    """A run folder, with the search that makes one and the winner that is in it."""

    @classmethod
    def start(cls, space: str | Path | None = None, data: str | Path | None = None, **flags: Any) -> Run:
        """Runs a whole search, as `python -m raysearch.tune` does, and returns its run when it has ended.

        Args:
            space: name of a space, or the path of its file; None where a flag says what to do: `resume=`, `recipe=`.
            data: a SOURCE; None takes the bundled images.
            flags: the command's other flags with underscores, e.g. `trials=8, max_epochs=4, results="results"`.

        Raises:
            InputError: anything wrong with the settings, the space or the data; all problems together.
        """
        from raysearch.job.flags import Flags  # here, because a search needs torch and Ray, and tables do not
        from raysearch.pipeline.entry import search

        named = {"space": space, "data": data}
        given = {name: os.fspath(value) for name, value in named.items() if value is not None} | flags
        try:
            typed = Flags(**given)
        except TypeError as error:
            raise InputError(f"Run.start: {error}; the flags are those of python -m raysearch.tune --help") from error
        return cls(search(typed).folder)

    @functools.cached_property
    def best(self) -> Best:
        """The winner, from `best/` alone.

        Raises:
            InputError: the search has not written one yet.
        """
        from raysearch.winner.best import load_best  # torch takes seconds to import; tables don't need it

        return load_best(self.folder)

    def predict(self, images: Images, **options: Any) -> pd.DataFrame:
        """The winner's answers for images, paths or folders: see `raysearch.winner.best.Best.predict`."""
        return self.best.predict(images, **options)

    def export(self, kind: Format = "onnx", file: Path | str | None = None) -> Exported:
        """The winner as one file for other programs, checked as it is written: see `raysearch.winner.export`."""
        from raysearch.winner.export import export_run

        return export_run(self.folder, kind, None if file is None else Path(file))
