"""Many connections to one server, in several small pools.

httpcore looks at every connection of a pool for every request: with 256 connections in one pool that costs more than
the requests themselves. Requests go to the pools in turn.
"""

import contextlib
import os
from collections.abc import Iterator
from urllib.request import getproxies

import httpx

from limbeck.errors import TeacherError

_CONNECTIONS_A_POOL = 8
_SCHEMES = ("http", "https", "all")


def transport_for(most: int) -> httpx.AsyncBaseTransport | None:
    """Small pools for `most` requests at once; None, which leaves it to httpx, where the environment names a proxy."""
    return None if set(_SCHEMES) & set(getproxies()) else Connections(most)


@contextlib.contextmanager
def proxy_errors() -> Iterator[None]:
    """Turn what httpx makes of a proxy that it cannot use, whatever the address, into one sentence.

    Raises:
        TeacherError: naming the proxy's variable, not its address, which may hold a password.
    """
    try:
        yield
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        names = [name for scheme in _SCHEMES for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper())]
        there = {name: os.environ[name] for name in names if os.environ.get(name)}
        socks = [name for name, proxy in there.items() if proxy.startswith("socks")]
        if not there:
            raise
        raise TeacherError(
            f"{(socks or list(there))[0]} names a proxy that cannot be used here: give an address like "
            "http://HOST:PORT, or socks5://HOST:PORT after pip install 'httpx[socks]'; or set NO_PROXY='*' to ask "
            "without any proxy, as for a server on this machine"
        ) from error


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
