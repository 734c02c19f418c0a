"""The board where the driver puts up trainings, and workers take them one by one; it knows no Ray, and is run by it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, TypeVar

Order = TypeVar("Order")


class Board(Generic[Order]):
    """The board of one job; all its methods run in one event loop."""

    def __init__(self) -> None:
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._closed = asyncio.Event()

    async def put(self, orders: Sequence[Order]) -> None:
        """Put up orders, behind those that are there."""
        for order in orders:
            self._orders.put_nowait(order)

    async def close(self) -> None:
        """There are no more to come: workers end when none is left."""
        self._closed.set()

    async def take(self) -> Order | None:
        """Wait for the next order; None: there is no more to do."""
        order = asyncio.ensure_future(self._orders.get())
        closed = asyncio.ensure_future(self._closed.wait())
        await asyncio.wait({order, closed}, return_when=asyncio.FIRST_COMPLETED)
        closed.cancel()
        if order.done():
            return order.result()
        order.cancel()
        return None
