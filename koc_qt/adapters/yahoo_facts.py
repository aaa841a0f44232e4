"""What Yahoo sends, as domain facts: charts, and prices of the stream or of quotes that were asked for.

Yahoo has no list of instruments: the best known are built in, any other is described by its chart.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import ROUND_DOWN, Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from koc_qt.adapters.data_only import DAY_NS, S_NS, MalformedError, Row, Tape
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Quote, Trade

VENUE = "yahoo"
MS_NS = 1_000_000
MINUTE_NS = 60 * S_NS
_LATE_FROM_MIN = 3  # what is younger may have waited somewhere on its way
_CRYPTO = "CRYPTOCURRENCY"
_CRYPTO_TYPE = 41  # of the stream's messages
_MOST_DIGITS = 8
_DAY = timedelta(days=1)
_STOCK_LOT, _COIN_LOT = Decimal("0.000001"), Decimal("0.00000001")
_STOCKS = (
    *("AAPL", "MSFT", "NVDA", "AMZN", "GOOGL", "META", "TSLA", "AVGO", "BRK-B", "JPM", "V", "MA", "UNH", "XOM", "JNJ"),
    *("WMT", "PG", "HD", "COST", "KO", "PEP", "DIS", "NFLX", "AMD", "INTC", "ORCL", "CRM", "BAC"),
    *("SPY", "QQQ", "IWM", "DIA", "VTI", "GLD", "TLT"),
)
_COINS = {"BTC": 2, "ETH": 2, "SOL": 2, "LTC": 2, "XRP": 4, "ADA": 4, "DOGE": 4}  # and digits of their price
_INDICES = ["^GSPC", "^DJI", "^IXIC", "^RUT", "^VIX"]
_CURRENCIES = ("EURUSD=X", "GBPUSD=X", "AUDUSD=X")


def instrument(symbol: str, currency: str = "USD", digits: int = 2, *, is_coin: bool = False) -> Instrument:
    """Make a symbol's rules; `digits` are those of its price. Yahoo states no others."""
    tick = Decimal(1).scaleb(-min(max(digits, 0), _MOST_DIGITS))
    base = symbol.partition("-")[0] if is_coin else symbol
    lot = _COIN_LOT if is_coin else _STOCK_LOT
    return Instrument(InstrumentId(VENUE, symbol), base, currency, tick, lot)


def well_known() -> dict[str, Instrument]:
    """Give the symbols that are there without asking: large US companies, funds, indices, coins, currencies."""
    found = [instrument(symbol) for symbol in (*_STOCKS, *_INDICES)]
    found += [instrument(f"{coin}-USD", digits=digits, is_coin=True) for coin, digits in _COINS.items()]
    found += [instrument(symbol, digits=4) for symbol in _CURRENCIES]
    return {each.id.symbol: each for each in found}


def described(symbol: str, meta: Mapping[str, Any]) -> Instrument:
    """Read a chart's description of its symbol."""
    digits = meta.get("priceHint")
    return instrument(
        symbol,
        str(meta.get("currency") or "USD"),
        digits if isinstance(digits, int) else 2,
        is_coin=meta.get("instrumentType") == _CRYPTO,
    )


def chart_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the one result of a chart's answer. Raises MalformedError."""
    results = (body.get("chart") or {}).get("result") or ()
    if not results or not isinstance(results[0], dict) or not isinstance(results[0].get("meta"), dict):
        raise MalformedError("a chart without a result")
    chart: Mapping[str, Any] = results[0]
    return chart


def chart_rows(chart: Mapping[str, Any], *, by_day: bool) -> list[Row]:
    """Read a chart's rows, those of days by the exchange's date; Yahoo's volume of coins is in money."""
    times = chart.get("timestamp") or ()
    quotes: Mapping[str, Any] = ((chart.get("indicators") or {}).get("quote") or ({},))[0]
    columns = [quotes.get(name) or [] for name in ("open", "high", "low", "close", "volume")]
    if any(len(column) != len(times) for column in columns):
        raise MalformedError("a chart with columns of different lengths")
    meta = chart["meta"]
    zone, is_coin = _zone(meta), meta.get("instrumentType") == _CRYPTO
    rows: dict[int, Row] = {}
    for time_s, opened, high, low, close, volume in zip(times, *columns, strict=True):
        open_ns = int(time_s) * S_NS
        if by_day:
            day = datetime.fromtimestamp(int(time_s), zone).replace(tzinfo=UTC)
            open_ns = int(day.timestamp()) * S_NS // DAY_NS * DAY_NS
        if is_coin and volume is not None and close:
            volume = volume / close
        rows.setdefault(open_ns, (open_ns, opened, high, low, close, volume))  # today comes twice sometimes
    return [rows[open_ns] for open_ns in sorted(rows)]


def _zone(meta: Mapping[str, Any]) -> tzinfo:
    try:
        return ZoneInfo(str(meta.get("exchangeTimezoneName")))
    except (ZoneInfoNotFoundError, ValueError):
        return timezone(timedelta(seconds=int(meta.get("gmtoffset") or 0)))


@dataclass(frozen=True)
class Price:
    """One message of prices; zero is what it does not tell. `day_volume` is in money for coins.

    `late_min` is by how many minutes the exchange's data come late; None where Yahoo does not say it.
    """

    symbol: str
    time_ns: int
    price: Decimal
    day_volume: Decimal
    last_size: Decimal = Decimal(0)
    bid: Decimal = Decimal(0)
    bid_size: Decimal = Decimal(0)
    ask: Decimal = Decimal(0)
    ask_size: Decimal = Decimal(0)
    is_coin: bool = False
    late_min: int | None = None


def read_message(message: str | bytes, pricing: Any) -> Price | None:
    """Read a frame of the stream; `pricing` is yfinance's PricingData. None for one that is of something else.

    Raises MalformedError. Prices are 32 bits wide there: the shortest decimal that is the same number is meant.
    """
    try:
        said = json.loads(message)
        if said.get("type", "pricing") != "pricing":
            return None
        data = pricing()
        data.ParseFromString(base64.b64decode(said["message"], validate=True))
    except Exception as error:  # protobuf's own errors have no common base across its implementations
        raise MalformedError(f"{type(error).__name__}: {error}") from error
    if not data.id or data.time <= 0 or not data.price > 0:
        raise MalformedError(f"{data.id!r} at {data.time} for {data.price}")
    return Price(
        data.id,
        data.time * MS_NS,
        _narrow(data.price),
        Decimal(data.day_volume),
        Decimal(data.last_size),
        _narrow(data.bid),
        Decimal(data.bid_size),
        _narrow(data.ask),
        Decimal(data.ask_size),
        data.quote_type == _CRYPTO_TYPE,
    )


def _narrow(value: float) -> Decimal:
    import numpy as np

    return Decimal(str(np.float32(value)))


def read_quotes(body: Mapping[str, Any]) -> Sequence[Price]:
    """Read the answer to a question for quotes. Raises MalformedError."""
    rows = (body.get("quoteResponse") or {}).get("result")
    if not isinstance(rows, list):
        raise MalformedError("quotes without a result")
    prices = []
    for row in rows:
        price, time_s = row.get("regularMarketPrice"), row.get("regularMarketTime")
        if not price or not isinstance(time_s, int):
            continue  # it has never been traded
        sizes = {name: Decimal(row.get(key) or 0) for name, key in _QUOTE_FIELDS}
        is_coin, late = row.get("quoteType") == _CRYPTO, row.get("exchangeDataDelayedBy")
        late_min = late if isinstance(late, int) and late >= 0 else None
        prices.append(
            Price(str(row["symbol"]), time_s * S_NS, Decimal(price), is_coin=is_coin, late_min=late_min, **sizes)
        )
    return prices


_QUOTE_FIELDS = (
    ("day_volume", "regularMarketVolume"),
    ("bid", "bid"),
    ("bid_size", "bidSize"),
    ("ask", "ask"),
    ("ask_size", "askSize"),
)


class Prices:
    """Makes facts of a symbol's messages: the volume that came since the last one is a trade at its price."""

    def __init__(self, rules: Instrument) -> None:
        self._rules = rules
        self._volume: Decimal | None = None
        self._time_ns = 0

    def late_min(self, said: Price, now_ns: int) -> int | None:
        """Give by how many minutes a message comes late, 0 for in time; None where that cannot be told.

        The stream does not say it: it shows in the age of what is new. What was there before may be of long ago.
        """
        if said.late_min is not None:
            return said.late_min
        if not self._time_ns or said.time_ns <= self._time_ns:
            return None
        minutes = (now_ns - said.time_ns) // MINUTE_NS
        return minutes if minutes >= _LATE_FROM_MIN else 0

    def facts(self, said: Price, tape: Tape) -> Sequence[Trade | Quote]:
        """Give what a message tells: a quote where it has bid and ask with sizes, a trade where volume has come.

        Messages out of order tell nothing. The first one is a trade where it names the size of the last.
        """
        if said.time_ns < self._time_ns:
            return ()
        self._time_ns = said.time_ns
        found: list[Trade | Quote] = []
        bid, ask = self._rules.round_price(said.bid), self._rules.round_price(said.ask)
        if 0 < bid < ask and said.bid_size > 0 and said.ask_size > 0:
            found.append(Quote(self._rules.id, said.time_ns, bid, said.bid_size, ask, said.ask_size))
        price = self._rules.round_price(said.price)
        quantity = self._quantity(said)
        if quantity > 0 and price > 0:
            trade_id = f"{said.time_ns // MS_NS}-{said.day_volume:f}"
            found.append(Trade(self._rules.id, said.time_ns, price, quantity, tape.side(price), trade_id))
        return found

    def _quantity(self, said: Price) -> Decimal:
        before, self._volume = self._volume, said.day_volume
        if before is None or said.day_volume < before:  # the first message, or a new day
            return said.last_size if not said.is_coin else Decimal(0)
        came = said.day_volume - before
        if said.is_coin:
            came /= said.price
        lots = (came / self._rules.lot_size).quantize(Decimal(1), ROUND_DOWN)
        return lots * self._rules.lot_size
