"""Finding an instrument by what a person types of its name."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Iterable
from functools import lru_cache

from koc_qt.domain.errors import InvalidOrder, VenueError, VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.engine.market_data import MarketData
from koc_qt.engine.store import Store

LIMIT = 1_000  # instruments an answer
LONGEST_TEXT = 100
READY_TIMEOUT_S = 8.0  # less than clients wait for an answer
_IGNORED = str.maketrans("", "", "/-_:. ")  # so that btcusdt finds BTC/USDT


class Catalogue:
    """Searches the instruments of connected venues."""

    def __init__(self, store: Store, market_data: MarketData, *, ready_timeout_s: float = READY_TIMEOUT_S) -> None:
        self._store = store
        self._market_data = market_data
        self._ready_timeout_s = ready_timeout_s

    async def find(self, venue: str, text: str, limit: int) -> list[Instrument]:
        """Give up to `limit` instruments of a venue, or of all for an empty one, whose symbol contains `text`.

        Case and separators make no difference. The best come first: the symbol itself, then those of which the text is
        the base, then those that begin with it, then the rest; within each by symbol. A venue that lists only a part of
        what it has is asked for the text as a symbol. Raises InvalidOrder on arguments out of range, and
        VenueUnavailable for an unknown venue and one that is not connected in time.
        """
        if not 1 <= limit <= LIMIT:
            raise InvalidOrder(f"ask for 1 to {LIMIT} instruments, not {limit}")
        if len(text) > LONGEST_TEXT:
            raise InvalidOrder(f"a text to look for has {LONGEST_TEXT} characters at most, not {len(text)}")
        await self._wait_ready(venue)
        found = best(self._listed(venue), text, limit)
        if venue and text.strip() and not any(_plain(one.id.symbol) == _plain(text) for one in found):
            with contextlib.suppress(VenueError, TimeoutError):  # what is listed is an answer as well
                async with asyncio.timeout(self._ready_timeout_s):
                    if await self._market_data.look_up(InstrumentId(venue, text.strip().upper())) is not None:
                        found = best(self._listed(venue), text, limit)
        return found

    def _listed(self, venue: str) -> Iterable[Instrument]:
        return (one for one in self._store.instruments.values() if venue in ("", one.id.venue))

    async def _wait_ready(self, venue: str) -> None:
        if venue:
            await self._market_data.wait_ready(venue, self._ready_timeout_s)
        elif not self._store.instruments:
            names = self._market_data.venues
            waits = [asyncio.create_task(self._market_data.wait_ready(name, self._ready_timeout_s)) for name in names]
            if not waits:
                raise VenueUnavailable("this engine has no venues: enable one in koc.yaml")
            try:
                # One is enough: a venue that is out of reach must not keep the others from being chosen from.
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                outcomes = await asyncio.gather(*waits, return_exceptions=True)
            if not self._store.instruments:
                raise next(outcome for outcome in outcomes if isinstance(outcome, VenueUnavailable))


def best(instruments: Iterable[Instrument], text: str, limit: int) -> list[Instrument]:
    """Give those whose symbol contains `text`, the best match first."""
    wanted = _plain(text)
    ranked = (
        (rank, instrument.id.symbol, instrument.id.venue, number, instrument)
        for number, instrument in enumerate(instruments)
        if (rank := _rank(instrument, wanted)) is not None
    )
    return [found[-1] for found in heapq.nsmallest(limit, ranked)]


def _rank(instrument: Instrument, wanted: str) -> int | None:
    symbol = _plain(instrument.id.symbol)
    if wanted not in symbol:
        return None
    if wanted == symbol:
        return 0
    if wanted == _plain(instrument.base):
        return 1
    return 2 if symbol.startswith(wanted) else 3


@lru_cache(maxsize=16_384)  # a person types letter by letter, and thousands of symbols stay the same
def _plain(text: str) -> str:
    return text.translate(_IGNORED).casefold()
