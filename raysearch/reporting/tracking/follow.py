"""Follows the log of a run, and keeps its sinks up to date."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from raysearch.record.folder import RunFolder
from raysearch.reporting.tracking.story import Stories, Story

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_RETRY_SECONDS = 60.0  # after a failure: a service that is down takes its time to say so


class Sink(Protocol):
    """A place where trials are shown. Whatever it raises is told once, and tried again later."""

    label: str
    """What a person calls it."""
    later: str
    """What a person types to show the run there when it can be reached."""

    def show(self, story: Story) -> None:
        """Bring what is shown of a trial up to date. Called again and again; what is there already is left alone."""

    def close(self, stories: Stories) -> str:
        """The same for all trials, and for the search as a whole; then a sentence on where it can be seen."""


def follow(
    run: RunFolder,
    sinks: Sequence[Sink],
    over: threading.Event,
    say: Callable[[str], None],
    poll: float = _POLL_SECONDS,
) -> bool:
    """Show what the log says, and what it will say, until `over` is set; then all of it once more.

    Args:
        run, sinks: from where to where.
        over: set when nothing more will be written to the log; what is in it by then is still shown.
        say: takes a line for the person.
        poll: seconds between two looks at the log.

    Returns: whether everything is shown.
    """
    stories, read, down = Stories(), 0, dict[str, float]()
    while True:
        last = over.wait(poll if read else 0)
        events = run.events()
        changed = {story.name: story for event in events[read:] for story in stories.take(event)}
        read = len(events)
        if last:
            break
        for sink in sinks:
            for story in changed.values():
                if _failed_lately(sink, down):
                    break
                try:
                    sink.show(story)
                except Exception as error:  # noqa: BLE001 - whatever a service does to us
                    _tell(sink, error, say, first=sink.label not in down)
                    down[sink.label] = time.monotonic()
    fine = True
    for sink in sinks:
        if _failed_lately(sink, down):  # what to do is said already
            fine = False
            continue
        try:
            say(f"{sink.label}: {sink.close(stories)}")
        except Exception as error:  # noqa: BLE001
            fine = False
            _tell(sink, error, say, first=True)
    return fine


def _failed_lately(sink: Sink, down: dict[str, float]) -> bool:
    return sink.label in down and time.monotonic() - down[sink.label] < _RETRY_SECONDS


def show_now(run: RunFolder, sink: Sink, say: Callable[[str], None]) -> bool:
    """Show what the log says by now, as `follow` does at its end."""
    over = threading.Event()
    over.set()
    return follow(run, [sink], over, say)


def _tell(sink: Sink, error: Exception, say: Callable[[str], None], first: bool) -> None:
    logger.warning("%s failed", sink.label, exc_info=error)
    if first:
        what = str(error).strip().split("\n")[0] or type(error).__name__
        say(f"{sink.label} failed ({what}); the search does not need it. Later: {sink.later}")
