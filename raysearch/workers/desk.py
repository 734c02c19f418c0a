"""The desk where trials put orders for crews, and crews what came of them; it knows no Ray, and is run by it.

A *crew* is a group of workers that train one trial after another together. Each place among the trials that run at once
has one, from the first order on: a group of processes takes half a minute to start, an order to reach it a millisecond.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from typing import TypedDict

from raysearch.search.messages import Result, Task

OTHERS_SECONDS = 30.0
"""A worker that failed waits so long for the others to be done too, before it takes them to wait for it."""


class Order(TypedDict):
    """One step of some work, as a worker gets it."""

    number: int
    work: str
    """Another name than the order's before: another task, which is opened first."""
    task: Task


class Answer(TypedDict, total=False):
    """What a trial gets: one of the two."""

    results: list[Result]
    lost: str
    """Why the crew that had the work in hand is gone."""


@dataclass
class _Crew:
    """A crew that is there or on its way."""

    number: int
    inboxes: list[asyncio.Queue[Order | None]]
    """One for each worker; None: there is no more to do."""
    open: dict[int, _Pending] = field(default_factory=dict)


@dataclass
class _Pending:
    """An order that not all workers are done with."""

    answer: asyncio.Future[Answer]
    told: dict[int, list[Result]] = field(default_factory=dict)
    """What each worker told, by rank."""
    failures: dict[int, list[Result]] = field(default_factory=dict)
    all_told: asyncio.Event = field(default_factory=asyncio.Event)


class Desk:
    """The desk of one search; all its methods run in one event loop.

    Args:
        workers: of each crew.
        patience_seconds: see `OTHERS_SECONDS`.
    """

    def __init__(self, workers: int, patience_seconds: float = OTHERS_SECONDS) -> None:
        self._workers, self._patience = workers, patience_seconds
        self._numbers = count()
        self._crews: dict[int, _Crew] = {}  # by place
        self._hiring: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()
        self._closed = asyncio.Event()

    # ---- for trials

    async def step(self, place: int, work: str, task: Task) -> Answer:
        """Have the crew of a place train one step of some work, once it is there and done with what it has."""
        if self._closed.is_set():
            return {"lost": "the search is over"}
        if place not in self._crews:
            inboxes: list[asyncio.Queue[Order | None]] = [asyncio.Queue() for _ in range(self._workers)]
            self._crews[place] = _Crew(next(self._numbers), inboxes)
            self._hiring.put_nowait((place, self._crews[place].number))
        crew, number = self._crews[place], next(self._numbers)
        pending = crew.open[number] = _Pending(asyncio.get_running_loop().create_future())
        for inbox in crew.inboxes:
            inbox.put_nowait({"number": number, "work": work, "task": task})
        return await asyncio.shield(pending.answer)  # a trial that is gone takes nothing of the crew's along

    # ---- for whoever starts crews

    async def hire(self) -> tuple[int, int] | None:
        """Wait until a crew is to be started: its place and number; None once the desk is closed."""
        return await self._hiring.get()

    async def gone(self, place: int, number: int, reason: str) -> None:
        """The crew has ended; what it had in hand is lost, and the next order of its place wants another."""
        crew = self._crews.get(place)
        if crew is None or crew.number != number:
            return
        del self._crews[place]
        for pending in crew.open.values():
            pending.answer.set_result({"lost": reason})
        crew.open.clear()

    async def close(self) -> None:
        """No more orders: every worker is told so when it asks for the next."""
        self._closed.set()
        self._hiring.put_nowait(None)
        for crew in self._crews.values():
            for inbox in crew.inboxes:
                inbox.put_nowait(None)

    # ---- for the workers of a crew

    async def order(self, place: int, number: int, rank: int) -> Order | None:
        """Wait for the next order; None: there is no more to do."""
        crew = self._crews.get(place)
        if self._closed.is_set() or crew is None or crew.number != number:  # another was hired for it
            return None
        return await crew.inboxes[rank].get()

    async def told(
        self, place: int, number: int, rank: int, order: int, results: list[Result], *, failed: bool
    ) -> bool:
        """What came of an order, from each worker; the trial gets the first one's, or those of one that failed.

        Returns: whether the crew can go on. A worker that failed must hear from the others: if they are not done soon,
            they wait for it within a step, for ever, and the crew has to be started anew.
        """
        crew = self._crews.get(place)
        if crew is None or crew.number != number or order not in crew.open:
            return False
        pending = crew.open[order]
        (pending.failures if failed else pending.told)[rank] = results
        if len(pending.told) + len(pending.failures) == self._workers:
            del crew.open[order]
            pending.all_told.set()
            found = pending.failures or pending.told
            pending.answer.set_result({"results": found[min(found)]})
        elif failed:
            try:
                await asyncio.wait_for(pending.all_told.wait(), self._patience)
            except TimeoutError:
                return False
        return True

    async def closing(self) -> None:
        """Wait until the desk is closed."""
        await self._closed.wait()
