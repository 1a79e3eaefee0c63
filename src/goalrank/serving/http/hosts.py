"""Hosts that a server answers for: against pages that rebind their name to a local address (DNS)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from goalrank.serving.http.access import refuse

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone.

    Args:
        host: name or IP address.
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class AllowedHosts:
    """ASGI middleware that refuses requests whose `Host` header names another server.

    Args:
        app: the application.
        hosts: names or addresses without a port, `*.example.org` for all below a domain; empty
            allows every one.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] = ()) -> None:
        self.app = app
        self._names = {host.lower() for host in hosts if not host.startswith("*.")}
        self._domains = tuple(host[1:].lower() for host in hosts if host.startswith("*."))
        self._every = not hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or refuse it with 421."""
        if scope["type"] != "http" or self._every or self._knows(scope):
            await self.app(scope, receive, send)
            return
        await refuse(
            send, 421, "unknown_host",
            "this server does not answer for that Host; option: allowed_hosts",
        )  # fmt: skip

    def _knows(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"host"]
        host = given[0].decode("latin-1").lower() if len(given) == 1 else ""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return name in self._names or (bool(self._domains) and name.endswith(self._domains))
