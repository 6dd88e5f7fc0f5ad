"""Fifty teacher requests to a real server, all accounted for; a second run sends nothing.

Start a server, for instance `transformers serve FOLDER --port 8931`, then:

    python -m benchmarks.real_server http://127.0.0.1:8931/v1 FOLDER [--requests 50] [--max-tokens 24]
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from limbeck import tasks
from limbeck.api import Failed, ReplyStore
from limbeck.recipe.pairs import Endpoint, Teach
from limbeck.teachers import OpenAITeacher, Replied, Request, ask
from limbeck.teachers.rendering import zero_shot_request


def main() -> None:
    """Ask, ask again, print one JSON object; exits with 1 where a request is not accounted for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base_url")
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--max-tokens", type=int, default=24)
    parser.add_argument("--concurrency", type=int, default=8)
    given = parser.parse_args()
    rows = tasks.draw_splits({"pool": given.requests}, seed=1)["pool"]
    requests = [zero_shot_request(row) for row in rows]
    endpoint = Endpoint(
        base_url=given.base_url, api_key_env="", concurrency=given.concurrency, timeout_seconds=600, max_retries=2
    )
    teacher = OpenAITeacher(given.model, Teach(endpoint=endpoint, max_tokens=given.max_tokens))
    with tempfile.TemporaryDirectory() as folder, ReplyStore(Path(folder) / "replies.sqlite") as store:
        report = _report(teacher, requests, store)
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    raise SystemExit(0 if report["accounted_for"] and report["sent_again"] == 0 else 1)


def _report(teacher: OpenAITeacher, requests: list[Request], store: ReplyStore) -> dict[str, object]:
    started, cpu = time.perf_counter(), time.process_time()
    first = ask(teacher, requests, store)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    again: list[bool] = []
    second = ask(teacher, requests, store, lambda _, from_store: again.append(from_store))
    lasting = {reply.key for reply in first if not isinstance(reply.answer, Failed) or reply.answer.about_the_reply}
    return {
        "requests": len(requests),
        "outcomes": dict(Counter(_outcome(reply) for reply in first)),
        "accounted_for": len(first) == len(requests) == sum(store.states().values()) and "sent" not in store.states(),
        "sent_again": sum(not stored for stored in again) - (len(requests) - len(lasting)),
        "same_answers": sum(a == b for a, b in zip(first, second, strict=True)),
        "store": store.states(),
        "tokens_out": sum(reply.answer.tokens_out for reply in first),
        "seconds": round(seconds, 1),
        "client_cpu_ms_a_request": round(1000 * cpu_seconds / len(requests), 2),
        **teacher.facts(),
    }


def _outcome(reply: Replied) -> str:
    return reply.answer.reason if isinstance(reply.answer, Failed) else "answered"


if __name__ == "__main__":
    main()
