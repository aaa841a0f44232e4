"""Back-tests of strategies that listen to quotes: made of bars, met by orders, and told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from koc_qt.domain.backtests import Engine
from koc_qt.domain.errors import StrategyError
from koc_qt.domain.market import Bar, Quote
from koc_qt.domain.orders import Fill
from koc_qt.sdk import Strategy
from koc_qt.sdk.channel import ReplayBars
from koc_qt.sdk.strategy import engines_of
from koc_qt.worker.engines import run_class
from koc_qt.worker.quoted import QuotedReplay, quote_at
from koc_qt.worker.replay import Replay
from tests.unit.sdk.desk import BTC, MINUTE_NS, OTHER
from tests.unit.worker.replays import SINCE_NS, bars, flat, start_replay, together


def message(*rows: tuple[float, float, float, float, float], row: int = 0, since: int = 0) -> ReplayBars:
    """Bars of open, high, low, close and volume, a minute each."""
    times = [SINCE_NS + (since + number) * MINUTE_NS for number in range(len(rows))]
    return ReplayBars(False, [row] * len(rows), times, *(list(column) for column in zip(*rows, strict=True)))


RISING = (100.0, 110.0, 95.0, 108.0, 400.0)
COLUMNS = ("open_time_ns", "open", "high", "low", "close", "volume")
FALLING = (108.0, 112.0, 90.0, 92.0, 0.0)


class Listener(Strategy):
    """Notes all that it hears."""

    def on_start(self) -> None:
        self.heard: list[Any] = []

    def on_quote(self, quote: Quote) -> None:
        self.heard.append(quote)

    def on_bar(self, bar: Bar) -> None:
        self.heard.append(bar)

    def on_fill(self, fill: Fill) -> None:
        self.heard.append(fill)


def play(strategy: Strategy, *messages: ReplayBars, **options: Any) -> tuple[QuotedReplay, list[str]]:
    lines: list[str] = []
    run = run_class(Engine.REPLAY, type(strategy))(
        strategy, start_replay(**options), lambda _, level, text: lines.append(f"{level} {text}")
    )
    assert isinstance(run, QuotedReplay)
    run.start()
    symbols = len(options.get("instruments", (BTC,)))
    run.warm_up(together(*(bars(flat(100), first=-1, row=row, warmup=True) for row in range(symbols))))  # the price
    for each in messages:
        run.play(each, lambda: 1)
    run.play_kept(lambda: 1)
    run.finish()
    return run, lines


def test_a_strategy_hears_of_each_bar_its_open_and_its_close_and_then_the_bar() -> None:
    strategy = Listener()
    run, lines = play(strategy, message(RISING, FALLING))
    quotes = [each for each in strategy.heard if isinstance(each, Quote)]
    assert [float(quote.bid) for quote in quotes] == [100, 108, 108, 92]
    assert all(quote.ask == quote.bid + BTC.tick_size for quote in quotes)
    assert [quote.time_ns - SINCE_NS for quote in quotes] == [1, MINUTE_NS, MINUTE_NS + 1, 2 * MINUTE_NS]
    assert [type(each) for each in strategy.heard] == 2 * [Quote, Quote, Bar]
    assert (run.bars, run.position_ns) == (2, SINCE_NS + 2 * MINUTE_NS)
    assert lines == ["INFO a back-test has bars alone: its quotes are the open and the close of each"]


def test_quotes_have_the_spread_and_our_share_of_the_volume_that_is_known() -> None:
    strategy = Listener()
    play(strategy, message(RISING, FALLING), spread=Decimal("0.01"), volume_fraction=Decimal("0.1"))
    first, close, known, silent = (each for each in strategy.heard if isinstance(each, Quote))
    assert (first.bid, first.ask) == (Decimal("99.5"), Decimal("100.5"))
    assert first.bid_size == silent.ask_size > 10**9
    assert close.bid_size == known.ask_size == Decimal(40)
    tiny = quote_at(start_replay(), 0, 1e-9, 0, Decimal(1))
    assert (tiny.bid, tiny.ask) == (BTC.tick_size, 2 * BTC.tick_size)


class Taker(Listener):
    """Buys at the open and sells at the close of the first bar."""

    def on_quote(self, quote: Quote) -> None:
        super().on_quote(quote)
        if len(self.heard) == 1:
            self.buy(1)
        elif self.position().quantity:
            self.close_position()


def test_what_is_ordered_at_the_open_meets_that_bar_and_at_the_close_the_next_one() -> None:
    run, _ = play(Taker(), message(RISING, (107.0, 112.0, 90.0, 92.0, 400.0)), fee=Decimal(0), spread=Decimal("0.01"))
    assert [(str(fill.side), fill.price, fill.time_ns - SINCE_NS) for fill in run.fills] == [
        ("buy", Decimal("100.5"), 1),
        ("sell", Decimal("106.46"), MINUTE_NS),  # 106.465, rounded against it
    ]


class Maker(Listener):
    """Rests below the market, with a stop below that once it is filled."""

    def on_quote(self, quote: Quote) -> None:
        super().on_quote(quote)
        if len(self.heard) == 1:
            self.buy(1, price=97, post_only=True)

    def on_fill(self, fill: Fill) -> None:
        super().on_fill(fill)
        if self.position().quantity > 0:
            self.sell(1, stop=94)


def test_what_rests_and_what_stops_meet_the_bar_by_the_rules_for_bars() -> None:
    run, _ = play(Maker(), message(RISING, (108.0, 112.0, 90.0, 92.0, 400.0)), fee=Decimal(0))
    buy, sell = run.fills
    assert (str(buy.side), buy.price, buy.time_ns) == ("buy", Decimal(97), SINCE_NS + 1)
    assert (str(sell.side), sell.price, sell.time_ns) == ("sell", Decimal(94), SINCE_NS + MINUTE_NS)


def test_nothing_is_heard_of_what_a_bar_does_after_it() -> None:
    """Two futures that part within a bar: until then a strategy hears the same."""
    heard = []
    for future in ((100.0, 150.0, 99.0, 140.0, 400.0), (100.0, 101.0, 50.0, 60.0, 1.0)):
        strategy = Listener()
        play(strategy, message(RISING, future))
        heard.append(strategy.heard[:4])  # up to the second open
    assert heard[0] == heard[1]


class Two(Listener):
    instruments_wanted = 2


def test_several_symbols_take_turns() -> None:
    first, second = message(RISING), message((100.0, 112.0, 90.0, 92.0, 0.0), row=1)
    both = ReplayBars(False, [0, 1], *(getattr(first, name) + getattr(second, name) for name in COLUMNS))
    strategy = Two()
    play(strategy, both, instruments=(BTC, OTHER))
    quotes = [each for each in strategy.heard if isinstance(each, Quote)]
    assert [quote.instrument for quote in quotes] == 2 * [BTC.id, OTHER.id]
    assert [float(quote.bid) for quote in quotes] == [100, 100, 108, 92]


class Gaps(Two):
    def on_quote(self, quote: Quote) -> None:
        ours, theirs = (self.last_quote(rules) for rules in self.instruments)
        assert ours is not None
        assert theirs is not None
        self.heard.append(ours.bid - theirs.bid)


def test_symbols_that_are_the_same_show_no_gap() -> None:
    rows = [RISING, FALLING, (92.0, 95.0, 91.0, 94.0, 1.0)]
    strategy = Gaps()
    play(strategy, together(message(*rows), message(*rows, row=1)), instruments=(BTC, OTHER))
    assert [gap for gap in strategy.heard if isinstance(gap, Decimal)] == 12 * [0]


def test_who_hears_what_is_run_by_whom() -> None:
    class Bars(Strategy):
        def on_bar(self, bar: Bar) -> None: ...

    class Trades(Strategy):
        def on_trade(self, trade: Any) -> None: ...

    class Quotes(Strategy):
        subscriptions = ("quotes", "trades")

        async def run(self, api: Any, data: Any) -> None: ...

    assert run_class(Engine.REPLAY, Bars) is Replay
    assert engines_of(Listener) == engines_of(Quotes) == engines_of(Two) == (Engine.REPLAY, Engine.BACKTRADER)
    assert engines_of(Trades) == ()
    with pytest.raises(StrategyError, match="Trades listens to trades: a back-test has bars alone"):
        run_class(Engine.REPLAY, Trades)(Trades(), start_replay(), lambda *_: None)
    _, lines = play(Quotes(), message(RISING))
    assert "WARNING a back-test has bars and quotes alone: the strategy hears no trades" in lines


def test_an_order_in_answer_to_each_refusal_is_ended() -> None:
    class Stubborn(Strategy):
        def on_quote(self, quote: Quote) -> None:
            self.buy(1, price=1)
            self.cancel_all()

        def on_order(self, order: Any) -> None:
            if not order.is_open:
                self.buy(1, price=1)
                self.cancel_all()

    with pytest.raises(StrategyError, match="between two bars"):
        play(Stubborn(), message(RISING))
