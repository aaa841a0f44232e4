"""Asking for pages of bars, and days of crypto made of hours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from koc_qt.adapters.venues.alpaca.abilities import is_crypto
from koc_qt.adapters.venues.alpaca.facts import rfc3339
from koc_qt.domain.market import Bar
from koc_qt.domain.timeframes import bar_open_ns

BARS_PER_PAGE = 10_000
_NAMES = {"m": "Min", "h": "Hour", "d": "Day"}
_NEW_YORK_NS = 5 * 3_600_000_000_000  # a stock's day begins so long after midnight UTC at most


def page_request(symbol: str, timeframe: str, since_ns: int, end_ns: int, token: str) -> tuple[str, dict[str, Any]]:
    """Give path and parameters for a page of bars with since <= open time < end; `token` is the last page's."""
    shift_ns = _NEW_YORK_NS if timeframe == "1d" else 0
    parameters: dict[str, Any] = {
        "symbols": symbol,
        "timeframe": f"{timeframe[:-1]}{_NAMES[timeframe[-1]]}",
        "start": rfc3339(since_ns),
        "end": rfc3339(end_ns - 1 + shift_ns),
        "limit": BARS_PER_PAGE,
        "sort": "asc",
    }
    if token:
        parameters["page_token"] = token
    if is_crypto(symbol):
        return "/crypto/us/bars", parameters
    return "/stocks/bars", {**parameters, "feed": "iex", "adjustment": "raw"}


async def collect_days(pages: AsyncIterator[list[Bar]]) -> AsyncIterator[list[Bar]]:
    """Give the days that hours make, UTC; the pages end with a whole day."""
    day: Bar | None = None
    async for hours in pages:
        whole: list[Bar] = []
        for hour in hours:
            open_ns = bar_open_ns(hour.open_time_ns, "1d")
            if day is not None and day.open_time_ns == open_ns:
                day = msgspec.structs.replace(
                    day,
                    high=max(day.high, hour.high),
                    low=min(day.low, hour.low),
                    close=hour.close,
                    volume=day.volume + hour.volume,
                )
            else:
                if day is not None:
                    whole.append(day)
                day = msgspec.structs.replace(hour, timeframe="1d", open_time_ns=open_ns)
        if whole:
            yield whole
    if day is not None:
        yield [day]
