"""Runs the commands as a person does, in a folder and a home of their own: as processes or, without Ray, in here."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from safetensors.numpy import load_file

from raysearch.cli.main import main as raysearch
from raysearch.tune import main as tune
from tests.in_process import without_ray

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
    _started: list[Command] = field(default_factory=list, init=False, repr=False)

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
        environment = {**mine, **self._variables, "PYTHONPATH": str(ROOT), _MARK: mark}
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
        command = Command(process, mark, out, err)
        self._started.append(command)
        return command

    def close(self) -> None:
        """Ends what a failed test has left running, so that no other test shares the machine with it."""
        for command in self._started:
            command.kill()

    @property
    def _variables(self) -> dict[str, str]:
        return {
            **self.variables,
            "HOME": str(self.home),
            # Its list of fonts takes seconds to make: once for all homes.
            "MPLCONFIGDIR": os.environ["RAYSEARCH_CACHE"] + "-matplotlib",
            "COLUMNS": "120",
        }


class DeskHere(Desk):
    """The same without Ray: what `tune` and `raysearch` run, this process does itself, in a second or two."""

    @property
    def mark(self) -> str:
        """The mark of the processes that commands of this desk start, of the tracker's and of the live page's."""
        return f"here {self.folder}"

    def tune(self, *arguments: object, before_step: Callable[[], None] = lambda: None) -> Ended:
        """The command, to its end.

        Args:
            arguments: as they are typed.
            before_step: called before each step of the search: see `tests.in_process.drive`.
        """
        with without_ray(before_step):
            return self._run(tune, arguments)

    def raysearch(self, *arguments: object) -> Ended:
        """The command, to its end."""
        return self._run(raysearch, arguments)

    def _run(self, main: Callable[[list[str]], int], arguments: tuple[object, ...]) -> Ended:
        out, err, began = io.StringIO(), io.StringIO(), time.monotonic()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), _logged_to(err):
            patch.chdir(self.work)
            for name, value in {**self._variables, _MARK: self.mark}.items():
                patch.setenv(name, value)
            try:
                code = main([str(one) for one in arguments])
            except SystemExit as stop:  # tyro's own
                code = stop.code if isinstance(stop.code, int) else 2
        return Ended(code, out.getvalue(), err.getvalue(), time.monotonic() - began)


@contextmanager
def _logged_to(err: io.StringIO) -> Iterator[None]:
    """Warnings of the log are said on stderr, as in a process in which the tests' own handlers are not."""
    handler = logging.StreamHandler(err)
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


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
            raise self._killed(f"still running after {seconds:.0f} s") from None
        return Ended(code, self._out.read_text(), self._err.read_text(), time.monotonic() - self._began)

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self._out.read_text() + self._err.read_text()

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Waits until something is so while the command runs; one that takes too long is killed and fails the test."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode} before; it said: {self.said}"
            if time.monotonic() >= end:
                raise self._killed(f"not so after {seconds:.0f} s")
            time.sleep(0.03)

    def kill(self) -> None:
        """Ends it at once, if it has not ended."""
        self.process.kill()
        self.process.wait()

    def _killed(self, reason: str) -> AssertionError:
        """Ends it, so that no other test hears of it; what to raise."""
        self.kill()
        return AssertionError(f"{reason}; it said: {self.said}")

    def interrupt(self) -> None:
        """Ctrl-C in a terminal reaches the driver and, as Ray starts its own in other sessions, nothing else."""
        os.killpg(self.process.pid, signal.SIGINT)

    def left_behind(self, seconds: float = 30.0) -> list[str]:
        """See `left_behind`."""
        return left_behind(self.mark, seconds)


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def left_behind(mark: str, seconds: float = 30.0) -> list[str]:
    """Processes that a command of this mark has started and that are still there after so long."""
    end = time.monotonic() + seconds
    while (found := _marked(mark)) and time.monotonic() < end:
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


def assert_same(run: Path, other: Path) -> None:
    """Two runs of the same search: tables, seconds aside, and the winner's tensors."""
    for name in ("trials", "heads", "history"):
        assert table(run, name).to_csv(index=False) == table(other, name).to_csv(index=False), name
    one, two = (load_file(folder / "best" / "model.safetensors") for folder in (run, other))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
