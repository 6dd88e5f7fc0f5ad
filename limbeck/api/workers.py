"""Several workers at once over one queue: when one fails, the others are stopped before the failure goes on."""

import asyncio
from collections.abc import Awaitable, Callable


async def run_workers(work: Callable[[], Awaitable[None]], number: int) -> None:
    """Run `work` `number` times at once; whatever ends this, none of them is at work afterwards."""
    workers = [asyncio.ensure_future(work()) for _ in range(number)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
