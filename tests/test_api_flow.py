"""How fast a server is asked: on a clock that only sleeping moves."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from limbeck.api.flow import Flow


class Clock:
    """Time that passes while somebody sleeps; sleepers wake in the order of their times."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        wake = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, len(self._sleepers), wake))
        await wake

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        async def drive() -> None:
            task = asyncio.ensure_future(work())
            while not task.done():
                for _ in range(20):
                    await asyncio.sleep(0)
                if self._sleepers and not task.done():
                    self._sleepers.sort(key=lambda sleeper: sleeper[:2])
                    self.now, _, wake = self._sleepers.pop(0)
                    wake.set_result(None)
            await task

        asyncio.run(drive())


def starts(clock: Clock, flow: Flow, tokens: list[float]) -> list[float]:
    """When each of so many requests, all asked for at once, may begin."""
    began: list[float] = []

    async def one(amount: float) -> None:
        async with flow.turn(amount):
            began.append(clock.now)

    async def work() -> None:
        await asyncio.gather(*(one(amount) for amount in tokens))

    clock.run(work)
    return began


def of(clock: Clock, most: int, **limits: int) -> Flow:
    return Flow(most, sleep=clock.sleep, clock=lambda: clock.now, **limits)


def test_requests_in_flight_grow_by_one_an_answer_and_are_halved_once_by_what_was_in_flight_together() -> None:
    flow = Flow(64)

    async def work() -> None:
        async with flow.turn(1) as first, flow.turn(1) as second:
            for _ in range(4):
                first.good()
            assert flow.in_flight_limit == 12
            first.pushed_back()
            second.pushed_back()
            assert flow.in_flight_limit == 6
        async with flow.turn(1) as third:
            for _ in range(6):
                third.good()
        assert 6.9 < flow.in_flight_limit < 7  # after a push-back: one more a round, not one more an answer

    asyncio.run(work())


def test_a_fault_by_chance_takes_a_tenth_and_not_a_half() -> None:
    flow = Flow(100)
    flow.in_flight_limit = 100.0

    async def work() -> None:
        async with flow.turn(1) as turn:
            turn.failed()
        assert flow.in_flight_limit == 90

    asyncio.run(work())


def test_there_is_always_room_for_one_and_never_for_more_than_the_most() -> None:
    flow = Flow(9)

    async def work() -> None:
        for _ in range(5):
            async with flow.turn(1) as turn:
                turn.good()
        assert flow.in_flight_limit == 9
        for _ in range(9):
            async with flow.turn(1) as turn:
                turn.pushed_back()
        assert flow.in_flight_limit == 1

    asyncio.run(work())


def test_no_more_are_in_flight_than_the_limit_says_and_all_get_their_turn() -> None:
    flow, seen = Flow(3), []

    async def one() -> None:
        async with flow.turn(1):
            seen.append(flow.in_flight)
            await asyncio.sleep(0)

    async def work() -> None:
        await asyncio.gather(*(one() for _ in range(20)))

    asyncio.run(work())
    assert len(seen) == 20
    assert max(seen) == 3


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(1, 9), st.integers(60, 200))
def test_in_any_sixty_seconds_neither_requests_nor_tokens_exceed_their_limits(
    tokens: list[int], requests_per_minute: int, tokens_per_minute: int
) -> None:
    clock = Clock()
    flow = of(clock, 100, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
    flow.in_flight_limit = 100.0
    began = starts(clock, flow, [float(amount) for amount in tokens])
    assert len(began) == len(tokens)
    for start in began:
        within = [amount for amount, at in zip(tokens, began, strict=True) if start - 60 < at <= start]
        assert len(within) <= requests_per_minute
        assert sum(within) <= tokens_per_minute or len(within) == 1  # larger than the limit: alone


def test_what_the_server_counted_takes_the_place_of_the_estimate() -> None:
    clock = Clock()
    flow = of(clock, 10, tokens_per_minute=100)
    began: list[float] = []

    async def work() -> None:
        for _ in range(3):
            async with flow.turn(60) as turn:
                began.append(clock.now)
                turn.good(20)

    clock.run(work)
    assert began == [1000.0, 1000.0, 1000.0]  # by the estimates the second would have waited for a minute


def test_a_pause_holds_for_everyone_and_may_grow_while_it_lasts() -> None:
    clock = Clock()
    flow = of(clock, 10)
    began: list[float] = []

    async def one() -> None:
        async with flow.turn(1):
            began.append(clock.now)

    async def longer() -> None:
        await clock.sleep(5)
        flow.pause(10)

    async def work() -> None:
        flow.pause(7)
        await asyncio.gather(one(), one(), longer())

    clock.run(work)
    assert began == [1015.0, 1015.0]


def test_a_pause_does_not_bunch_up_what_a_limit_had_spread_out() -> None:
    clock = Clock()
    flow = of(clock, 10, requests_per_minute=1)
    began: list[float] = []

    async def one() -> None:
        async with flow.turn(1):
            began.append(clock.now)

    async def pause() -> None:
        await clock.sleep(30)
        flow.pause(200)

    async def work() -> None:
        await asyncio.gather(one(), one(), one(), pause())

    clock.run(work)
    assert all(later - earlier >= 60 for earlier, later in pairwise(began))
    assert began[1] >= 1230


def test_a_pause_that_was_sat_out_is_not_sat_out_twice() -> None:
    clock = Clock()
    flow = of(clock, 10)

    async def work() -> None:
        mark = flow.pause(7)
        async with flow.turn(1, mark):
            assert clock.now == 1000.0

    clock.run(work)


def test_a_short_pause_does_not_cut_a_longer_one_short() -> None:
    clock = Clock()
    flow = of(clock, 10)

    async def work() -> None:
        flow.pause(100)
        mark = flow.pause(2)
        await clock.sleep(2)
        async with flow.turn(1, mark):
            assert clock.now == 1100.0

    clock.run(work)


def test_who_waited_for_something_else_gets_another_time_to_send() -> None:
    clock = Clock()
    flow = of(clock, 10, requests_per_minute=1)
    sent: list[float] = []

    async def one(wait: float) -> None:
        async with flow.turn(1) as turn:
            if wait:
                await clock.sleep(wait)
            await turn.confirm()
            sent.append(clock.now)

    async def work() -> None:
        await asyncio.gather(one(65.0), one(0.0))

    clock.run(work)
    assert sent == [1060.0, 1120.0]


def test_limits_hold_over_a_restart_and_what_was_in_flight_is_forgotten() -> None:
    clock = Clock()
    flow = of(clock, 1, requests_per_minute=2)

    async def two() -> None:
        for _ in range(2):
            async with flow.turn(1):
                pass

    clock.run(two)
    flow.in_flight = 1  # as a loop that died left it
    flow.restart()
    clock.run(two)
    assert clock.now == 1060.0
