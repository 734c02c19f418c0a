"""`python -m raysearch.reporting.tracking RUN` shows a search while it runs, and ends when its standard input does."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

from raysearch.record.folder import RunFolder
from raysearch.reporting.tracking.follow import Sink, follow

_NICENESS = 19  # Ray's workers have 15, and the search must not notice


def main(folder: Path) -> None:
    """Follow the run in `folder` into all that its settings name. What cannot be reached is said, and no error."""
    # By this W&B has children of a process that used it share its service, which knows nothing of our working folder.
    os.environ.pop("WANDB_SERVICE", None)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    if hasattr(os, "nice"):
        os.nice(_NICENESS - os.nice(0))
    over = threading.Event()
    threading.Thread(target=_until_closed, args=(over,), daemon=True).start()
    run = RunFolder.open(folder)
    follow(run, sinks_of(run), over, _say)


def sinks_of(run: RunFolder) -> list[Sink]:
    """What the settings of a run name. Imports only what they need."""
    settings, sinks = run.info["settings"], list[Sink]()
    if settings["tensorboard"]:
        from raysearch.reporting.tracking.tensorboard import TensorBoard

        sinks.append(TensorBoard(run))
    if settings["wandb"] is not None:
        from raysearch.reporting.tracking.wandb_runs import AgentRun, WandbRuns, mode_of

        if "WANDB_SWEEP_ID" in os.environ:
            sinks.append(AgentRun(run))
        else:
            sinks.append(WandbRuns(run, settings["wandb"], mode_of(settings["wandb_mode"])))
    return sinks


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the search's process repeats it to the person


def _until_closed(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
