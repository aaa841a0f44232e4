"""Results of back-tests, fetched a page at a time: one with ten thousand trades holds up nobody's loop."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import msgspec

from koc_qt.domain.backtests import BacktestResult, RoundTrip
from koc_qt.domain.errors import LinkError
from koc_qt.domain.orders import Fill
from koc_qt.link.messages import BacktestHead, Command, FetchBacktest, FetchBacktestPage

T = TypeVar("T")


class Asking(Protocol):
    """Whoever can ask the engine: a LinkClient, or a Desk."""

    async def request(self, command: Command, *, timeout_s: float = 10.0) -> Any:
        """Have a command carried out, and give its answer. Raises KocError."""
        ...


async def fetch_result(
    client: Asking, backtest_id: str, *, with_fills: bool = False, timeout_s: float = 10.0
) -> BacktestResult:
    """Fetch what came of a run; without `with_fills` its `fills` stay empty. `timeout_s` is for each page.

    Raises what `request` raises, and LinkError for an answer that is no result.
    """

    async def ask(command: Command, kind: type[T]) -> T:
        return _read(await client.request(command, timeout_s=timeout_s), kind)

    head = await ask(FetchBacktest(backtest_id), BacktestHead)
    trades: list[RoundTrip] = []
    fills: list[Fill] = []
    for page in range(head.trade_pages):
        trades += await ask(FetchBacktestPage(backtest_id, "trades", page), list[RoundTrip])
    for page in range(head.fill_pages if with_fills else 0):
        fills += await ask(FetchBacktestPage(backtest_id, "fills", page), list[Fill])
    return msgspec.structs.replace(head.result, trades=trades, fills=fills)


def _read(value: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise LinkError(f"the engine's result cannot be read: {error}") from error
