"""Several workers at once over one queue: when one fails, the others are stopped or wind up before that goes on."""

import asyncio
from collections.abc import Awaitable, Callable


async def run_workers(work: Callable[[], Awaitable[None]], number: int, *, others_finish: bool = False) -> None:
    """Run `work` `number` times at once; whatever ends this, none of them is at work afterwards.

    `others_finish`: when one fails, the others are not stopped but waited for, and the caller, whose `work` keeps what
    it met, raises that afterwards.
    """
    workers = [asyncio.ensure_future(work()) for _ in range(number)]
    try:
        await asyncio.gather(*workers, return_exceptions=others_finish)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
