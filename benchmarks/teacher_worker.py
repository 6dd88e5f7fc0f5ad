"""limbeck's side of the measurement of a teacher's client: the path by which `limbeck teach` asks, store included."""

import sys
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks.contract import Job, Outcome, peak_memory_bytes, read_job, report
from benchmarks.teacher_prompts import prompt
from limbeck.api import Failed, ReplyStore
from limbeck.api.reply_store import FILE_NAME
from limbeck.recipe.pairs import Endpoint, Teach
from limbeck.records import PromptRow, user_prompt
from limbeck.teachers.openai import OpenAITeacher
from limbeck.teachers.protocol import Request, ask


def ask_all(job: Job) -> Outcome:
    """Ask every request through a new store; imports and the requests' making come before the clock starts."""
    load = job.load
    endpoint = Endpoint(
        base_url=load.url,
        concurrency=load.in_flight,
        timeout_seconds=load.timeout_seconds,
        max_retries=load.max_retries,
    )
    teacher = OpenAITeacher(job.model, Teach(endpoint=endpoint, max_tokens=load.max_tokens))
    requests = [_request(number) for number in range(load.requests)]
    loaded = peak_memory_bytes()
    with ReplyStore(job.scratch / FILE_NAME) as store:
        started, cpu = time.perf_counter(), time.process_time()
        replies = ask(teacher, requests, store)
        cpu, seconds = time.process_time() - cpu, time.perf_counter() - started
        states = store.states()
    ended = Counter(reply.answer.reason if isinstance(reply.answer, Failed) else "answered" for reply in replies)
    return Outcome(
        seconds=seconds,
        rows=len(replies),
        peak_memory_bytes=peak_memory_bytes(),
        loaded_memory_bytes=loaded,
        facts={"cpu_seconds": cpu, "ended": dict(ended), "states": states},
    )


def _request(number: int) -> Request:
    messages = user_prompt(prompt(number))
    return Request("zero_shot", PromptRow(id=str(number), prompt=messages, source="load"), messages)


def main(arguments: Sequence[str]) -> None:
    """Do the job and print its outcome."""
    report(ask_all(read_job(arguments)))


if __name__ == "__main__":
    main(sys.argv[1:])
