"""The transport: many small pools, and none where a proxy is to be used."""

import asyncio
import sys

import httpx
import pytest

from limbeck.api import ChatClient
from limbeck.api.batch_client import BatchClient
from limbeck.api.connections import Connections, transport_for
from limbeck.api.fake_server import FakeServer, completion
from limbeck.errors import TeacherError
from limbeck.recipe.pairs import Endpoint

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


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
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    assert isinstance(transport_for(8), Connections)
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert transport_for(8) is None


@pytest.mark.parametrize("kind", [ChatClient, BatchClient])
@pytest.mark.parametrize("proxy", ["socks://me:hunter2@127.0.0.1:1080", "socks5://127.0.0.1:1080", "http://proxy:abc"])
def test_a_proxy_that_cannot_be_used_is_one_sentence_that_names_its_variable_and_a_way_out(
    kind: type[ChatClient] | type[BatchClient], proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if proxy.startswith("socks5"):
        monkeypatch.setitem(sys.modules, "socksio", None)
    for name in (*PROXIES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", proxy)

    async def opened() -> None:
        async with kind(Endpoint(base_url="http://localhost:1/v1"), environ={}):
            pass

    with pytest.raises(TeacherError, match="ALL_PROXY names a proxy that cannot be used") as caught:
        asyncio.run(opened())
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "*")  # the way out that the sentence names
    asyncio.run(opened())
