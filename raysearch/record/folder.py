"""The run folder: what one search writes, from the command to the report, and reads again.

`log.jsonl` is the truth; every table is derived from it. `raysearch.run.Run` is this with what people do with a run.
"""

from __future__ import annotations

import difflib
import errno
import functools
import json
import logging
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import pandas as pd

from raysearch.errors import InputError
from raysearch.record.evaluation import EvaluationDocument
from raysearch.record.events import Event
from raysearch.record.files import BEST, CHECKPOINTS, LOG
from raysearch.record.goal import Goal
from raysearch.record.info import RunInfo
from raysearch.record.metric import RETRIEVAL, current_name
from raysearch.record.prior import PRIOR, Prior
from raysearch.record.tables import heads_table, history_table, trials_table
from raysearch.storage.files import insist, json_text, replace_json, replace_with

if TYPE_CHECKING:
    from raysearch.storage.remote import Storage

logger = logging.getLogger(__name__)

_OLD_COLUMN = re.compile(
    rf'"(?!(?:val|cv)_(?:{"|".join(RETRIEVAL)})(?:_std)?")((?:val|cv)_(?:recall|precision))_'.encode()
)
"""As earlier versions wrote "val_recall:cat"; what the lookahead spares are names of today."""

_PACKAGES = ("ray", "torch", "torchvision", "optuna", "albumentations", "numpy", "pandas", "pydantic", "safetensors")


class RunFolder:
    """One run folder. Opening it reads `run.json` only; everything else is read when it is asked for.

    One process writes a run at a time (the driver of the search); any number may read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage: Storage | None = None
        """Where checkpoints are, while a search with --storage runs; None: in the folder."""
        self._log = folder / LOG
        self._events: list[Event] = []
        self._read_bytes = 0

    @classmethod
    def create(cls, folder: Path | str, settings: Mapping[str, Any]) -> Self:
        """Makes the folder (and those above it) and its `run.json`.

        Args:
            folder: the new folder of the run.
            settings: the settings as resolved; whatever JSON can hold, paths and NumPy numbers too.

        Raises:
            InputError: the folder is there already.
        """
        folder = Path(folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError as error:
            raise InputError(
                f"the run folder {str(folder)!r} is there already: "
                f"go on with it by --resume {folder}, or choose another --run-name or --results"
            ) from error
        except OSError as error:
            raise InputError(f"the run folder {str(folder)!r} cannot be made: {error.strerror}") from error
        run = cls(folder)
        run.write_json(
            "run.json",
            {
                "settings": settings,
                "command": shlex.join([Path(sys.executable).name, *sys.argv]),
                "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "versions": _versions(),
                "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
                "skipped": [],
                "failures": [],
            },
        )
        return run

    @classmethod
    def open(cls, run: Path | str, results: Path | str = "results") -> Self:
        """Opens a run by its path, by its name under `results`, or by its URI in a storage (a copy, to be read only).

        Raises:
            InputError: there is no such folder, or it is not a run.
        """
        folder = locate(run, results)
        if not (folder / "run.json").is_file():
            raise InputError(f"{str(folder)!r} is not a run: it has no run.json")
        opened = cls(folder)
        _ = opened.info  # a broken run.json should be refused here, not somewhere in the middle of the work
        return opened

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return self.folder.resolve().name

    def append(self, *events: Event) -> None:
        """Adds events to the log, each a line with the time (seconds since 1970), in one flushed write: all or none.

        A line that a crash left torn is closed first, so that the new ones stand alone.
        """
        at = round(time.time(), 3)
        lines = [json_text({**event, "time": at}).encode() + b"\n" for event in events]
        insist(lambda: self._append(b"".join(lines)))

    def _append(self, lines: bytes) -> None:
        with self._log.open("ab+", buffering=0) as log:
            size = log.seek(0, os.SEEK_END)
            if size:
                log.seek(size - 1)
                if log.read(1) != b"\n":
                    lines = b"\n" + lines
            try:
                if log.write(lines) < len(lines):  # all that there was room for
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._log))
            except OSError:
                log.truncate(size)
                raise

    def events(self) -> list[Event]:
        """Every event of the log, oldest first. Lines that a crash left torn are passed over."""
        if not self._log.is_file():
            return []
        with self._log.open("rb") as log:
            log.seek(self._read_bytes)
            text = log.read()
        whole, _, tail = text.rpartition(b"\n")
        if whole:
            self._events += [event for line in whole.split(b"\n") if (event := self._parse(line)) is not None]
            self._read_bytes += len(whole) + 1
        # An object is complete exactly when it parses: a last line that lacks nothing but its line end counts.
        last = self._parse(tail, quiet=True)
        return [*self._events, *([last] if last is not None else [])]

    def file(self, name: str) -> Path:
        """A file of the run, brought from its storage if it has one: workers on other machines write there."""
        if self.storage is not None:
            with suppress(FileNotFoundError):
                self.storage.get(name, self.folder / name)
        return self.folder / name

    def best_tensors(self, trial: str) -> Path:
        """The file of a trial's best suffix, by the trial's name."""
        return self.file(f"{CHECKPOINTS}/{trial}/{BEST}")

    def write_json(self, name: str, tree: Any) -> None:
        """Replaces the file `name` in the run folder, atomically; NaN and infinities become null."""
        replace_json(self.folder / name, tree)

    def update_info(self, **changes: Any) -> None:
        """Replaces the given top-level keys of `run.json`, leaving the others."""
        self.write_json("run.json", {**self.info, **changes})

    def derive(self) -> None:
        """Writes trials.csv, heads.csv and history.csv anew from the log, each atomically."""
        events = self.events()
        goal = self.goal
        tables = (trials_table(events, goal), heads_table(events, goal), history_table(events))
        for name, frame in zip(("trials", "heads", "history"), tables, strict=True):
            replace_with(self.folder / f"{name}.csv", functools.partial(frame.to_csv, index=False))

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial: how it stands, its best figures so far, its recipe; as the log says at this moment."""
        return trials_table(self.events(), self.goal)

    @property
    def heads(self) -> pd.DataFrame:
        """The same for the heads of the head search."""
        return heads_table(self.events(), self.goal)

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch of a trial."""
        return history_table(self.events())

    @property
    def goal(self) -> Goal:
        """What the search is after."""
        settings = self.info.get("settings", {})
        return Goal.of(settings.get("metric", "accuracy"), settings.get("require", ()))

    @property
    def info(self) -> RunInfo:
        """`run.json`: settings, command, versions, fingerprints, skipped images, failures."""
        info = _read_json(self.folder / "run.json")
        if "metric" in (settings := info.get("settings") or {}):
            info["settings"] = {**settings, "metric": current_name(settings["metric"])}
        return cast("RunInfo", info)

    @property
    def evaluation(self) -> EvaluationDocument | None:
        """`evaluation.json`, or None as long as the search has not come to its end."""
        path = self.folder / "evaluation.json"
        if not path.is_file():
            return None
        document = _read_json(path)
        if "metric" in document:
            document["metric"] = current_name(document["metric"])
        return cast("EvaluationDocument", document)

    @property
    def prior(self) -> Prior | None:
        """`prior.json`, or None where the search was told nothing of earlier ones."""
        path = self.folder / PRIOR
        return cast("Prior", _read_json(path)) if path.is_file() else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    def _parse(self, line: bytes, quiet: bool = False) -> Event | None:
        try:
            event = json.loads(_OLD_COLUMN.sub(rb'"\1:', line)) if line.strip() else None
        except ValueError:  # a torn line can end within a character, too: UnicodeDecodeError is a ValueError
            event = None
            if not quiet:
                logger.warning("%s has a torn line of %d bytes, which is passed over", self._log, len(line))
        return cast(Event, event) if isinstance(event, dict) else None


def locate(run: Path | str, results: Path | str = "results") -> Path:
    """The folder that RUN means: a path, a name under `results`, or a copy of what is at a URI.

    Raises:
        InputError: there is no such folder; the nearest name under `results` is suggested.
    """
    if is_uri(run):
        from raysearch.record.fetch import copy_to_read  # pyarrow takes a moment to import

        return copy_to_read(str(run))
    for folder in (Path(run), Path(results) / run):
        if folder.is_dir() and str(run):
            return folder
    known = sorted(p.name for p in Path(results).iterdir() if p.is_dir()) if Path(results).is_dir() else []
    if Path(results).exists() and not Path(results).is_dir():
        raise InputError(f"--results {results} is a file; name a folder")
    near = difflib.get_close_matches(str(run), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"runs there: {', '.join(known[-5:]) or 'none'}"
    raise InputError(f"no run {str(run)!r}: it is neither a folder nor a name under {str(results)!r}; {hint}")


def is_uri(run: Path | str) -> bool:
    """Whether this names a place in a storage, not a path of this machine."""
    return isinstance(run, str) and "://" in run


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{str(path)!r} holds {type(tree).__name__}, expected an object")
    return tree


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("raysearch", *_PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
