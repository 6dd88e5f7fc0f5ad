"""A real HTTP server on this machine that speaks OpenAI's protocol and misbehaves on purpose, by a seeded plan.

with running(Faults.spread(0.05)) as server:          # in a process of its own
    client = ChatClient(Endpoint(base_url=server.url))
    ...
    assert server.tally().resends_beyond_faults == 0

By hand: `python -m limbeck.api.faulty_server --port 8000 --share 0.05`; the base URL is printed. Chat completions, the
list of models, files and batches; GET /tally says what came in. Knows nothing of our client, nor of pairs.
"""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import httpx

from limbeck.api.faults import Faults, Tally
from limbeck.api.faulty_batches import BatchDesk
from limbeck.api.faulty_http import Connection, Heard, Reply, error_reply
from limbeck.api.faulty_ledger import Ledger, key_of
from limbeck.api.faulty_replies import Written, models_reply, write

_BACKLOG = 1024  # connections that wait to be accepted: a client opens hundreds at once


class FaultyServer:
    """Answers what is heard; one object a process."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._ledger = Ledger(faults)
        self._batches = BatchDesk(faults, self._ledger)

    def connection(self) -> Connection:
        """The protocol of a new connection."""
        self._ledger.connections += 1
        return Connection(self.handle)

    def handle(self, heard: Heard) -> Reply:
        """The reply to one request."""
        path = heard.path.partition("?")[0]
        if path == "/v1/chat/completions" and heard.method == "POST":
            return self._chat(heard.body)
        if path == "/v1/models":
            return models_reply(self._faults)
        if path == "/tally":
            return Reply(200, self._ledger.tally().model_dump_json().encode())
        return self._batches.handle(heard) or error_reply(404, f"nothing at {heard.method} {path}")

    def _chat(self, content: bytes) -> Reply:
        key = key_of(content)
        body, problem = chat_body(content)
        if problem:
            return self._ledger.note(key, "bad_request", Written(error_reply(400, problem)))
        met, number = self._ledger.arrive(key)
        return self._ledger.note(key, met.how, write(body, key, met, self._faults, number))


def chat_body(content: bytes) -> tuple[dict[str, Any], str]:
    """A chat completion's body, and what is wrong with it, if anything."""
    try:
        body = json.loads(content)
    except ValueError:
        return {}, "the body is no JSON"
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        return {}, "messages is missing"
    if not isinstance(body.get("model"), str):
        return {}, "model is missing"
    return body, ""


async def serve(faults: Faults, port: int = 0, *, until_stdin_closes: bool = False) -> None:
    """Serve on this port (0: a free one), whose base URL is printed, until cancelled or until standard input closes."""
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(FaultyServer(faults).connection, "127.0.0.1", port, backlog=_BACKLOG)
    sys.stdout.write(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    if until_stdin_closes:  # so that no server outlives a parent that was killed
        await loop.run_in_executor(None, sys.stdin.read)
    else:
        await listening.serve_forever()


class Running(NamedTuple):
    """A faulty server in a process of its own. `url` is what goes into a recipe as base_url."""

    url: str

    def tally(self) -> Tally:
        """What it has received by now, and how it answered."""
        content = httpx.get(self.url.removesuffix("/v1") + "/tally", trust_env=False, timeout=30).content
        return Tally.model_validate_json(content)


@contextlib.contextmanager
def running(faults: Faults) -> Iterator[Running]:
    """Run a server in a process of its own while the context lasts."""
    command = [sys.executable, "-m", __name__, "--until-stdin-closes", "--faults", faults.model_dump_json()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip() if process.stdout else ""
            if not url:
                raise RuntimeError("the faulty server did not start; its standard error says why")
            yield Running(url)
        finally:
            process.kill()


def main(arguments: Sequence[str]) -> None:
    """Serve from the command line."""
    parser = argparse.ArgumentParser(prog="python -m limbeck.api.faulty_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port of 127.0.0.1 (a free one)")
    parser.add_argument("--share", type=float, default=0.0, help="share of requests that meet a fault (0)")
    parser.add_argument("--seed", type=int, default=1, help="of the faults (1)")
    parser.add_argument("--faults", help="the whole plan, as JSON; in place of --share and --seed")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with whoever started it")
    chosen = parser.parse_args(arguments)
    faults = Faults.model_validate_json(chosen.faults) if chosen.faults else Faults.spread(chosen.share, chosen.seed)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(faults, chosen.port, until_stdin_closes=chosen.until_stdin_closes))


if __name__ == "__main__":
    main(sys.argv[1:])
