"""How a search stands, on the terminal while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from raysearch.record.trial import State
from raysearch.reporting.sentences import short

_STYLES = {
    State.WAITING: "dim",
    State.RUNNING: "cyan",
    State.STOPPED: "yellow",
    State.DONE: "green",
    State.FAILED: "red",
}
_PLAIN_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Leader:
    """The best trial so far."""

    trial: str
    metric: str
    value: float
    """Its best validation figure."""
    params: Mapping[str, Any]
    """What was sampled for it, name to value."""


class LiveView:
    """The state of a search, redrawn in place; plain lines where the output is not a terminal.

    Use it as a context manager. `update` may be called as often as one likes; it draws four times a second, and the
    clock goes on between updates.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console()
        self._clock = clock
        self._said_at: float | None = None
        self._panel: Callable[[], RenderableType] = Text
        self._live: Live | None = None
        if self.console.is_terminal:
            self._live = Live(
                console=self.console, get_renderable=lambda: self._panel(), refresh_per_second=4, transient=True
            )

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(
        self,
        counts: Mapping[State, int],
        best: Leader | None,
        elapsed: float,
        left: float | None,
        activity: Sequence[str] = (),
    ) -> None:
        """Shows how the search stands.

        Args:
            counts: trials in each state.
            best: the best trial so far; None before the first result.
            elapsed: seconds since the start.
            left: seconds left, as estimated or given by the budget; None if nobody can say.
            activity: what is being done now, a line each.
        """
        now = self._clock()
        if self._live is not None:

            def panel() -> RenderableType:
                since = self._clock() - now
                return _panel(counts, best, elapsed + since, None if left is None else left - since, activity)

            self._panel = panel
            return
        if self._said_at is not None and now - self._said_at < _PLAIN_EVERY_SECONDS:
            return
        self._said_at = now
        numbers = ", ".join(f"{counts.get(state, 0)} {state}" for state in State)
        leader = "" if best is None else f"; best {best.trial} {best.metric} {best.value:.4f}"
        doing = f"; {', '.join(activity)}" if activity else ""
        self._say(f"[{_duration(elapsed)}, {_left(left)}] {numbers}{leader}{doing}")

    def line(self, message: str) -> None:
        """Says something that is news only where there is no live view to show it."""
        if self._live is None:
            self._say(message)

    def note(self, message: str) -> None:
        """Says something that should stay: above the live view, or as a line."""
        self._say(message)

    def _say(self, message: str) -> None:
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)


def _panel(
    counts: Mapping[State, int], best: Leader | None, elapsed: float, left: float | None, lines: Sequence[str]
) -> RenderableType:
    numbers = Text.assemble("Trials  ")
    for state in State:
        numbers.append(f"{counts.get(state, 0)} {state}   ", style=_STYLES[state])
    numbers.append(f"{_duration(elapsed)} gone, {_left(left)}")
    parts: list[RenderableType] = [numbers]
    if best is not None:
        recipe = "  ".join(f"{name}={short(value)}" for name, value in best.params.items())
        parts.append(
            Text.assemble("Best    ", (f"{best.trial} {best.metric} {best.value:.4f}", "bold green"), f"  {recipe}")
        )
    parts += [Text(f"{'Now' if i == 0 else '':8}{line}") for i, line in enumerate(lines)]
    return Group(*parts)


def _left(seconds: float | None) -> str:
    return "time left unknown" if seconds is None else f"{_duration(max(0.0, seconds))} left"


def _duration(seconds: float) -> str:
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"
