"""What goes wrong at an exchange, now or until it is set back: one set for all dialects."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.wire.core.listings import Trading
from tests.wire.loopback import RestFault

if TYPE_CHECKING:
    from tests.wire.core.dialect import Channel
    from tests.wire.exchange import Exchange


@dataclass
class Limited:
    """The next `times` requests are answered with 429, or 418 when `banned`."""

    times: int
    retry_after_s: float
    banned: bool


@dataclass
class Faults:
    """The state of what is wrong; set it through the `fault_` methods of FaultMethods."""

    rest: list[RestFault] = field(default_factory=list)
    lose: dict[str, int] = field(default_factory=dict)  # what was done and is not answered: place, cancel, amend
    lost_how: str = "hang"
    late: dict[str, int] = field(default_factory=dict)  # requests that stay on their way, by how their paths begin
    limited: Limited | None = None
    maintenance: bool = False
    refuse_streams: bool = False
    hang_streams: bool = False
    silent: set[str] = field(default_factory=set)  # "public", "private"
    duplicates: int = 0
    reorder: int = 0

    def take(self, path: str) -> RestFault | None:
        """Give the fault for this path, if there is one left."""
        for fault in self.rest:
            if path.startswith(fault.path) and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def take_lost(self, done: set[str]) -> bool:
        """Whether the answer to a request that did these things is lost."""
        for what in done:
            if self.lose.get(what, 0) > 0:
                self.lose[what] -= 1
                return True
        return False

    def take_late(self, path: str) -> bool:
        """Whether a request stays on its way."""
        for begins, times in self.late.items():
            if path.startswith(begins) and times > 0:
                self.late[begins] -= 1
                return True
        return False

    def take_limited(self) -> Limited | None:
        """Give how the next request is turned away for its rate."""
        limited = self.limited
        if limited is None or limited.times <= 0:
            return None
        limited.times -= 1
        return limited


class FaultMethods:
    """Every `fault_` method, for tests and, by POST /_wire/faults with `{"method": name, ...}`, for other processes."""

    exchange: Exchange
    channels: set[Channel]

    @property
    def faults(self) -> Faults:
        """What is wrong now."""
        return self.exchange.faults

    # requests

    def fault_lose_answer(self, what: str = "place", times: int = 1, how: str = "hang") -> None:
        """Do what is asked (`place`, `cancel` or `amend`) and never answer: `hang`, or `drop` the connection."""
        if what not in ("place", "cancel", "amend") or how not in ("hang", "drop"):
            raise ValueError(f"lose place, cancel or amend by hang or drop, not {what} by {how}")
        self.faults.lose[what], self.faults.lost_how = times, how

    def fault_rest(self, path: str = "/", **answer: Any) -> None:
        """Answer paths that begin so otherwise, before anything is done; see RestFault (`hang` never answers)."""
        self.faults.rest.append(RestFault(path, **answer))

    def fault_late(self, path: str, times: int = 1) -> None:
        """Break the connections of POSTs, which stay on their way until `Dialect.let_arrive`."""
        self.faults.late[path] = times

    def fault_server_error(self, path: str = "/", status: int = 503, times: int = 1_000_000) -> None:
        """Answer with a 5xx and a web server's page."""
        self.fault_rest(path, status=status, body=f"<html><h1>{status} Server error</h1></html>", times=times)

    def fault_html(self, path: str = "/", times: int = 1_000_000) -> None:
        """Answer 200 with a web page, as a captive portal does."""
        body = "<!DOCTYPE html><html><body>Sign in to use this network</body></html>"
        self.fault_rest(path, body=body, headers={"Content-Type": "text/html"}, times=times)

    def fault_rate_limit(self, times: int = 1, retry_after_s: float = 1.0, banned: bool = False) -> None:
        """Turn requests away with the venue's 429, or its ban, naming the pause."""
        self.faults.limited = Limited(times, retry_after_s, banned)

    def fault_maintenance(self, on: bool = True) -> None:
        """Answer everything as the venue does in maintenance."""
        self.faults.maintenance = on

    def fault_skew(self, ms: int) -> None:
        """Set the venue's clock so far ahead."""
        self.exchange.set_skew(ms * 1_000_000)

    # the market

    def fault_show(self, symbol: str, bid: str, ask: str, size: str) -> None:
        """Let this be the market."""
        self.exchange.show(symbol, Decimal(bid), Decimal(ask), Decimal(size))

    def fault_release(self, symbol: str) -> None:
        """Let the market move again."""
        self.exchange.market(symbol).release()

    def fault_partial(self, symbol: str, size: str = "") -> None:
        """Show no more than this at any price, so that larger orders are filled in part; nothing: all again."""
        self.exchange.set_thin(symbol, Decimal(size) if size else None)

    def fault_trading(self, symbol: str, state: str = "delisted") -> None:
        """Let a symbol be `open`, `closed` or `delisted` (its orders are cancelled)."""
        self.exchange.set_trading(symbol, Trading(state))

    # keys

    def fault_key(
        self,
        key: str,
        *,
        revoked: bool | None = None,
        expires_ns: int | None = None,
        permissions: list[str] | None = None,
        ips: list[str] | None = None,
    ) -> None:
        """Change a key: revoked, expired, what it may do (`read`, `trade`, `withdraw`), from which addresses."""
        found = self.exchange.directory.find(key)
        if found is None:
            raise ValueError("there is no such key")
        owned = found[1]
        owned.revoked = owned.revoked if revoked is None else revoked
        owned.expires_ns = owned.expires_ns if expires_ns is None else expires_ns
        owned.permissions = owned.permissions if permissions is None else set(permissions)
        owned.ips = owned.ips if ips is None else set(ips)

    def fault_expire_tokens(self) -> int:
        """Let listen keys and stream tokens expire; gives how many private streams are told or cut."""
        self.exchange.directory.end_tokens()
        private = [channel for channel in self.channels if channel.user is not None]
        for channel in private:
            self.token_expired(channel)
        return len(private)

    def token_expired(self, channel: Channel) -> None:
        """Tell a private stream, in the venue's way, that its token is over; by default it is cut."""
        channel.cut()

    # streams

    def fault_drop(self, kind: str = "", mid_frame: bool = True) -> int:
        """Break connections: all, `private` or `public` ones, or those with a topic that contains `kind`."""
        chosen = [channel for channel in self.channels if channel.is_of(kind)]
        for channel in chosen:
            channel.cut(mid_frame=mid_frame)
        return len(chosen)

    def fault_garbage(self, text: str = '{"e":"trade","s":') -> int:
        """Send text that is no message on every connection; gives how many."""
        for channel in self.channels:
            channel.send(text)
        return len(self.channels)

    def fault_silence(self, public: bool = True, private: bool = True) -> None:
        """Say nothing more of its own on streams, though connections stay up; answers are given."""
        chosen = {"public": public, "private": private}
        self.faults.silent = {name for name, on in chosen.items() if on}

    def fault_refuse_streams(self, refuse: bool = True) -> None:
        """Answer new stream connections with 503."""
        self.faults.refuse_streams = refuse

    def fault_hang_streams(self, hang: bool = True) -> None:
        """Never answer new stream connections."""
        self.faults.hang_streams = hang

    def fault_duplicate(self, times: int = 1_000_000) -> None:
        """Send each of the next private frames twice."""
        self.faults.duplicates = times

    def fault_reorder(self, frames: int = 2) -> None:
        """Hold the next private frames of a connection and send them last to first."""
        self.faults.reorder = frames

    def fault_clear(self) -> None:
        """All is well again; keys, symbols and the shown market stay as they are."""
        self.exchange.set_skew(0)
        self.exchange.faults = Faults()
