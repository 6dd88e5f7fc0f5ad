"""The `openai` package's side of the measurement of a teacher's client, under an interpreter of its own.

Imports nothing of limbeck: a job comes in as JSON, the outcome leaves as one JSON line. Nothing is stored.
"""

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from benchmarks.teacher_prompts import prompt


async def ask_all(job: dict[str, Any]) -> dict[str, Any]:
    """Ask every request, `in_flight` at once, with the package's own retries; imports come before the clock starts."""
    from openai import AsyncOpenAI, OpenAIError

    load = job["load"]
    numbers = iter(range(load["requests"]))
    ended: Counter[str] = Counter()

    async def work(client: Any) -> None:
        for number in numbers:
            try:
                reply = await client.chat.completions.create(
                    model=job["model"],
                    messages=[{"role": "user", "content": prompt(number)}],
                    temperature=0.7,
                    max_tokens=load["max_tokens"],
                    response_format={"type": "json_object"},
                )
                ended["answered" if reply.choices else "no choices"] += 1
            except (OpenAIError, ValueError) as error:  # ValueError: a body that is no JSON
                ended[type(error).__name__] += 1

    async with AsyncOpenAI(
        base_url=load["url"], api_key="none", timeout=load["timeout_seconds"], max_retries=load["max_retries"]
    ) as client:
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work(client) for _ in range(load["in_flight"])))
        cpu, seconds = time.process_time() - cpu, time.perf_counter() - started
    return {
        "seconds": seconds,
        "rows": sum(ended.values()),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "facts": {"cpu_seconds": cpu, "ended": dict(ended), "version": metadata.version("openai")},
    }


def main(arguments: Sequence[str]) -> None:
    """Do the job and print its outcome."""
    outcome = asyncio.run(ask_all(json.loads(arguments[0])))
    sys.stdout.write("\n" + json.dumps(outcome) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
