"""Values that the domain's tests are made of."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Side, Trade
from koc_qt.domain.orders import Fill, Liquidity, Order, OrderFilled, OrderRequest, OrderType

D = Decimal
BTC = InstrumentId("sim", "BTC/USDT")
ETH = InstrumentId("sim", "ETH/USDT")
MINUTE_NS = 60_000_000_000
START_NS = 1_570_752_000_000_000_000  # 2019-10-11 00:00 UTC, a Friday


def instrument(**rules: Any) -> Instrument:
    rules = {"tick_size": D("0.01"), "lot_size": D("0.001")} | rules
    return Instrument(BTC, "BTC", "USDT", **rules)


def request(side: Side = Side.BUY, quantity: str = "10", price: str | None = None, **fields: Any) -> OrderRequest:
    kind = fields.pop("type", OrderType.MARKET if price is None else OrderType.LIMIT)
    return OrderRequest(BTC, side, kind, D(quantity), D(price) if price is not None else None, **fields)


def order(quantity: str = "10", **fields: Any) -> Order:
    asked = fields.pop("request", request(quantity=quantity, price="100"))
    return Order("koc1", "sma", "paper", asked, created_ns=1, updated_ns=1, **fields)


def fill(fill_id: str, quantity: str = "1", price: str = "100", **fields: Any) -> Fill:
    values: dict[str, Any] = {
        "client_order_id": "koc1",
        "strategy_id": "sma",
        "account_id": "paper",
        "instrument": BTC,
        "side": Side.BUY,
        "fee": D(0),
        "fee_currency": "USDT",
        "liquidity": Liquidity.TAKER,
        "time_ns": 5,
    }
    return Fill(fill_id=fill_id, price=D(price), quantity=D(quantity), **(values | fields))


def filled(fill_id: str, quantity: str = "1", price: str = "100", time_ns: int = 5, **fields: Any) -> OrderFilled:
    return OrderFilled("koc1", time_ns, fill(fill_id, quantity, price, **fields))


def trade(time_ns: int, price: str = "100", quantity: str = "1", **fields: Any) -> Trade:
    values: dict[str, Any] = {"instrument": BTC, "side": Side.BUY, "trade_id": str(time_ns)}
    return Trade(time_ns=time_ns, price=D(price), quantity=D(quantity), **(values | fields))


def bar(open_time_ns: int, timeframe: str = "1m", **fields: Any) -> Bar:
    values: dict[str, Any] = {"instrument": BTC, "open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0}
    return Bar(timeframe=timeframe, open_time_ns=open_time_ns, **(values | fields))
