"""The transport: many small pools, and none where a proxy is to be used."""

import asyncio

import httpx
import pytest

from limbeck.api.connections import Connections, transport_for
from limbeck.api.fake_server import FakeServer, completion


def test_requests_go_to_the_pools_in_turn_and_all_are_answered() -> None:
    server = FakeServer(lambda body: completion(body["messages"][0]["content"]))

    async def talk(url: str) -> list[str]:
        transport = Connections(20)
        assert len(transport._pools) == 3

        async def ask(number: int) -> str:
            message = {"role": "user", "content": str(number)}
            response = await client.post(f"{url}/chat/completions", json={"messages": [message]})
            return str(response.json()["choices"][0]["message"]["content"])

        async with httpx.AsyncClient(transport=transport) as client:
            return [await ask(number) for number in range(7)]

    with server.listen() as url:
        assert asyncio.run(talk(url)) == [str(number) for number in range(7)]


def test_where_the_environment_names_a_proxy_it_is_left_to_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(transport_for(8), Connections)
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert transport_for(8) is None
