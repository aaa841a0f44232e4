"""The exchange core itself: its market is deterministic, its candles join, its accounts and orders add up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest

from koc_qt.domain.market import Book, Quote, Side, Trade
from koc_qt.domain.orders import OrderStatus, OrderType, TimeInForce
from koc_qt.domain.timeframes import SECOND_NS, duration_ns
from tests.fakes.clock import FakeClock
from tests.wire.core.accounts import READ, TRADE, ApiKey, KeyProblem, User
from tests.wire.core.history import MINUTE_NS, Candle
from tests.wire.core.listings import LISTINGS, Trading, listings
from tests.wire.core.market import MarketFact, book_changes
from tests.wire.core.orders import Happened, OrderUpdate, RefusedError, Why, WireFill, WireOrder
from tests.wire.core.rates import RateCounter
from tests.wire.exchange import Exchange

START_NS = 1_790_000_000_123_456_789
BTC = "BTC/USDT"
BUY, SELL, LIMIT, MARKET = Side.BUY, Side.SELL, OrderType.LIMIT, OrderType.MARKET
D = Decimal


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.updates: list[OrderUpdate] = []
        self.fills: list[WireFill] = []
        self.balances: list[set[str]] = []
        self.market: list[MarketFact] = []

    def on_order(self, update: OrderUpdate) -> None:
        self.updates.append(update)

    def on_fill(self, order: WireOrder, fill: WireFill) -> None:
        assert order.fills[-1] is fill
        self.fills.append(fill)

    def on_balance(self, user: User, currencies: set[str]) -> None:
        self.balances.append(currencies)

    def on_market(self, event: MarketFact) -> None:
        self.market.append(event)

    @property
    def happened(self) -> list[Happened]:
        return [update.what for update in self.updates]


class Bench:
    """An exchange whose clock is moved by hand, a person with an account, and what is heard."""

    def __init__(self, *, seed: int = 1, **options: object) -> None:
        self.clock = FakeClock(START_NS)
        self.exchange = Exchange("sim", listings(BTC, "ETH/USDT", "AAPL"), self.clock, seed=seed, **options)  # type: ignore[arg-type]
        self.key = ApiKey("key", "secret")
        self.user = self.exchange.add_user("ann", {"USDT": "100000", "BTC": "2"}, self.key)
        self.heard = Heard()
        self.exchange.listeners.append(self.heard)

    def show(self, bid: str = "100", ask: str = "101", size: str = "10") -> None:
        self.exchange.show(BTC, D(bid), D(ask), D(size))

    def flow(self, seconds: int, step_s: float = 0.1) -> None:
        for _ in range(int(seconds / step_s)):
            self.clock.advance(step_s)
            self.exchange.advance()

    def place(self, side: Side, quantity: str, price: str | None = None, **options: object) -> WireOrder:
        kind = MARKET if price is None else LIMIT
        limit = None if price is None else D(price)
        return self.exchange.place(self.user, BTC, side, kind, D(quantity), limit, **options)  # type: ignore[arg-type]

    def total(self, currency: str) -> Decimal:
        return self.user.balances()[currency].total

    def locked(self, currency: str) -> Decimal:
        return self.user.balances()[currency].locked


@pytest.fixture
def bench() -> Bench:
    return Bench()


# ---- the market -----------------------------------------------------------------------------------------------------


def test_the_same_seed_and_clock_give_the_same_market() -> None:
    benches = [Bench(), Bench(), Bench(seed=2)]
    for each in benches:
        each.flow(20)
    one, same, other = (each.heard.market for each in benches)
    assert one == same
    assert one != other
    assert {type(event) for event in one} == {Trade, Quote, Book}


def test_how_often_time_is_looked_at_changes_nothing() -> None:
    often, rarely = Bench(), Bench()
    often.flow(8, 0.05)
    rarely.flow(8, 4.0)
    for symbol in often.exchange.markets:
        of_symbol = [[e for e in b.heard.market if e.instrument.symbol == symbol] for b in (often, rarely)]
        assert of_symbol[0] == of_symbol[1]


def test_trades_print_at_the_quote_and_books_begin_with_it(bench: Bench) -> None:
    bench.flow(60)
    quote: Quote | None = None
    for event in (e for e in bench.heard.market if e.instrument.symbol == BTC):
        if isinstance(event, Quote):
            quote = event
        elif isinstance(event, Trade) and quote is not None:
            assert event.price == (quote.ask if event.side is BUY else quote.bid)
        elif isinstance(event, Book) and quote is not None:
            assert (event.bids[0].price, event.asks[0].quantity) == (quote.bid, quote.ask_size)
            assert all(one.price > other.price for one, other in pairwise(event.bids))
    assert len(bench.heard.market) > 500


def test_changes_lead_from_one_book_to_the_next(bench: Bench) -> None:
    bench.flow(30)
    books = [event for event in bench.heard.market if isinstance(event, Book) and event.instrument.symbol == BTC]
    sides: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})
    before: Book | None = None
    for book in books:
        for side, changes in zip(sides, book_changes(before, book), strict=True):
            side.update(changes)
        before = book
        kept = [{price: size for price, size in side.items() if size} for side in sides]
        assert kept == [{level.price: level.quantity for level in levels} for levels in (book.bids, book.asks)]


def whole(candles: Sequence[Candle]) -> tuple[Decimal, ...]:
    volume = sum((candle.volume for candle in candles), D(0))
    high, low = max(candle.high for candle in candles), min(candle.low for candle in candles)
    return candles[0].open, high, low, candles[-1].close, volume


@pytest.mark.parametrize(("longer", "shorter"), [("1m", "1s"), ("15m", "1m"), ("1h", "5m"), ("1d", "1h")])
def test_longer_candles_are_made_of_shorter_ones(bench: Bench, longer: str, shorter: str) -> None:
    market = bench.exchange.market(BTC)
    bench.flow(90)
    for open_ns in [candle.open_ns for candle in market.candles(longer, 0, START_NS * 2, limit=4, newest=True)]:
        inside = market.candles(shorter, open_ns, open_ns + duration_ns(longer))
        [one] = market.candles(longer, open_ns, open_ns + 1)
        assert whole(inside) == (one.open, one.high, one.low, one.close, one.volume)
        assert one.low <= min(one.open, one.close) <= max(one.open, one.close) <= one.high


def test_candles_are_counted_from_either_end_and_filled(bench: Bench) -> None:
    market = bench.exchange.market(BTC)
    since_ns = START_NS - 100 * MINUTE_NS
    first = market.candles("1m", since_ns, START_NS, limit=10)
    last = market.candles("1m", since_ns, START_NS, limit=10, newest=True)
    assert (len(first), len(last)) == (10, 10)
    assert since_ns <= first[0].open_ns < since_ns + MINUTE_NS
    assert START_NS - MINUTE_NS <= last[-1].open_ns <= START_NS
    every = market.candles("1s", START_NS - 30 * SECOND_NS, START_NS, fill=True)
    assert [later.open_ns - one.open_ns for one, later in pairwise(every)] == [SECOND_NS] * (len(every) - 1)
    assert market.candles("1h", START_NS + MINUTE_NS, START_NS * 2) == [], "nothing of the future"


def test_history_begins_with_the_listing() -> None:
    new = replace(LISTINGS[BTC], listed_ns=START_NS - 10 * MINUTE_NS)
    market = Exchange("sim", [new], FakeClock(START_NS)).market(BTC)
    assert 9 <= len(market.candles("1m", 0, START_NS)) <= 11


def test_a_machine_that_slept_does_not_catch_up(bench: Bench) -> None:
    bench.clock.advance(3600)
    bench.exchange.advance()
    assert bench.heard.market == []
    bench.flow(5)
    assert bench.heard.market


def test_a_shown_market_holds_until_released(bench: Bench) -> None:
    bench.show()
    heard = len(bench.heard.market)
    bench.flow(5)
    assert [e for e in bench.heard.market[heard:] if e.instrument.symbol == BTC] == []
    bench.exchange.market(BTC).release()
    bench.flow(5)
    assert [e for e in bench.heard.market[heard:] if e.instrument.symbol == BTC]


def test_a_skewed_clock_is_in_every_time(bench: Bench) -> None:
    bench.exchange.set_skew(3_600 * SECOND_NS)
    bench.flow(2)
    assert all(event.time_ns > START_NS + 3_599 * SECOND_NS for event in bench.heard.market)
    bench.show()
    assert bench.place(BUY, "1").created_ns == bench.exchange.time_ns() > START_NS + 3_600 * SECOND_NS


# ---- orders ---------------------------------------------------------------------------------------------------------


def test_a_taker_is_filled_and_told_in_order(bench: Bench) -> None:
    bench.show()
    order = bench.place(BUY, "1", client_id="mine")
    assert bench.heard.happened == [Happened.NEW, Happened.FILL]
    assert (order.status, order.average, order.fee) == (OrderStatus.FILLED, D(101), D("0.101"))
    assert (bench.total("BTC"), bench.total("USDT")) == (D(3), 100_000 - 101 - D("0.101"))
    assert bench.heard.balances[-1] == {"BTC", "USDT"}
    assert bench.exchange.find(bench.user, "mine") is bench.exchange.order(bench.user, order.id) is order
    assert bench.exchange.fills(bench.user) == [(order, bench.heard.fills[0])]


def test_resting_orders_lock_and_are_met_or_cancelled(bench: Bench) -> None:
    bench.show()
    stays, goes = bench.place(BUY, "1", "95"), bench.place(BUY, "1", "94")
    assert bench.locked("USDT") == (95 + 94) * D("1.001")
    bench.exchange.cancel(bench.user, goes.id)
    assert bench.exchange.orders(bench.user, is_open=True) == [stays]
    bench.show("90", "91")
    assert bench.exchange.orders(bench.user, is_open=True) == []
    assert bench.exchange.orders(bench.user, is_open=False) == [stays, goes]
    assert (stays.status, goes.status) == (OrderStatus.FILLED, OrderStatus.CANCELED)
    assert bench.locked("USDT") == 0
    with pytest.raises(RefusedError, match="canceled"):
        bench.exchange.cancel(bench.user, goes.id)


def test_a_stop_goes_off_at_what_is_shown_and_not_at_older_trades(bench: Bench) -> None:
    bench.flow(5)  # trades far above 95
    bench.show()
    stop = bench.exchange.place(bench.user, BTC, SELL, OrderType.STOP, D(1), stop_price=D(95))
    assert stop.status is OrderStatus.ACCEPTED
    bench.show("94", "95")
    assert bench.heard.happened == [Happened.NEW, Happened.TRIGGERED, Happened.FILL]
    assert stop.average == 94


def test_resting_orders_meet_the_moving_market() -> None:
    bench = Bench(rate=50)
    quote = bench.exchange.market(BTC).quote(START_NS)
    order = bench.exchange.place(bench.user, BTC, BUY, LIMIT, D("0.01"), quote.bid - 1)
    bench.flow(120)
    assert order.status is OrderStatus.FILLED
    assert {fill.price for fill in order.fills} == {quote.bid - 1}


@pytest.mark.parametrize(
    ("symbol", "quantity", "price", "why"),
    [
        ("XXX/USDT", "1", "90", Why.UNKNOWN_SYMBOL),
        (BTC, "1", "90.001", Why.TICK),
        (BTC, "1.000001", "90", Why.LOT),
        (BTC, "0.01", "90", Why.NOTIONAL),
        (BTC, "100000", "90", Why.FUNDS),
        (BTC, "0", "90", Why.INVALID),
    ],
)
def test_what_breaks_a_rule_is_refused_and_nothing_happens(
    bench: Bench, symbol: str, quantity: str, price: str, why: Why
) -> None:
    bench.show()
    with pytest.raises(RefusedError) as error:
        bench.exchange.place(bench.user, symbol, BUY, LIMIT, D(quantity), D(price))
    assert error.value.why is why
    assert bench.heard.updates == []
    assert bench.exchange.orders(bench.user) == []
    assert bench.locked("USDT") == 0


def test_what_only_matching_finds_may_be_told_later(bench: Bench) -> None:
    bench.show()
    order = bench.place(BUY, "1", "101", post_only=True, reject_later=True)
    assert order.status is OrderStatus.REJECTED
    assert bench.heard.happened == [Happened.REJECTED]
    with pytest.raises(RefusedError) as error:
        bench.place(BUY, "1", "101", post_only=True)
    assert error.value.why is Why.WOULD_TAKE


@pytest.mark.parametrize("for_ever", [False, True])
def test_client_ids_are_used_once(for_ever: bool) -> None:
    bench = Bench(client_ids_for_ever=for_ever)
    bench.show()
    order = bench.place(BUY, "1", "90", client_id="a")
    with pytest.raises(RefusedError, match="in use"):
        bench.place(BUY, "1", "90", client_id="a")
    bench.exchange.cancel(bench.user, order.id)
    if for_ever:
        with pytest.raises(RefusedError, match="in use"):
            bench.place(BUY, "1", "90", client_id="a")
    else:
        assert bench.exchange.find(bench.user, bench.place(BUY, "1", "90", client_id="a").client_id).is_open


def test_an_amended_order_keeps_its_id_and_fills(bench: Bench) -> None:
    bench.show(size="0.4")
    order = bench.place(BUY, "1", "101")
    assert order.filled == D("0.4")
    bench.exchange.amend(bench.user, order.id, D("1.5"), D("95"))
    assert (order.remaining, order.price, order.status) == (D("1.1"), D(95), OrderStatus.PARTIALLY_FILLED)
    assert bench.locked("USDT") == D("1.1") * 95 * D("1.001")
    bench.show("90", "91")
    assert (order.status, order.filled) == (OrderStatus.FILLED, D("1.5"))
    assert bench.heard.happened == [Happened.NEW, Happened.FILL, Happened.AMENDED, Happened.FILL]
    assert bench.total("BTC") == D("3.5")


def test_an_amendment_that_is_refused_changes_nothing(bench: Bench) -> None:
    bench.show()
    order = bench.place(BUY, "1", "90")
    for quantity, price in ((D(100_000), None), (None, D("90.001")), (D("1.000001"), None)):
        with pytest.raises(RefusedError):
            bench.exchange.amend(bench.user, order.id, quantity, price)
    assert (order.quantity, order.price, order.is_open) == (D(1), D(90), True)
    assert bench.locked("USDT") == 90 * D("1.001")
    assert bench.heard.happened == [Happened.NEW]
    bench.show("85", "86")
    assert order.status is OrderStatus.FILLED


def test_bounds_are_for_the_whole_order_not_for_the_rest_of_it(bench: Bench) -> None:
    bench.show(size="0.98")
    order = bench.place(BUY, "1", "101")
    bench.exchange.amend(bench.user, order.id, price=D("100.5"))
    assert order.remaining * D("100.5") < bench.exchange.market(BTC).listing.min_notional
    with pytest.raises(RefusedError, match="insufficient"):
        bench.exchange.amend(bench.user, order.id, D(5000))
    assert (order.is_open, order.quantity) == (True, D(1))
    bench.show("99", "100")
    assert order.status is OrderStatus.FILLED


def test_an_order_is_found_by_a_new_client_id(bench: Bench) -> None:
    bench.show()
    order, other = bench.place(BUY, "1", "90", client_id="a"), bench.place(BUY, "1", "90", client_id="b")
    bench.exchange.rename(order, "c")
    assert bench.exchange.find(bench.user, "c") is order
    with pytest.raises(RefusedError, match="unknown"):
        bench.exchange.find(bench.user, "a")
    with pytest.raises(RefusedError, match="in use"):
        bench.exchange.rename(other, "c")


async def test_what_a_listener_raises_is_not_lost(bench: Bench) -> None:
    def fail(event: MarketFact) -> None:
        raise ValueError("a bug of a dialect")

    bench.heard.on_market = fail  # type: ignore[method-assign]
    bench.clock.advance(1)
    bench.exchange.run()
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="a bug"):
        await bench.exchange.stop()


def test_by_cost_whole_lots_are_bought_through_the_levels(bench: Bench) -> None:
    before = bench.total("USDT")
    order = bench.exchange.place(bench.user, BTC, BUY, MARKET, cost=D(40_000), time_in_force=TimeInForce.IOC)
    assert len(order.fills) > 1
    assert D(39_000) < order.notional <= D(40_000)
    assert bench.total("USDT") == before - order.notional - order.fee


def test_a_thin_market_fills_in_part(bench: Bench) -> None:
    bench.show()
    bench.exchange.set_thin(BTC, D("0.3"))
    order = bench.place(BUY, "1", "101")
    assert order.filled == D("0.3")
    bench.exchange.set_thin(BTC, None)
    assert order.status is OrderStatus.FILLED


def test_delisting_cancels_and_closing_refuses(bench: Bench) -> None:
    bench.show()
    order = bench.place(BUY, "1", "90")
    bench.exchange.set_trading(BTC, Trading.CLOSED)
    with pytest.raises(RefusedError) as error:
        bench.place(BUY, "1", "90")
    assert error.value.why is Why.CLOSED
    assert order.is_open
    bench.exchange.set_trading(BTC, Trading.DELISTED)
    assert order.status is OrderStatus.CANCELED
    assert BTC not in [market.listing.symbol for market in bench.exchange.listed()]


def test_positions_and_shorts() -> None:
    bench = Bench()
    short = bench.exchange.add_user("sue", {"USD": "10000"}, allow_short=True)
    bench.exchange.show("AAPL", D(100), D(100), D(50))
    for side, quantity in ((BUY, 10), (SELL, 4), (SELL, 16)):
        bench.exchange.place(short, "AAPL", side, MARKET, D(quantity))
    assert bench.exchange.position(short, "AAPL") == (D(-10), D(100))
    assert short.balances()["AAPL"].total == -10
    assert bench.exchange.position(bench.user, "AAPL") == (D(0), None)


def test_one_persons_orders_are_not_anothers(bench: Bench) -> None:
    bench.show()
    other = bench.exchange.add_user("bob", {"USDT": "1000"})
    order = bench.place(BUY, "1", "90", client_id="mine")
    with pytest.raises(RefusedError, match="unknown"):
        bench.exchange.cancel(other, order.id)
    with pytest.raises(RefusedError, match="unknown"):
        bench.exchange.find(other, "mine")
    assert bench.exchange.orders(other) == []


# ---- keys, tokens, rates --------------------------------------------------------------------------------------------


def test_keys_say_why_they_do_not_open(bench: Bench) -> None:
    directory, key = bench.exchange.directory, bench.key
    assert directory.check("key", "1.1.1.1", START_NS, TRADE) == (bench.user, key)
    assert directory.check("other", "1.1.1.1", START_NS) is KeyProblem.UNKNOWN
    key.permissions = {READ}
    assert directory.check("key", "1.1.1.1", START_NS, TRADE) is KeyProblem.PERMISSION
    key.ips = {"2.2.2.2"}
    assert directory.check("key", "1.1.1.1", START_NS) is KeyProblem.IP
    key.expires_ns = START_NS
    assert directory.check("key", "2.2.2.2", START_NS) is KeyProblem.EXPIRED
    key.revoked = True
    assert directory.check("key", "2.2.2.2", START_NS) is KeyProblem.REVOKED
    assert [key.accept_nonce(nonce) for nonce in (5, 5, 4, 6)] == [True, False, False, True]


def test_tokens_expire(bench: Bench) -> None:
    directory = bench.exchange.directory
    directory.issue_token("t", bench.user, START_NS + 10)
    assert directory.token_user("t", START_NS) is bench.user
    assert directory.token_user("t", START_NS + 10) is None
    directory.issue_token("t", bench.user, START_NS + 10)
    directory.end_tokens()
    assert directory.token_user("t", START_NS) is None


def test_windows_begin_anew_and_buckets_leak() -> None:
    window, bucket = RateCounter(10, 60.0), RateCounter(10, 5.0, decays=True)
    at_ns = 120 * SECOND_NS
    assert [window.take("a", 5, at_ns) for _ in range(3)] == [0.0, 0.0, 60.0]
    assert window.take("b", 5, at_ns) == 0.0
    assert window.take("a", 5, at_ns + 60 * SECOND_NS) == 0.0
    assert [bucket.take("a", 5, at_ns) for _ in range(3)] == [0.0, 0.0, 2.5]
    assert bucket.left("a", at_ns + SECOND_NS) == 2.0
    assert bucket.take("a", 5, at_ns + 3 * SECOND_NS) == 0.0
