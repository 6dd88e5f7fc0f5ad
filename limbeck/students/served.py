"""Servers of students before anything is asked: named rightly, there, and serving the model that the recipe names.

Knows no torch, so that the command line can look before it starts.
"""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from limbeck.api.client import ChatClient
from limbeck.api.wire import read_sample
from limbeck.errors import RecipeError, TeacherError
from limbeck.recipe import Recipe, Server
from limbeck.recipe.pairs import Endpoint

NAMES_SHOWN = 10


def check_names(recipe: Recipe, known: Iterable[str], where: str = "this recipe") -> None:
    """See that every server is the server of a model there is.

    Raises:
        RecipeError: naming the first that is not, and the models there are.
    """
    models = list(known)
    for name in recipe.servers:
        if name not in models:
            there = f"its models are {', '.join(models)}" if models else "it asks no model"
            raise RecipeError(f"servers.{name}: {where} has no model of that name; {there}")


def part_of(recipe: Recipe, *names: str) -> dict[str, Any]:
    """What of the servers decides the replies of these models, for a unit's part; empty where none has a server."""
    found = {name: recipe.servers[name].identity() for name in names if name in recipe.servers}
    return {"servers": found} if found else {}


def client_for(server: Server, **seams: Any) -> ChatClient:
    """A client that asks for exactly what it is told, and takes an empty or a cut reply for what it is.

    `seams`: what tests hand to `ChatClient`.
    """
    endpoint = Endpoint(
        base_url=server.base_url,
        api_key_env=server.api_key_env or "",
        concurrency=server.concurrency,
        timeout_seconds=server.timeout_seconds,
    )
    return ChatClient(endpoint, read=read_sample, adapts=False, **seams)


def look(servers: Mapping[str, Server]) -> None:
    """See that each server, by the name of its model, is there and serves that model.

    Raises:
        TeacherError: naming the server, what is wrong, and the names that it does serve.
    """
    for name, server in servers.items():
        see(name, server, client_for(server))


def see(name: str, server: Server, client: ChatClient) -> None:
    """`look` at one server, through a client that is at hand."""
    try:
        names = asyncio.run(_models(client))
    except TeacherError as error:
        raise TeacherError(f"servers.{name}: {error}") from None
    # Ollama lists tags and takes names without; `transformers serve` loads any folder and lists only its cache.
    if server.model in names or f"{server.model}:latest" in names or Path(server.model).is_dir():
        return
    shown = ", ".join(map(repr, names[:NAMES_SHOWN])) or "no model"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    raise TeacherError(
        f"servers.{name}.model: {client.base_url} does not serve {server.model!r}; it serves {shown}{more}"
    )


async def _models(client: ChatClient) -> list[str]:
    async with client:
        return await client.models()
