"""What the engine's venues can do: asked for once a connection, when somebody first wants to know."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from PySide6.QtCore import QObject, Signal

from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.orders import OrderType, TimeInForce
from koc_qt.domain.state import AccountSnapshot, TradingMode
from koc_qt.domain.timeframes import is_multiple
from koc_qt.domain.venues import VenueAbilities
from koc_qt.link.account_messages import ListVenues
from koc_qt.link.messages import Command

ASK_TIMEOUT_S = 15.0


class Asking(Protocol):
    """What the book needs of a Desk."""

    @property
    def is_connected(self) -> bool:
        """Whether there is an engine to ask."""
        ...

    async def request(self, command: Command, *, timeout_s: float = 10.0) -> Any:
        """Have a command carried out, and give its answer. Raises KocError."""
        ...

    def start(self, work: Coroutine[Any, Any, Any], *, failed: Callable[[KocError], None] | None = None) -> Any:
        """Run a coroutine in the background."""
        ...


@dataclass(frozen=True)
class Offer:
    """What can be asked of an account. Everything, as long as it is not known what its venue can do."""

    types: tuple[OrderType, ...] = tuple(OrderType)
    times: tuple[TimeInForce, ...] = tuple(TimeInForce)
    post_only: bool = True
    reduce_only: bool = True
    amend: bool = True


class VenueBook(QObject):
    """The abilities of venues by name. `changed` says that they are known now, or that they could not be had."""

    changed = Signal()

    def __init__(self, desk: Asking, owner: QObject) -> None:
        super().__init__(owner)
        self._desk = desk
        self._is_asked = False
        self.known: dict[str, VenueAbilities] = {}
        self.problem = ""

    def renew(self) -> None:
        """Ask anew when somebody next wants to know: the engine may be another one. What is known stays meanwhile."""
        self._is_asked = False

    def retry(self) -> None:
        """Ask again after a failure."""
        self.renew()
        self.ask()

    def ask(self) -> None:
        """Ask, unless that has been done since the connection is there, whatever came of it."""
        if self._desk.is_connected and not self._is_asked:
            self._is_asked = True
            self.problem = ""
            self._desk.start(self._fetch(), failed=self._failed)

    def of(self, venue: str) -> VenueAbilities | None:
        """Give what a venue can do; None while that is not known, and then it is asked for."""
        self.ask()
        return self.known.get(venue)

    def title(self, venue: str) -> str:
        """Give what people call a venue."""
        abilities = self.of(venue)
        return abilities.title if abilities is not None else venue

    def offer(self, account: AccountSnapshot | None) -> Offer:
        """Give what can be asked of an account: on paper the same as at the venue, everything where that only has data.

        Our own simulated market takes everything.
        """
        abilities = self.of(account.venue) if account is not None else None
        if abilities is None or account is None or account.mode is TradingMode.SIMULATED:
            return Offer()
        if account.mode is TradingMode.PAPER and not abilities.trading:
            return Offer()
        return Offer(
            tuple(each for each in OrderType if each in abilities.order_types) or Offer.types,
            tuple(each for each in TimeInForce if each in abilities.time_in_force) or (TimeInForce.GTC,),
            abilities.post_only,
            abilities.reduce_only,
            abilities.amend,
        )

    def has_bars(self, venue: str, timeframe: str) -> bool:
        """Whether a venue has bars of a timeframe, or others that they can be made of; True while nothing is known."""
        abilities = self.of(venue)
        if abilities is None or not abilities.timeframes:
            return True
        return any(timeframe == own or is_multiple(timeframe, own) for own in abilities.timeframes)

    async def _fetch(self) -> None:
        answer = await self._desk.request(ListVenues(), timeout_s=ASK_TIMEOUT_S)
        try:
            found = msgspec.convert(answer, list[VenueAbilities])
        except msgspec.ValidationError as error:
            raise LinkError(f"the engine's list of venues cannot be read: {error}") from error
        self.known = {each.venue: each for each in found}
        self.changed.emit()

    def _failed(self, error: KocError) -> None:
        self.problem = str(error)
        self.changed.emit()
