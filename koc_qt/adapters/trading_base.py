"""What trading on any real venue shares: connecting within a time, orders that are over with the venue's first word.

Whatever speaks to the venue feeds one OrderTracker, and what that makes of it goes to the sink in order.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, ClassVar

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.event_outbox import EventOutbox
from koc_qt.adapters.order_tracker import OrderTracker
from koc_qt.adapters.rate_budget import Budgeted
from koc_qt.domain.errors import VenueError, VenueTimeout, VenueUnavailable
from koc_qt.domain.orders import Order
from koc_qt.domain.state import VenueState
from koc_qt.domain.venues import VenueAbilities
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import OrderSink, StateSink

# Binance takes a request for 10 s after it was signed, as ccxt asks it to; for the others this is a guess
LATE_S = 10.0


class TradingBase(Budgeted):
    """Implements of ports.venue.TradingVenue what is alike everywhere; a subclass says how the venue is spoken to.

    `refused` counts messages that were no fact. All calls come from the loop's thread.
    """

    ABILITIES: ClassVar[VenueAbilities]
    holds_at_door = False  # see ports.venue.TradingVenue; for a subclass that awaits the departure to say otherwise

    def __init__(self, account_id: str, clock: Clock, timeouts: Timeouts | None) -> None:
        self._account_id = account_id
        self._clock = clock
        self._timeouts = timeouts or Timeouts()
        self._tracker = OrderTracker(self._on_word)
        self._outbox = EventOutbox()
        self._on_state: StateSink | None = None
        self._opening = False
        self._connected = False
        self._words: dict[str, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.refused: Counter[str] = Counter()
        self.last_refusal = ""

    @property
    def account_id(self) -> str:
        """The account it trades for."""
        return self._account_id

    @property
    def venue(self) -> str:
        """The venue whose instruments it trades."""
        return self.ABILITIES.venue

    @property
    def late_s(self) -> float:
        """Seconds for which an order that was sent may still arrive."""
        return LATE_S

    # ---- what a venue does for itself -----------------------------------------------------------------------------

    async def open(self) -> None:
        """Make the client, set the clock and try the keys. Raises VenueError."""
        raise NotImplementedError

    async def listen(self) -> None:
        """Begin to look after orders, and to hear of them: the connection is there."""
        raise NotImplementedError

    async def hang_up(self) -> None:
        """End the streams; safe where there are none."""
        raise NotImplementedError

    async def shut(self) -> None:
        """End connections; safe where there are none."""
        raise NotImplementedError

    async def place(self, order: Order) -> None:
        """Send a new order, and post what is answered. Raises VenueError but VenueRejected, which is posted."""
        raise NotImplementedError

    # ---- connection -----------------------------------------------------------------------------------------------

    async def connect(self, sink: OrderSink, on_state: StateSink | None = None) -> None:
        """Try the keys, and start what tells of orders; while connected, change the sinks alone.

        Raises VenueUnavailable, and VenueRejected where the keys are not accepted.
        """
        title = self.ABILITIES.title
        if self._connected:
            self._on_state = on_state
            self._outbox.open(sink)
            return
        if self._opening:
            raise VenueUnavailable(f"{title} is connecting already")
        self._opening = True
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                await self.open()
        except (TimeoutError, VenueTimeout) as error:
            await self.close()
            reason = str(error) or f"nothing came within {self._timeouts.connect_s:g} s"
            raise VenueUnavailable(f"{title} cannot be connected to: {reason}") from error
        except BaseException:
            await self.close()
            raise
        self._on_state, self._connected = on_state, True
        self._outbox.open(sink)
        await self.listen()

    async def close(self) -> None:
        """End connections; orders stay as they are. Safe to call twice."""
        self._outbox.close()
        self._connected = self._opening = False
        self._on_state = None
        await self.hang_up()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.shut()

    def _require_connection(self) -> None:
        if not self._connected:
            raise VenueUnavailable(f"{self.ABILITIES.title} is not connected: nothing was sent")

    # ---- orders ---------------------------------------------------------------------------------------------------

    async def submit(self, order: Order) -> None:
        """Send a new order. It is over with the venue's answer, or with the first word of it on a private stream.

        Raises VenueUnavailable when it was certainly not sent and VenueTimeout when that is not known.
        """
        self._require_connection()
        key = order.client_order_id
        self._tracker.sending(order)
        word = self._words[key] = asyncio.get_running_loop().create_future()
        sending = self._start(self.place(order), f"submit {key}")
        try:
            await asyncio.wait((sending, word), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                self._judge(key, sending)
        except asyncio.CancelledError:
            sending.cancel()
            raise
        finally:
            del self._words[key]
            self._outbox.post(self._tracker.released(key))

    def _judge(self, key: str, sending: asyncio.Task[None]) -> None:
        """Raise what became of a submit, unless the venue has spoken of the order by itself meanwhile."""
        try:
            if sending.cancelled():
                raise VenueTimeout(f"the connection was closed before {self.ABILITIES.title} had answered {key}")
            sending.result()
        except VenueError as error:
            if self._tracker.is_accepted(key):
                return
            if isinstance(error, VenueUnavailable):
                self._tracker.absent(key)
            raise

    def _on_word(self, client_order_id: str) -> None:
        word = self._words.get(client_order_id)
        if word is not None and not word.done():
            word.set_result(None)

    # ---- state and tasks ------------------------------------------------------------------------------------------

    def _note(self, kind: str, error: Exception) -> None:
        self.refused[kind] += 1
        self.last_refusal = f"{kind}: {error}"

    def _tell_state(self, state: VenueState, reason: str) -> None:
        if self._on_state is not None:
            asyncio.get_running_loop().call_soon(self._on_state, state, reason)

    def _start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.create_task(coroutine, name=f"{name} ({self._account_id})")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.last_refusal = str(task.exception())  # whoever awaited it has been told
