"""Asks venues to take orders and changes, within a time, and says whether that is certain to have come to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from loguru import logger

from koc_qt.domain.errors import VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.orders import OrderEvent, OrderRejected, OrderUnknown
from koc_qt.engine.order_intents import Intent
from koc_qt.ports.venue import DEPARTURE, TradingVenue

SUBMIT_TIMEOUT_S = 10.0
_GIVEN_UP = "it was given up before it was sent"


class OrderRequests:
    """Requests about orders that are under way; `receive` takes what is to be said of an order in a venue's stead."""

    def __init__(self, receive: Callable[[OrderEvent], None]) -> None:
        self._receive = receive
        self._sending: set[str] = set()  # the venue has been asked to take or change them, and has not answered

    def __contains__(self, client_order_id: str) -> bool:
        return client_order_id in self._sending

    async def submit(self, venue: TradingVenue, intent: Intent) -> None:
        """Have a venue take an order as soon as its intent is durable.

        A refusal, and that nobody knows, are said to `receive`. Raises StorageError: nothing was sent, and there is no
        order, unless the journal takes it in the end; then it is called rejected.
        """
        key, before = intent.order.client_order_id, DEPARTURE.set(intent)
        try:
            if not venue.holds_at_door:
                await intent.durable()
            refused = await self._send(venue, intent)
            if intent.is_late:
                await intent.durable()
                refused = await self._send(venue, intent)
            await intent.durable()
        except BaseException:
            if intent.withdraw(_GIVEN_UP):
                self._receive(OrderRejected(key, venue.time_ns(), _GIVEN_UP))
            raise
        finally:
            DEPARTURE.reset(before)
        if refused:
            self._receive(OrderRejected(key, venue.time_ns(), refused))

    async def _send(self, venue: TradingVenue, intent: Intent) -> str:
        order = intent.order

        async def sent() -> None:
            if not venue.holds_at_door:
                await intent.leave()
            await venue.submit(order)

        def lose(reason: str) -> str:
            if intent.withdraw(reason):
                return f"it was not sent: {reason}"
            self._receive(OrderUnknown(order.client_order_id, venue.time_ns(), reason))
            return ""

        return await self.ask(order.client_order_id, sent(), lose)

    async def ask(self, key: str, request: Coroutine[Any, Any, None], lose: Callable[[str], str]) -> str:
        """Wait for a venue to take a request; gives why it was certainly not made, empty when it was.

        Where the venue has not said, `lose` is called with the reason, and what it gives is given.
        """
        self._sending.add(key)
        try:
            async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                await request
        except (VenueRejected, VenueUnavailable) as error:
            return str(error) or type(error).__name__
        except asyncio.CancelledError:
            lose("the engine was stopping while the venue had not answered")
            raise
        except (TimeoutError, VenueTimeout) as error:
            return lose(str(error) or f"no answer within {SUBMIT_TIMEOUT_S:g} s")
        except Exception as error:
            logger.exception("a request about order {} failed in a way nobody foresaw", key)
            return lose(f"{type(error).__name__} while sending")
        finally:
            self._sending.discard(key)
        return ""
