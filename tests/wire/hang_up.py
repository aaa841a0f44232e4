"""Waiting for a loopback server to notice that clients have hung up, so that it closes nothing in the midst of that."""

from __future__ import annotations

from tests.conditions import until
from tests.wire.core.dialect import Dialect
from tests.wire.loopback import LoopbackServer


async def until_hung_up(server: LoopbackServer) -> None:
    """Wait until no connection is left; a blocking client closes its own without the loop, one that hangs is let go."""
    assert server._runner is not None
    if isinstance(server.site, Dialect):
        server.site._stopping.set()
    served = server._runner.server
    await until(lambda: served is None or not served.connections, what="the clients to hang up")
