"""Runs the commands as a person does: processes of their own, in a folder and a home of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 150.0
_MARK = "RAYSEARCH_E2E"  # in the environment of everything that a command starts: finds what it left behind


@dataclass
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str
    seconds: float


@dataclass
class Desk:
    """Where a person sits: a folder to work in, and a home.

    Args:
        folder: holds home/ and work/; commands run in work/.
    """

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables beside the tests' own."""

    def __post_init__(self) -> None:
        for folder in (self.home, self.work):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def home(self) -> Path:
        """The user's home."""
        return self.folder / "home"

    @property
    def work(self) -> Path:
        """The working folder."""
        return self.folder / "work"

    def tune(self, *arguments: object) -> Ended:
        """python -m raysearch.tune …, to its end."""
        return self.start("-m", "raysearch.tune", *arguments).wait()

    def raysearch(self, *arguments: object) -> Ended:
        """python -m raysearch …, to its end."""
        return self.start("-m", "raysearch", *arguments).wait()

    def start(self, *arguments: object) -> Command:
        """python …, which goes on while the test does something else."""
        mark = uuid.uuid4().hex
        mine = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}  # a person has not set it
        environment = {
            **mine,
            **self.variables,
            "HOME": str(self.home),
            # Its list of fonts takes seconds to make: once for all homes.
            "MPLCONFIGDIR": os.environ["RAYSEARCH_CACHE"] + "-matplotlib",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "120",
            _MARK: mark,
        }
        command = [sys.executable, *map(str, arguments)]
        # Files, not pipes: a worker that outlives its driver would keep a pipe open, and so the test waiting.
        out, err = self.folder / f"{mark}.out", self.folder / f"{mark}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                cwd=self.work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # a signal of a test reaches the command, never the tests themselves
            )
        return Command(process, mark, out, err)


@dataclass
class Command:
    """A command that may still be running."""

    process: subprocess.Popen[bytes]
    mark: str
    _out: Path
    _err: Path
    _began: float = field(default_factory=time.monotonic)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> Ended:
        """Its end; one that doesn't come is killed and fails the test."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running after {seconds:.0f} s; it said: {self.said}") from None
        return Ended(code, self._out.read_text(), self._err.read_text(), time.monotonic() - self._began)

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self._out.read_text() + self._err.read_text()

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Waits until something is so while the command runs."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode} before; it said: {self.said}"
            assert time.monotonic() < end, f"not so after {seconds:.0f} s; it said: {self.said}"
            time.sleep(0.03)

    def interrupt(self) -> None:
        """Ctrl-C in a terminal reaches the driver and, as Ray starts its own in other sessions, nothing else."""
        os.killpg(self.process.pid, signal.SIGINT)

    def left_behind(self, seconds: float = 30.0) -> list[str]:
        """Processes that it started and that are still there after so long."""
        end = time.monotonic() + seconds
        while (found := _marked(self.mark)) and time.monotonic() < end:
            time.sleep(0.1)
        return found


def _marked(mark: str) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:200])
        except psutil.Error:
            continue
    return found


def events(run: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's log, read without the package."""
    log = run / "log.jsonl"
    return [json.loads(line) for line in log.read_text().split("\n")[:-1]] if log.exists() else []


def has_trained(run: Path, trial: str, epoch: int) -> Callable[[], bool]:
    """Whether the log has this epoch."""
    return lambda: any(
        (one["event"], one.get("trial"), one.get("epoch")) == ("epoch", trial, epoch) for one in events(run)
    )


def table(run: Path, name: str) -> pd.DataFrame:
    """One of the run's tables, without what may differ between two runs of the same search: seconds."""
    return pd.read_csv(run / f"{name}.csv").drop(columns="seconds")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
