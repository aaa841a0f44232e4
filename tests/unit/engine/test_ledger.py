from __future__ import annotations

from decimal import Decimal

import msgspec

from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Liquidity
from koc_qt.engine.ledger import DAY_NS, Ledger
from koc_qt.engine.store import Store
from tests.fakes.clock import FakeClock
from tests.fakes.trading import BTC, BTC_RULES, quote

NOON_NS = 1_700_000_000_000_000_000 // DAY_NS * DAY_NS + DAY_NS // 2


def fill(number: int, side: Side, price: str, time_ns: int, owner: str = "sma") -> Fill:
    one = Decimal(1)
    return Fill(
        f"f{number}", "o", owner, "sim", BTC, side, Decimal(price), one, Decimal(0), "USDT", Liquidity.TAKER, time_ns
    )


def make(clock: FakeClock) -> tuple[Store, Ledger]:
    store = Store()
    store.instruments[BTC] = BTC_RULES
    return store, Ledger(store, clock)


def test_a_fill_counts_once() -> None:
    store, ledger = make(FakeClock(NOON_NS))
    buy = fill(1, Side.BUY, "100", NOON_NS)
    assert ledger.record(buy)
    assert not ledger.record(buy)
    assert ledger.position("sma", "sim", BTC).quantity == 1
    assert list(store.fills) == [buy]
    assert (ledger.trades("sma"), ledger.trades("other"), ledger.trades()) == (1, 0, 1)


def test_the_same_fill_id_on_another_account_is_another_fill() -> None:
    _, ledger = make(FakeClock(NOON_NS))
    buy = fill(1, Side.BUY, "100", NOON_NS)
    assert ledger.record(buy)
    assert ledger.record(msgspec.structs.replace(buy, account_id="other"))


def test_profit_of_the_day_begins_at_midnight() -> None:
    clock = FakeClock(NOON_NS)
    store, ledger = make(clock)
    ledger.record(fill(1, Side.BUY, "100", NOON_NS))
    store.quotes[BTC] = quote("110", "110")
    assert ledger.daily_pnl("sma") == 10
    clock.advance(DAY_NS / 1e9)
    assert ledger.daily_pnl("sma") == 0
    store.quotes[BTC] = quote("105", "105")
    assert ledger.daily_pnl("sma") == -5
    assert ledger.total("sma") == 5


def test_a_restart_remembers_what_was_lost_today() -> None:
    """A daily loss limit that a restart resets would be no limit."""
    _, ledger = make(FakeClock(NOON_NS))
    yesterday, today = NOON_NS - DAY_NS, NOON_NS - 1
    ledger.restore(
        (
            fill(1, Side.BUY, "100", yesterday),
            fill(2, Side.SELL, "150", yesterday),
            fill(3, Side.BUY, "100", today),
            fill(4, Side.SELL, "70", today),
        )
    )
    assert ledger.daily_pnl("sma") == -30
    assert ledger.total("sma") == 20
    assert ledger.realised_net("sma") == 20
    assert ledger.daily_pnl("stranger") == 0


def test_positions_come_back_before_the_venue_names_its_instruments() -> None:
    store = Store()
    ledger = Ledger(store, FakeClock(NOON_NS))
    ledger.restore((fill(1, Side.BUY, "100", NOON_NS),))
    position = ledger.position("sma", "sim", BTC)
    assert (position.instrument.base, position.instrument.quote) == ("BTC", "USDT")
    store.instruments[BTC] = BTC_RULES
    assert ledger.position("sma", "sim", BTC) is position
    assert ledger.snapshot(position).unrealised_pnl == 0


def test_trades_from_before_the_start_are_no_trades_since_then() -> None:
    clock = FakeClock(NOON_NS)
    _, ledger = make(clock)
    ledger.restore(tuple(fill(number, Side.BUY, "100", NOON_NS - number) for number in range(60)))
    assert (ledger.trades("sma"), ledger.trades_per_hour("sma")) == (60, 0)
    ledger.record(fill(99, Side.BUY, "100", NOON_NS))
    clock.advance(360)
    assert ledger.trades_per_hour() == 10


def test_trades_per_hour() -> None:
    clock = FakeClock(NOON_NS)
    _, ledger = make(clock)
    for number in range(3):
        ledger.record(fill(number, Side.BUY, "100", NOON_NS))
    ledger.record(fill(9, Side.BUY, "100", NOON_NS, "other"))
    assert ledger.trades_per_hour("sma") == 180  # three within the first minute
    clock.advance(1800)
    assert ledger.trades_per_hour("sma") == 6
    assert ledger.trades_per_hour() == 8
    clock.advance(1801)
    assert ledger.trades_per_hour("sma") == 0
