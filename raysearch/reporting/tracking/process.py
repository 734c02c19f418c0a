"""Starts and ends the process that shows a search, from the search's side."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from raysearch.errors import InputError
from raysearch.record.folder import RunFolder

_LAST_SECONDS = 120.0  # at the end of a search; what is not shown by then is shown later
_PROJECT = re.compile(r"([\w.-]+/)?[^/\\#?%:\s]{1,128}")


@contextmanager
def tracked(run: RunFolder, say: Callable[[str], None]) -> Iterator[None]:
    """Shows a search in W&B and TensorBoard while the block runs, if its settings say so.

    The process reads the log and nothing else passes between the two, so that a search neither waits nor fails for it;
    at the end it gets some time for the last of the log. It also ends when this process dies.

    Args:
        run: whose log is followed; what the process has to say at length goes to tracking.log in its folder.
        say: takes a line for the person; called from another thread.
    """
    settings = run.info["settings"]
    if settings["wandb"] is None and not settings["tensorboard"]:
        yield
        return
    command = [sys.executable, "-m", "raysearch.reporting.tracking", str(run.folder)]
    with (run.folder / "tracking.log").open("ab") as log:
        tracker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # a Ctrl-C that ends the search is not meant for it
        )
    assert tracker.stdin is not None
    said = threading.Thread(target=_repeat, args=(tracker, say), daemon=True)
    said.start()
    try:
        yield
    finally:
        tracker.stdin.close()  # by which it knows that nothing more will be logged
        try:
            tracker.wait(_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"What is not shown yet in W&B can be shown later: raysearch wandb {run.folder}")
        else:
            if tracker.returncode:
                say(f"Showing the search has failed, see {run.folder / 'tracking.log'}; the search does not need it.")
        finally:
            tracker.kill()
            tracker.wait()
            said.join()


def check_tracking(project: str | None, mode: str | None) -> None:
    """Raises InputError where --wandb and --wandb-mode cannot be used; a key is only looked for if it is needed."""
    problems = []
    if project is None and mode is not None:
        problems.append(f"--wandb-mode {mode}: needs --wandb PROJECT")
    if project is not None and not _PROJECT.fullmatch(project):
        problems.append(f"--wandb {project}: a project is PROJECT or ENTITY/PROJECT, without spaces or any of \\#?%:")
    if project is not None and mode == "online":
        from raysearch.reporting.tracking.wandb_runs import has_key  # takes a second to import

        if not has_key():
            problems.append("--wandb-mode online: W&B has no key on this machine; log in by: wandb login")
    if problems:
        raise InputError(problems)


def _repeat(tracker: subprocess.Popen[str], say: Callable[[str], None]) -> None:
    assert tracker.stdout is not None
    with tracker.stdout:
        for line in tracker.stdout:
            say(line.rstrip("\n"))
