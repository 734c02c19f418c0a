"""The desk between trials and crews: nobody waits for what cannot come, and nothing is answered twice."""

from __future__ import annotations

import asyncio

import pytest

from raysearch.search.messages import Failed, RateTest, Result, Trained
from raysearch.workers.desk import Answer, Desk

TASK = RateTest("h0000", stage=1, recipes={})
FAILED: list[Result] = [Failed("t0000", "ValueError: no")]


def row(epoch: int) -> list[Result]:
    return [Trained("t0000", {"epoch": epoch}, {"epoch": epoch}, finished=False)]


def ask(desk: Desk, place: int = 0, work: str = "a") -> asyncio.Task[Answer]:
    return asyncio.ensure_future(desk.step(place, work, TASK))


async def hired(desk: Desk) -> tuple[int, int]:
    found = await asyncio.wait_for(desk.hire(), 1)
    assert found is not None
    return found


async def nobody_is_hired(desk: Desk) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(desk.hire(), 0.01)


def played(play) -> None:
    """A play of a few people at one desk."""
    asyncio.run(asyncio.wait_for(play(), 10))


def test_a_crew_is_hired_at_the_first_order_and_kept():
    async def play() -> None:
        desk = Desk(workers=2)
        await nobody_is_hired(desk)
        answer, crew = ask(desk), await hired(desk)
        for epoch in (1, 2):
            orders = [await desk.order(*crew, rank) for rank in range(2)]
            assert orders[0] == orders[1]
            assert (orders[0]["work"], orders[0]["task"]) == ("a", TASK)
            for rank in (1, 0):
                assert not answer.done(), "a worker is not done yet"
                assert await desk.told(*crew, rank, orders[0]["number"], row(epoch + rank), failed=False)
            assert await answer == {"results": row(epoch)}, "the first worker's"
            answer = ask(desk)
        await nobody_is_hired(desk)
        ask(desk, place=1)
        assert (await hired(desk))[0] == 1, "another place has another crew"

    played(play)


def test_an_order_for_a_busy_crew_waits_for_its_turn():
    """Its trial is gone, and the next one of that place is there."""

    async def play() -> None:
        desk = Desk(workers=1)
        gone, crew = ask(desk, work="a"), await hired(desk)
        first = await desk.order(*crew, 0)
        gone.cancel()
        answer = ask(desk, work="b")
        await asyncio.sleep(0)
        assert await desk.told(*crew, 0, first["number"], row(1), failed=False)
        second = await desk.order(*crew, 0)
        assert second["work"] == "b"
        await desk.told(*crew, 0, second["number"], row(7), failed=False)
        assert await answer == {"results": row(7)}

    played(play)


def test_a_failure_that_all_come_out_of_is_the_trials_and_the_crew_goes_on():
    async def play() -> None:
        desk = Desk(workers=2)
        answer, crew = ask(desk), await hired(desk)
        order = await desk.order(*crew, 0)
        first = asyncio.ensure_future(desk.told(*crew, 0, order["number"], row(1), failed=False))
        second = asyncio.ensure_future(desk.told(*crew, 1, order["number"], FAILED, failed=True))
        assert await answer == {"results": FAILED}, "the trial failed, whatever the first worker has"
        assert await first
        assert await second

    played(play)


def test_a_failure_in_which_others_are_stuck_ends_the_crew_and_the_segment_is_lost():
    async def play() -> None:
        desk = Desk(workers=2, patience_seconds=0.05)
        answer, crew = ask(desk), await hired(desk)
        order = await desk.order(*crew, 1)
        assert not await desk.told(*crew, 1, order["number"], FAILED, failed=True)
        assert not answer.done()
        await desk.gone(*crew, "a worker died")
        assert await answer == {"lost": "a worker died"}
        again = ask(desk)
        other = await hired(desk)
        assert other[0] == crew[0]
        assert other[1] != crew[1]
        assert await desk.order(*crew, 0) is None, "a worker of the old crew gets nothing of the new one's"
        assert not await desk.told(*crew, 0, order["number"], row(1), failed=False)
        await desk.gone(*crew, "told twice")
        assert not again.done()

    played(play)


def test_once_closed_everybody_is_sent_home():
    async def play() -> None:
        desk = Desk(workers=2)
        ask(desk)
        crew = await hired(desk)
        for rank in range(2):
            await desk.order(*crew, rank)
        waiting = [asyncio.ensure_future(desk.order(*crew, rank)) for rank in range(2)]
        watching, hiring = asyncio.ensure_future(desk.closing()), asyncio.ensure_future(desk.hire())
        await asyncio.sleep(0)
        assert not watching.done()
        await desk.close()
        assert await asyncio.gather(*waiting) == [None, None]
        assert await hiring is None
        await watching
        assert "lost" in await ask(desk)

    played(play)
