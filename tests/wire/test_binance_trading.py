"""What Binance and the network between may do to orders, and what becomes of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio

from koc_qt.adapters import ccxt_account, ccxt_lookups
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.binance import BinanceTrading
from koc_qt.domain.errors import ConfigError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.orders import Liquidity, Order, OrderStatus, OrderType, TimeInForce
from koc_qt.domain.state import TradingMode, VenueState
from koc_qt.ports.secrets import Credentials
from tests.conditions import stopwatch, until
from tests.wire.trading_bench import BUY, SELL, TradingBench, failure_of, open_bench
from tests.wire.venues import binance

ORDER = "/api/v3/order"
ACCEPTED, FILLED, CANCELED = OrderStatus.ACCEPTED, OrderStatus.FILLED, OrderStatus.CANCELED
CONNECTED, INTERRUPTED = VenueState.CONNECTED, VenueState.INTERRUPTED


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[TradingBench]:
    async with open_bench(BinanceTrading, binance, tmp_path) as bench:
        yield bench


# ---- answers that do not come -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["hang", "drop"])
async def test_an_order_whose_answer_is_lost_is_looked_up_and_is_there_once(bench: TradingBench, how: str) -> None:
    await bench.connect()
    bench.site.fault_silence()
    bench.site.fault_lose_answer("place", how=how)
    order = bench.new(BUY, "0.5", 90)
    error = await failure_of(bench.venue.submit(order))
    assert isinstance(error, VenueTimeout)
    assert "not known yet" in str(error)
    report = await bench.look_up(order)
    assert report is not None
    assert report.status is ACCEPTED
    assert bench.now(order).status is ACCEPTED
    assert [each.client_id for each in bench.there] == [order.client_order_id]
    assert bench.asked(f"POST {ORDER}") == 1, "an order is never sent twice"


async def test_an_order_whose_answer_is_lost_is_over_with_the_stream_s_word(bench: TradingBench) -> None:
    await bench.connect()
    bench.site.fault_lose_answer("place")
    async with stopwatch() as watch:
        order = await bench.submit(BUY, "0.5", 101)
    assert watch.spent_s < 1.0, "it did not wait for the request's time to be up"
    await bench.reaches(order, FILLED)
    assert len(bench.there) == 1


async def test_an_order_that_the_venue_never_got_is_absent(bench: TradingBench) -> None:
    await bench.connect()
    bench.site.fault_server_error(ORDER, times=1)
    order = bench.new(BUY, "0.5", 90)
    error = await failure_of(bench.venue.submit(order))
    assert isinstance(error, VenueTimeout)
    assert await bench.look_up(order) is None
    assert bench.there == []


async def test_a_web_page_instead_of_an_answer_says_so_and_nothing_of_itself(bench: TradingBench) -> None:
    await bench.connect()
    bench.site.fault_html(ORDER, times=1)
    error = await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
    assert isinstance(error, VenueTimeout)
    assert "web page" in str(error)
    assert "Sign in" not in str(error)


async def test_nobody_listening_is_certainly_not_sent(bench: TradingBench) -> None:
    await bench.connect()
    await bench.server.stop()
    await bench.until_state(INTERRUPTED)
    order = bench.new(BUY, "0.5", 90)
    error = await failure_of(bench.venue.submit(order))
    assert isinstance(error, VenueUnavailable)
    assert "check the network" in str(error)


async def test_a_cancel_whose_answer_is_lost_is_repeated(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.rests()
    bench.site.fault_lose_answer("cancel", how="drop")
    await bench.venue.cancel(order)
    await bench.reaches(order, CANCELED)
    assert [type(event).__name__ for event in bench.events].count("OrderCanceled") == 1


async def test_closing_while_an_answer_is_awaited_leaves_the_fate_open(bench: TradingBench) -> None:
    await bench.connect()
    bench.site.fault_silence()
    bench.site.fault_lose_answer("place")
    sending = asyncio.create_task(bench.venue.submit(bench.new(BUY, "0.5", 90)))
    await until(lambda: bench.there, what="the order to be there")
    await bench.venue.close()
    with pytest.raises(VenueTimeout, match="closed before"):
        await sending


async def test_a_submit_that_is_cancelled_cancels_its_request(bench: TradingBench) -> None:
    await bench.connect()
    bench.site.fault_silence()
    bench.site.fault_lose_answer("place")
    sending = asyncio.create_task(bench.venue.submit(bench.new(BUY, "0.5", 90)))
    await until(lambda: bench.there, what="the order to be there")
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


# ---- limits, breakers, maintenance --------------------------------------------------------------------------------


@pytest.mark.parametrize("banned", [False, True])
async def test_a_venue_that_asks_for_a_pause_gets_it(bench: TradingBench, banned: bool) -> None:
    await bench.connect()
    bench.site.fault_rate_limit(retry_after_s=30, banned=banned)
    began_s = time.monotonic()
    error = await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
    assert isinstance(error, VenueUnavailable)
    assert "wait 30 s" in str(error)
    held_s, passed_s = bench.venue.held_s, time.monotonic() - began_s
    assert 29 - passed_s < held_s <= 30
    asked = len(bench.server.requests)
    for call in (bench.venue.submit(bench.new(BUY, "0.5", 90)), bench.venue.balances()):
        refused = await failure_of(call)
        assert isinstance(refused, VenueUnavailable)
        assert refused.retry_after_s is not None
        assert "left alone" in str(refused)
    assert len(bench.server.requests) == asked
    assert bench.there == []


async def test_headers_feed_the_budget(bench: TradingBench) -> None:
    await bench.connect()
    used = bench.venue.budget.used("weight")
    bench.site.gate.weights.take("127.0.0.1", 500, bench.exchange.time_ns())  # somebody else behind this address
    await bench.venue.balances()
    assert bench.venue.budget.used("weight") >= used + 500
    await bench.rests()
    assert bench.venue.budget.used("orders in 10 s") == 1


async def test_after_failures_in_a_row_orders_are_refused_and_cancels_still_go(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.rests()
    bench.site.fault_rest(ORDER, status=503, body="")  # for questions about orders as well
    for _ in range(5):
        await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
    bench.site.fault_clear()
    assert bench.venue.breaker_states == {"orders": "open", "queries": "closed"}
    asked = bench.asked(f"POST {ORDER}")
    refused = await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
    assert isinstance(refused, VenueUnavailable)
    assert "failed 5 times in a row" in str(refused)
    assert bench.asked(f"POST {ORDER}") == asked
    await bench.venue.cancel(order)
    await bench.reaches(order, CANCELED)


async def test_maintenance(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.rests()
    bench.site.fault_maintenance()
    assert isinstance(await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90))), VenueTimeout)
    assert "maintenance" in str(await failure_of(bench.venue.cancel(order)))
    another = bench.make()
    assert isinstance(await failure_of(another.connect(bench.sink)), VenueUnavailable)
    bench.site.fault_maintenance(False)
    await bench.venue.cancel(order)
    await bench.reaches(order, CANCELED)


# ---- streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mid_frame", [True, False])
async def test_what_happens_while_the_stream_is_down_is_polled(bench: TradingBench, mid_frame: bool) -> None:
    await bench.connect()
    await bench.until_state(CONNECTED)
    order = await bench.rests(95)
    bench.site.fault_refuse_streams()
    bench.site.fault_drop("private", mid_frame=mid_frame)
    reason = await bench.until_state(INTERRUPTED)
    assert "private stream" in reason
    bench.show(90, 91)
    await bench.reaches(order, FILLED)
    bench.site.fault_refuse_streams(False)
    await bench.until_state(CONNECTED)
    second = await bench.submit(BUY, "0.5", 91)
    await bench.reaches(second, FILLED)


async def test_orders_work_without_any_stream(bench: TradingBench) -> None:
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


class Streamless(BinanceTrading):
    """Binance as if it had no private streams."""

    STREAMS = ()
    POLL_S = 0.1


async def test_a_venue_without_streams_is_polled_and_connected(tmp_path: Path) -> None:
    async with open_bench(Streamless, binance, tmp_path) as bench:
        await bench.connect()
        await bench.until_state(CONNECTED)
        resting = await bench.rests(95)
        bench.show(94, 95)
        await bench.reaches(resting, FILLED)
        assert len(bench.states) == 1


async def test_connecting_again_changes_the_sinks_alone(bench: TradingBench) -> None:
    await bench.connect()
    order, asked = await bench.rests(95), len(bench.server.requests)
    heard, bench.events = bench.events, []
    await bench.connect()
    assert len(bench.server.requests) == asked
    bench.show(94, 95)
    await bench.reaches(order, FILLED)
    assert len(heard) == 1


async def test_many_orders_are_polled_by_their_list(bench: TradingBench) -> None:
    bench.site.fault_refuse_streams()
    await bench.connect()
    orders = [await bench.rests(80 + number) for number in range(8)]
    bench.show(84, 85)
    bench.site.exchange.cancel(bench.user, bench.there[0].id)
    await bench.reaches(orders[7], FILLED)
    await bench.reaches(orders[0], CANCELED)
    assert bench.now(orders[4]).status is ACCEPTED
    assert bench.asked("/api/v3/openOrders") > 0


async def test_a_user_data_stream_that_the_venue_ends_is_opened_again(bench: TradingBench) -> None:
    """ccxt tells nobody of it."""
    await bench.connect()
    order = await bench.rests(95)
    assert bench.site.fault_expire_tokens() == 1
    assert "ended the user data stream" in await bench.until_state(INTERRUPTED)
    await bench.until_state(CONNECTED)
    bench.show(94, 95)
    await bench.reaches(order, FILLED)


async def test_repeated_and_reordered_frames_count_once(bench: TradingBench) -> None:
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
    bench: TradingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ccxt_lookups, "AUDIT_S", 0.2)
    await bench.connect()
    order = await bench.rests(95)
    bench.site.fault_silence()
    bench.show(94, 95)
    await bench.reaches(order, FILLED)
    assert {state for state, _ in bench.states} == {CONNECTED}
    assert {fill.liquidity for fill in bench.fills(order)} == {Liquidity.MAKER}


async def test_garbage_ends_nothing(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.rests(95)
    bench.site.fault_garbage()
    bench.show(94, 95)
    await bench.reaches(order, FILLED)


async def test_an_order_of_an_earlier_session_goes_on(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.rests(95)
    await bench.venue.close()
    bench.venue = bench.make()
    await bench.connect()
    assert await bench.look_up(order) is not None
    bench.show(94, 95)
    await bench.reaches(order, FILLED)
    assert len(bench.fills(order)) == 1


# ---- keys and clocks ----------------------------------------------------------------------------------------------


async def test_keys_with_blanks_around_them_work(bench: TradingBench) -> None:
    bench.venue = bench.make(key=f"  {bench.owned.key}\n", secret=f"\t{bench.owned.secret} ")
    await bench.connect()
    await bench.rests()


@pytest.mark.parametrize("wrong", ["secret", "key", "swapped", "revoked", "expired", "address", "testnet"])
async def test_keys_that_do_not_open_are_refused_in_words_and_never_repeated(bench: TradingBench, wrong: str) -> None:
    key, secret, mode = bench.owned.key, bench.owned.secret, TradingMode.LIVE
    match wrong:
        case "secret":
            secret = "wrong" * 12
        case "key":
            key = key[::-1]
        case "swapped":
            key, secret = secret[:-4] + "-no-", key
        case "revoked":
            bench.site.fault_key(key, revoked=True)
        case "expired":
            bench.site.fault_key(key, expires_ns=1)
        case "address":
            bench.site.fault_key(key, ips=["203.0.113.7"])
        case "testnet":
            mode = TradingMode.TESTNET
    venue = bench.make(mode, key=key, secret=secret)
    error = await failure_of(venue.connect(bench.sink))
    assert isinstance(error, VenueRejected)
    assert "check" in str(error)
    assert key not in str(error)
    assert secret not in str(error)
    report = await bench.make(mode, key=key, secret=secret).check()
    assert report.problem
    assert secret not in str(report)


async def test_a_key_that_is_revoked_later_is_said_to_be(bench: TradingBench) -> None:
    """ccxt calls it a ban once a key has worked; it would be waited out for nothing."""
    await bench.connect()
    bench.site.fault_key(bench.owned.key, revoked=True)
    order = await bench.submit(BUY, "0.5", 90)
    rejected = await bench.reaches(order, OrderStatus.REJECTED)
    assert "does not accept the API key" in rejected.reason
    assert bench.venue.held_s == 0


async def test_a_key_that_may_not_trade(bench: TradingBench) -> None:
    bench.site.fault_key(bench.owned.key, permissions=["read", "withdraw"])
    await bench.connect()
    rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90), OrderStatus.REJECTED)
    assert "permissions" in rejected.reason
    report = await bench.venue.check()
    assert (report.can_read, report.can_trade, report.can_withdraw) == (True, False, True)
    assert "may not trade" in report.problem
    assert any("withdraw" in warning for warning in report.warnings)


async def test_a_check_tells_fees_latency_and_balances(bench: TradingBench) -> None:
    report = await bench.venue.check()
    assert report.problem == ""
    assert report.warnings == ()
    listing = bench.exchange.market(bench.symbol).listing
    assert (report.maker_fee, report.taker_fee) == (listing.maker_fee, listing.taker_fee)
    assert report.latency_ms is not None
    assert 0 < report.latency_ms < 1500
    assert "enableReading" in report.permissions
    assert {balance.currency for balance in report.balances} == {"USDT", "BTC", "ETH"}
    assert bench.events == []


async def test_a_check_of_a_venue_that_does_not_answer_says_so(bench: TradingBench) -> None:
    await bench.server.stop()
    report = await bench.venue.check()
    assert "check the network" in report.problem


@pytest.mark.parametrize("ahead_ms", [3_600_000, -3_600_000])
async def test_the_venue_s_clock_is_what_counts(bench: TradingBench, ahead_ms: int) -> None:
    bench.site.fault_skew(ahead_ms)
    async with stopwatch() as watch:
        await bench.connect()
    await bench.rests()
    assert abs(bench.venue.time_ns() - bench.exchange.time_ns()) < 500_000_000 + watch.held_up_s * 1e9
    async with stopwatch() as watch:
        report = await bench.venue.check()
    assert report.clock_skew_ms == pytest.approx(ahead_ms, abs=500 + watch.held_up_s * 1e3)
    assert any("clock" in warning for warning in report.warnings)


async def test_a_clock_that_is_wrong_later_is_set_anew(bench: TradingBench) -> None:
    await bench.connect()
    bench.site.fault_skew(60_000)
    rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90), OrderStatus.REJECTED)
    assert "try again" in rejected.reason
    await until(lambda: abs(bench.venue.time_ns() - bench.exchange.time_ns()) < 500_000_000, what="the clock to be set")
    await bench.rests()


async def test_testnet_keys_trade_on_the_testnet_alone(tmp_path: Path) -> None:
    async with open_bench(BinanceTrading, binance, tmp_path, test_network=True) as bench:
        bench.venue = bench.make(TradingMode.TESTNET)
        await bench.connect()
        await bench.rests()
        report = await bench.venue.check()
        assert (report.problem, report.can_trade, report.can_withdraw) == ("", True, None)
        live = bench.make(TradingMode.LIVE)
        assert isinstance(await failure_of(live.connect(bench.sink)), VenueRejected)


def test_modes_that_send_nothing_are_refused() -> None:
    for mode in (TradingMode.PAPER, TradingMode.SIMULATED):
        with pytest.raises(ConfigError):
            BinanceTrading("a", Credentials({}), mode, SystemClock())


# ---- orders themselves --------------------------------------------------------------------------------------------


async def test_amounts_arrive_digit_for_digit(bench: TradingBench) -> None:
    await bench.connect()
    await bench.rests(90.07, "1.00001")
    assert (bench.there[0].quantity, bench.there[0].price) == (Decimal("1.00001"), Decimal("90.07"))


@pytest.mark.parametrize(
    ("quantity", "price", "words"),
    [
        ("0.500001", 90, "quantity 0.500001 is between two, 0.5 would be one"),
        ("0.5", 90.001, "price 90.001"),
        ("0.000001", 90, "too small"),
    ],
)
async def test_amounts_between_steps_are_refused_here(
    bench: TradingBench, quantity: str, price: float, words: str
) -> None:
    await bench.connect()
    rejected = await bench.reaches(await bench.submit(BUY, quantity, price), OrderStatus.REJECTED)
    assert words in rejected.reason
    assert bench.asked(f"POST {ORDER}") == 0


async def test_a_symbol_that_is_delisted_is_refused(bench: TradingBench) -> None:
    await bench.connect()
    bench.site.fault_trading(bench.symbol)
    order = await bench.submit(BUY, "0.5", 90)
    rejected = await bench.reaches(order, OrderStatus.REJECTED)
    assert "does not trade this symbol" in rejected.reason


async def test_a_stop_limit_waits_then_rests(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.submit(SELL, "0.5", 94, stop_price=Decimal(95))
    await bench.reaches(order, ACCEPTED)
    bench.show(94, 95)
    await bench.reaches(order, FILLED)


async def test_an_order_filled_in_parts_ends_after_the_last_of_them(bench: TradingBench) -> None:
    await bench.connect()
    bench.show(100, 101, 1)
    order = await bench.submit(BUY, "1.5", 101, time_in_force=TimeInForce.IOC)
    ended = await bench.reaches(order, OrderStatus.EXPIRED)
    assert ended.filled_quantity == 1
    report = await bench.look_up(order)
    assert report is not None
    assert (report.status, len(report.fills)) == (OrderStatus.EXPIRED, len(bench.fills(order)))


async def test_trades_and_open_orders_list_also_what_is_not_ours(bench: TradingBench) -> None:
    await bench.connect()
    since_ns = bench.venue.time_ns() - 60_000_000_000
    ours = await bench.submit(BUY, "0.5")
    await bench.reaches(ours, FILLED)
    bench.exchange.place(
        bench.user,
        bench.symbol,
        SELL,
        OrderType.MARKET,
        Decimal(1),
        client_id="by-hand",
        time_in_force=TimeInForce.IOC,
        extra={"type": "MARKET"},
    )
    resting = await bench.rests(80)
    trades = await bench.venue.trades(since_ns)
    assert [trade.side for trade in trades] == [BUY, SELL]
    assert [trade.client_order_id for trade in trades] == [ours.client_order_id, ""]
    assert trades[0].fill_id == bench.fills(ours)[0].fill_id
    assert await bench.venue.trades(bench.venue.time_ns() + 60_000_000_000) == []
    (listed,) = await bench.venue.open_orders()
    assert (listed.client_order_id, listed.price, listed.quantity) == (
        resting.client_order_id,
        Decimal(80),
        Decimal("0.5"),
    )
    assert await bench.venue.positions() == ()


async def test_it_cannot_change_orders_and_says_so(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.rests()
    with pytest.raises(VenueRejected, match="cancel it and send another"):
        await bench.venue.amend(order, Decimal(1), Decimal(91))


async def test_what_was_never_there_is_forgotten_in_the_end(
    bench: TradingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ccxt_lookups, "ABSENCES", 2)
    await bench.connect()
    order: Order = bench.new(BUY, "0.5", 90)
    assert [await bench.look_up(order) for _ in range(3)] == [None, None, None]


async def test_the_order_connection_is_kept_warm(bench: TradingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt_account, "WARM_S", 0.1)
    await bench.connect()
    asked = bench.asked("/api/v3/time")
    await until(lambda: bench.asked("/api/v3/time") > asked + 2, what="something small to be asked")


async def test_rules_of_symbols_are_asked_for_now_and_then(
    bench: TradingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ccxt_account, "WARM_S", 0.1)
    monkeypatch.setattr(ccxt_account, "MARKETS_S", 0.2)
    await bench.connect()
    bench.site.fault_trading(bench.symbol)
    asked = bench.asked("exchangeInfo")
    await until(lambda: bench.asked("exchangeInfo") > asked + 1, what="the rules to be asked for, and answered")
    rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90), OrderStatus.REJECTED)
    assert "nothing was sent" in rejected.reason


class SleepyClock(SystemClock):
    """This machine's clocks, the monotonic one of which stood while it slept for `slept_ns`."""

    slept_ns = 0

    def time_ns(self) -> int:
        """Give the wall clock's time."""
        return super().time_ns() + self.slept_ns


async def test_a_machine_that_slept_asks_for_the_time_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt_account, "WARM_S", 2.0)
    clock = SleepyClock()
    async with open_bench(BinanceTrading, binance, tmp_path, clock=clock) as bench:
        await bench.connect()
        asked = bench.asked("/api/v3/time")
        clock.slept_ns = 3_600 * 10**9
        bench.site.fault_skew(3_600_000)
        await until(
            lambda: abs(bench.venue.time_ns() - bench.exchange.time_ns()) < 500_000_000, what="the clock to be set"
        )
        assert bench.asked("/api/v3/time") == asked + 2, "not the one request that keeps the connection warm"
        await bench.rests()
