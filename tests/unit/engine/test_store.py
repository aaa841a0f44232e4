"""What the engine knows: orders within limits, prices, and what strategies have earned."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from koc_qt.domain.market import Book, Side
from koc_qt.domain.orders import Order, OrderStatus
from koc_qt.engine import store as module
from koc_qt.engine.store import Store
from tests.fakes.market import trade
from tests.fakes.trading import BTC, BTC_RULES, ETH, ETH_RULES, NOW_NS, fill_of, limit_buy, quote


def order(number: int, status: OrderStatus = OrderStatus.ACCEPTED, owner: str = "sma") -> Order:
    return Order(f"o{number}", owner, "sim", limit_buy(), status=status, created_ns=NOW_NS, updated_ns=NOW_NS)


def test_orders_move_from_open_to_closed_and_count_once() -> None:
    store = Store()
    store.put_order(order(1))
    store.put_order(order(2, owner="other"))
    assert [o.client_order_id for o in store.open_orders()] == ["o1", "o2"]
    assert [o.client_order_id for o in store.open_orders("sma")] == ["o1"]
    store.put_order(order(1, OrderStatus.CANCELED))
    assert store.open_orders("sma") == []
    assert store.order("o1") == order(1, OrderStatus.CANCELED)
    assert store.order("o3") is None
    assert store.order_counts == {"sma": 1, "other": 1}
    store.put_order(order(1))  # a venue may take its word back
    assert store.open_orders("sma") == [order(1)]
    assert [o.client_order_id for o in store.recent_orders(5)] == ["o2", "o1"]
    assert store.order_counts == {"sma": 1, "other": 1}


def test_the_newest_closed_orders_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSED_ORDERS_KEPT", 3)
    store = Store()
    for number in range(5):
        store.put_order(order(number, OrderStatus.FILLED))
    store.put_order(order(9))
    assert [o.client_order_id for o in store.recent_orders(2)] == ["o3", "o4", "o9"]
    assert [o.client_order_id for o in store.recent_orders(99)] == ["o2", "o3", "o4", "o9"]
    assert store.order("o0") is None
    assert store.order_counts == {"sma": 6}


def test_prices() -> None:
    store = Store()
    store.instruments[BTC] = BTC_RULES
    assert store.instrument(BTC) is BTC_RULES
    assert store.instrument(ETH) is None
    assert store.mark(BTC) is None
    store.trades[BTC] = trade(NOW_NS, "101")
    assert store.mark(BTC) == 101
    store.quotes[BTC] = quote("99", "100")
    assert store.mark(BTC) == Decimal("99.5")
    store.books[BTC] = Book(BTC, NOW_NS, (), ())
    store.forget_market(BTC)
    store.forget_market(BTC)
    assert (store.mark(BTC), store.quotes, store.books, store.trades) == (None, {}, {}, {})


def test_profit_is_exact() -> None:
    store = Store()
    position = store.position("sma", "sim", BTC_RULES)
    assert store.position("sma", "sim", BTC_RULES) is position
    other = store.position("other", "sim", ETH_RULES)
    assert store.positions_of("sma") == [position]
    assert store.pnl([]) == (0, 0, 0)
    buy = fill_of(order(1), "0.3", "100.1", "f1", fee="0.000000012345")
    position.apply(buy)
    position.apply(
        msgspec.structs.replace(buy, fill_id="f2", side=Side.SELL, price=Decimal("100.3"), quantity=Decimal("0.1"))
    )
    assert store.pnl([position, other]) == (Decimal("0.02"), 0, Decimal("0.00000002469"))
    store.quotes[BTC] = quote("100.0", "100.1")
    assert store.pnl([position, other]) == (Decimal("0.02"), Decimal("-0.010"), Decimal("0.00000002469"))
    assert str(position.unrealised_pnl(Decimal("100.10000000"))) == "0E-9"  # fine in data
