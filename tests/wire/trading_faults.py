"""What a venue and the network between may do to orders, whatever the dialect; a venue's module joins by a subclass:

class TestKraken(TradingFaults):
    ORDER = "/0/private/AddOrder"
    @pytest_asyncio.fixture
    async def bench(self, tmp_path): ...  async with open_bench(KrakenTrading, kraken, tmp_path, "BTC/USD") as it: ...
"""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import ClassVar

import pytest

from koc_qt.adapters import ccxt_lookups
from koc_qt.domain.errors import VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.orders import Liquidity, Order, OrderStatus, OrderType, TimeInForce
from koc_qt.domain.state import TradingMode, VenueState
from tests.conditions import stopwatch, until
from tests.wire.trading_bench import BUY, SELL, TradingBench, failure_of

ACCEPTED, FILLED, CANCELED = OrderStatus.ACCEPTED, OrderStatus.FILLED, OrderStatus.CANCELED
REJECTED = OrderStatus.REJECTED
CONNECTED, INTERRUPTED = VenueState.CONNECTED, VenueState.INTERRUPTED


class TradingFaults:
    """Tests of what a subclass's `bench` fixture yields."""

    ORDER: ClassVar[str]  # the path that orders are sent to
    RIGHTS: ClassVar[str]  # a word of the venue's for what a key may do
    HELD_S: ClassVar[float] = 10.0  # how long it is left alone after it asked for a pause of 30 s in its way

    def theirs(self, order: Order) -> str:
        """Give the id that the venue knows an order by."""
        return order.client_order_id

    # ---- answers that do not come -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("how", ["hang", "drop"])
    async def test_an_order_whose_answer_is_lost_is_looked_up_and_is_there_once(
        self, bench: TradingBench, how: str
    ) -> None:
        await bench.connect()
        bench.site.fault_silence()
        bench.site.fault_lose_answer("place", how=how)
        order = bench.new(BUY, "0.5", 90)
        error = await failure_of(bench.venue.submit(order))
        assert isinstance(error, VenueTimeout)
        report = await bench.look_up(order)
        assert report is not None
        assert report.status is ACCEPTED
        assert bench.now(order).status is ACCEPTED
        assert [each.client_id for each in bench.there] == [self.theirs(order)]
        assert bench.asked(f"POST {self.ORDER}") == 1, "an order is never sent twice"

    async def test_an_order_whose_answer_is_lost_is_over_with_the_stream_s_word(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_lose_answer("place")
        async with stopwatch() as watch:
            order = await bench.submit(BUY, "0.5", 101)
        assert watch.spent_s < 1.0, "it did not wait for the request's time to be up"
        await bench.reaches(order, FILLED)
        assert len(bench.there) == 1

    async def test_an_order_that_the_venue_never_got_is_absent(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_server_error(self.ORDER, times=1)
        order = bench.new(BUY, "0.5", 90)
        assert isinstance(await failure_of(bench.venue.submit(order)), VenueTimeout)
        assert await bench.look_up(order) is None
        assert bench.there == []

    async def test_a_web_page_instead_of_an_answer_says_so_and_nothing_of_itself(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_html(self.ORDER, times=1)
        error = await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
        assert isinstance(error, VenueTimeout)
        assert "web page" in str(error)
        assert "Sign in" not in str(error)

    async def test_nobody_listening_is_certainly_not_sent(self, bench: TradingBench) -> None:
        await bench.connect()
        await bench.server.stop()
        await bench.until_state(INTERRUPTED)
        error = await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
        assert isinstance(error, VenueUnavailable)
        assert "check the network" in str(error)

    async def test_a_cancel_whose_answer_is_lost_is_repeated(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.rests()
        bench.site.fault_lose_answer("cancel", how="drop")
        await bench.venue.cancel(order)
        await bench.reaches(order, CANCELED)
        assert [type(event).__name__ for event in bench.events].count("OrderCanceled") == 1

    # ---- limits and maintenance -------------------------------------------------------------------------------------

    async def test_a_venue_that_asks_for_a_pause_gets_it(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_rate_limit(retry_after_s=30)
        began_s = time.monotonic()
        error = await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
        assert isinstance(error, VenueUnavailable)
        held_s, passed_s = bench.venue.held_s, time.monotonic() - began_s
        assert self.HELD_S - 1 - passed_s < held_s <= self.HELD_S
        asked = len(bench.server.requests)
        if self.HELD_S > 4:
            refused = await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
            assert isinstance(refused, VenueUnavailable)
            assert refused.retry_after_s is not None
        assert len(bench.server.requests) == asked
        assert bench.there == []

    async def test_maintenance(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.rests()
        bench.site.fault_maintenance()
        sent = await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
        assert isinstance(sent, VenueTimeout | VenueUnavailable)
        assert "maintenance" in str(await failure_of(bench.venue.cancel(order)))
        another = bench.make()
        error = await failure_of(another.connect(bench.sink))
        assert isinstance(error, VenueUnavailable)
        assert "maintenance" in str(error)
        bench.site.fault_maintenance(False)
        await bench.venue.cancel(order)
        await bench.reaches(order, CANCELED)

    # ---- streams ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("mid_frame", [True, False])
    async def test_what_happens_while_the_stream_is_down_is_polled(self, bench: TradingBench, mid_frame: bool) -> None:
        await bench.connect()
        await bench.until_state(CONNECTED)
        order = await bench.rests(95)
        bench.site.fault_refuse_streams()
        bench.site.fault_drop("private", mid_frame=mid_frame)
        assert await bench.until_state(INTERRUPTED)
        bench.show(90, 91)
        await bench.reaches(order, FILLED)
        bench.site.fault_refuse_streams(False)
        await bench.until_state(CONNECTED)
        await bench.reaches(await bench.submit(BUY, "0.5", 91), FILLED)

    async def test_orders_work_without_any_stream(self, bench: TradingBench) -> None:
        bench.site.fault_refuse_streams()
        await bench.connect()
        assert await bench.until_state(INTERRUPTED)
        resting = await bench.rests(95)
        await bench.reaches(await bench.submit(BUY, "0.5"), FILLED)
        bench.show(94, 95)
        await bench.reaches(resting, FILLED)
        cancelled = await bench.rests(80)
        await bench.venue.cancel(cancelled)
        await bench.reaches(cancelled, CANCELED)

    async def test_many_orders_are_polled_by_their_list(self, bench: TradingBench) -> None:
        bench.site.fault_refuse_streams()
        await bench.connect()
        orders = [await bench.rests(80 + number) for number in range(8)]
        bench.show(84, 85)
        bench.exchange.cancel(bench.user, bench.there[0].id)
        await bench.reaches(orders[7], FILLED)
        await bench.reaches(orders[0], CANCELED)
        assert bench.now(orders[4]).status is ACCEPTED

    async def test_a_stream_whose_token_has_expired_gets_a_new_one(self, bench: TradingBench) -> None:
        """ccxt would go on with the old one."""
        await bench.connect()
        await bench.until_state(CONNECTED)
        order = await bench.rests(95)
        assert bench.site.fault_expire_tokens() == 1
        await bench.until_state(INTERRUPTED)
        await bench.until_state(CONNECTED)
        bench.show(94, 95)
        await bench.reaches(order, FILLED)

    async def test_repeated_and_reordered_frames_count_once(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.exchange.set_thin(bench.symbol, Decimal("0.2"))
        bench.site.fault_duplicate()
        bench.site.fault_reorder(6)
        order = await bench.submit(BUY, "1", 101)
        for _ in range(6):
            bench.show(100, 101, 1)
        await bench.reaches(order, FILLED)
        fills = bench.fills(order)
        assert len({fill.fill_id for fill in fills}) == len(fills)
        assert sum(fill.quantity for fill in fills) == 1

    async def test_a_frame_lost_in_silence_is_found_by_the_audit(
        self, bench: TradingBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ccxt_lookups, "AUDIT_S", 0.2)
        await bench.connect()
        order = await bench.rests(95)
        bench.site.fault_silence()
        bench.show(94, 95)
        await bench.reaches(order, FILLED)
        assert {state for state, _ in bench.states} == {CONNECTED}
        assert {fill.liquidity for fill in bench.fills(order)} == {Liquidity.MAKER}

    async def test_garbage_ends_nothing(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.rests(95)
        bench.site.fault_garbage()
        bench.show(94, 95)
        await bench.reaches(order, FILLED)

    async def test_an_order_of_an_earlier_session_goes_on(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.rests(95)
        await bench.venue.close()
        bench.venue = bench.make()
        await bench.connect()
        assert await bench.look_up(order) is not None
        bench.show(94, 95)
        await bench.reaches(order, FILLED)
        assert len(bench.fills(order)) == 1

    # ---- keys and clocks --------------------------------------------------------------------------------------------

    async def test_keys_with_blanks_around_them_work(self, bench: TradingBench) -> None:
        passphrase = f" {bench.owned.passphrase}\n"
        bench.venue = bench.make(key=f"  {bench.owned.key}\n", secret=f"\t{bench.owned.secret} ", passphrase=passphrase)
        await bench.connect()
        await bench.rests()

    @pytest.mark.parametrize("wrong", ["secret", "key", "swapped", "revoked", "expired", "address"])
    async def test_keys_that_do_not_open_are_refused_in_words(self, bench: TradingBench, wrong: str) -> None:
        key, secret = bench.owned.key, bench.owned.secret
        match wrong:
            case "secret":
                secret = secret[4:] + secret[:4]
            case "key":
                key = key[::-1]
            case "swapped":
                key, secret = secret, key
            case "revoked":
                bench.site.fault_key(key, revoked=True)
            case "expired":
                bench.site.fault_key(key, expires_ns=1)
            case "address":
                bench.site.fault_key(key, ips=["203.0.113.7"])
        venue = bench.make(key=key, secret=secret)
        error = await failure_of(venue.connect(bench.sink))
        assert isinstance(error, VenueRejected)
        assert "key" in str(error)
        assert key not in str(error)
        assert secret not in str(error)
        report = await bench.make(key=key, secret=secret).check()
        assert report.problem
        assert secret not in str(report)

    async def test_a_key_that_is_revoked_later_is_said_to_be(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_key(bench.owned.key, revoked=True)
        rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90), REJECTED)
        assert "does not accept the API key" in rejected.reason
        assert bench.venue.held_s == 0

    async def test_a_key_that_may_not_trade(self, bench: TradingBench) -> None:
        bench.site.fault_key(bench.owned.key, permissions=["read", "withdraw"])
        await bench.connect()
        rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90), REJECTED)
        assert "may not do this" in rejected.reason
        report = await bench.venue.check()
        assert (report.can_read, report.can_trade, report.can_withdraw) == (True, False, True)
        assert "may not trade" in report.problem
        assert any("withdraw" in warning for warning in report.warnings)

    async def test_a_check_tells_fees_latency_and_balances(self, bench: TradingBench) -> None:
        report = await bench.venue.check()
        assert report.problem == ""
        assert report.warnings == ()
        listing = bench.exchange.market(bench.symbol).listing
        assert (report.maker_fee, report.taker_fee) == (listing.maker_fee, listing.taker_fee)
        assert report.latency_ms is not None
        assert 0 < report.latency_ms < 1500
        assert self.RIGHTS in report.permissions
        assert {balance.currency for balance in report.balances} == {listing.quote, "BTC", "ETH"}

    @pytest.mark.parametrize("ahead_ms", [3_600_000, -3_600_000])
    async def test_the_venue_s_clock_is_what_counts(self, bench: TradingBench, ahead_ms: int) -> None:
        bench.site.fault_skew(ahead_ms)
        async with stopwatch() as watch:
            await bench.connect()
        await bench.rests()
        assert abs(bench.venue.time_ns() - bench.exchange.time_ns()) < 1_500_000_000 + watch.held_up_s * 1e9
        async with stopwatch() as watch:
            report = await bench.venue.check()
        assert report.clock_skew_ms == pytest.approx(ahead_ms, abs=1500 + watch.held_up_s * 1e3)
        assert any("clock" in warning for warning in report.warnings)

    async def test_there_is_no_testnet(self, bench: TradingBench) -> None:
        venue = bench.make(TradingMode.TESTNET)
        error = await failure_of(venue.connect(bench.sink))
        assert isinstance(error, VenueRejected)
        assert "no testnet" in str(error)
        assert bench.server.requests == []

    # ---- orders themselves ------------------------------------------------------------------------------------------

    async def test_amounts_arrive_digit_for_digit(self, bench: TradingBench) -> None:
        await bench.connect()
        await bench.rests(90.7, "1.00001")
        assert (bench.there[0].quantity, bench.there[0].price) == (Decimal("1.00001"), Decimal("90.7"))

    async def test_amounts_between_steps_are_refused_here(self, bench: TradingBench) -> None:
        await bench.connect()
        rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90.01), REJECTED)
        assert "price 90.01" in rejected.reason
        assert bench.asked(f"POST {self.ORDER}") == 0

    async def test_too_little_is_refused_with_the_reason(self, bench: TradingBench) -> None:
        await bench.connect()
        rejected = await bench.reaches(await bench.submit(BUY, "0.00001", 90), REJECTED)
        assert "check price, quantity and kind" in rejected.reason

    async def test_a_symbol_that_is_delisted_is_refused(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_trading(bench.symbol)
        rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90), REJECTED)
        assert "does not trade this symbol" in rejected.reason

    async def test_a_symbol_that_is_halted_is_refused(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_trading(bench.symbol, "closed")
        rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90), REJECTED)
        assert "not open now" in rejected.reason

    async def test_a_stop_limit_waits_then_rests(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.submit(SELL, "0.5", 96, stop_price=Decimal(95))
        await bench.reaches(order, ACCEPTED)
        bench.show(94, 95)
        await bench.reaches(order, OrderStatus.TRIGGERED)
        report = await bench.look_up(order)
        assert report is not None
        assert report.status is OrderStatus.TRIGGERED
        bench.show(97, 98)
        await bench.reaches(order, FILLED)
        assert {fill.price for fill in bench.fills(order)} == {Decimal(96)}

    async def test_a_stop_can_be_cancelled_before_and_after_it_went_off(self, bench: TradingBench) -> None:
        await bench.connect()
        waiting = await bench.submit(SELL, "0.5", stop_price=Decimal(90))
        resting = await bench.submit(SELL, "0.5", 97, stop_price=Decimal(95))
        for order in (waiting, resting):
            await bench.reaches(order, ACCEPTED)
        listed = {each.client_order_id or each.venue_order_id: each for each in await bench.venue.open_orders()}
        assert {each.stop_price for each in listed.values()} == {Decimal(90), Decimal(95)}
        assert {each.type for each in listed.values()} == {OrderType.STOP, OrderType.STOP_LIMIT}
        bench.show(94, 95)
        await bench.reaches(resting, OrderStatus.TRIGGERED)
        for order in (waiting, resting):
            await bench.venue.cancel(bench.now(order))
            await bench.reaches(order, CANCELED)

    async def test_a_stop_whose_answer_is_lost_is_found_after_it_went_off(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_silence()
        bench.site.fault_lose_answer("place", how="drop")
        order = bench.new(SELL, "0.5", stop_price=Decimal(95))
        assert isinstance(await failure_of(bench.venue.submit(order)), VenueTimeout)
        assert await bench.look_up(order) is not None
        bench.show(94, 95)
        report = await bench.look_up(order)
        assert report is not None
        assert report.status is FILLED
        assert bench.now(order).status is FILLED

    async def test_an_order_filled_in_parts_ends_after_the_last_of_them(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.show(100, 101, 1)
        order = await bench.submit(BUY, "1.5", 101, time_in_force=TimeInForce.IOC)
        ended = await bench.reaches(order, OrderStatus.EXPIRED)
        assert ended.filled_quantity == 1
        report = await bench.look_up(order)
        assert report is not None
        assert (report.status, len(report.fills)) == (OrderStatus.EXPIRED, len(bench.fills(order)))

    async def test_trades_and_open_orders_list_also_what_is_not_ours(self, bench: TradingBench) -> None:
        await bench.connect()
        since_ns = bench.venue.time_ns() - 60_000_000_000
        ours = await bench.submit(BUY, "0.5")
        await bench.reaches(ours, FILLED)
        at_once = {"time_in_force": TimeInForce.IOC}
        bench.exchange.place(
            bench.user, bench.symbol, SELL, OrderType.MARKET, Decimal(1), client_id="by-hand", **at_once
        )
        resting = await bench.rests(80)
        trades = await bench.venue.trades(since_ns)
        assert [trade.side for trade in trades] == [BUY, SELL]
        assert [trade.client_order_id for trade in trades] == [ours.client_order_id, ""]
        assert trades[0].fill_id == bench.fills(ours)[0].fill_id
        assert await bench.venue.trades(bench.venue.time_ns() + 60_000_000_000) == []
        (listed,) = await bench.venue.open_orders()
        assert listed.client_order_id == resting.client_order_id
        assert (listed.price, listed.quantity) == (Decimal(80), Decimal("0.5"))

    async def test_more_executions_than_fit_a_page_are_all_listed(self, bench: TradingBench) -> None:
        await bench.connect()
        since_ns = bench.venue.time_ns() - 60_000_000_000
        for _ in range(120):
            bench.exchange.place(
                bench.user, bench.symbol, BUY, OrderType.MARKET, Decimal("0.005"), time_in_force=TimeInForce.IOC
            )
        trades = await bench.venue.trades(since_ns)
        assert len(trades) == len({trade.fill_id for trade in trades}) == 120
        assert sum(trade.quantity for trade in trades) == Decimal("0.6")

    async def test_quick_orders_do_not_disturb_each_other(self, bench: TradingBench) -> None:
        """Requests of one key overtake each other on their way."""
        await bench.connect()
        orders = [bench.new(BUY, "0.01", 80 + number) for number in range(12)]
        await asyncio.gather(*(bench.venue.submit(order) for order in orders), bench.venue.balances())
        for order in orders:
            await bench.reaches(order, ACCEPTED)
        await asyncio.gather(*(bench.venue.cancel(bench.now(order)) for order in orders))
        for order in orders:
            await bench.reaches(order, CANCELED)
        await until(lambda: len(bench.there) == 12, what="twelve orders, each once")
