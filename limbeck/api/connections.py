"""Many connections to one server, in several small pools.

httpcore looks at every connection of a pool for every request: with 256 connections in one pool that costs more than
the requests themselves. Requests go to the pools in turn.
"""

from urllib.request import getproxies

import httpx

_CONNECTIONS_A_POOL = 8


def transport_for(most: int) -> httpx.AsyncBaseTransport | None:
    """Small pools for `most` requests at once; None, which leaves it to httpx, where the environment names a proxy."""
    return None if {"http", "https", "all"} & set(getproxies()) else Connections(most)


class Connections(httpx.AsyncBaseTransport):
    """A transport with room for `most` requests at once."""

    def __init__(self, most: int) -> None:
        context = httpx.create_ssl_context()  # read once: the certificates are a quarter of a megabyte
        self._pools = [
            httpx.AsyncHTTPTransport(verify=context, limits=httpx.Limits(max_connections=None))
            for _ in range(-(-most // _CONNECTIONS_A_POOL))
        ]
        self._next = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Hand the request to the next pool."""
        self._next = (self._next + 1) % len(self._pools)
        return await self._pools[self._next].handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            await pool.aclose()
