"""Alpaca: what goes wrong with orders, and what is odd about Alpaca and its client library's way with it."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from subprocess import run
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from koc_qt.adapters.venues.alpaca import AlpacaTrading, lookups, requests_of
from koc_qt.domain.errors import ConfigError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.orders import (
    AmendRejected,
    Liquidity,
    OrderAmended,
    OrderExpired,
    OrderFilled,
    OrderStatus,
    TimeInForce,
)
from koc_qt.domain.state import TradingMode
from tests.conditions import PATIENCE, stopwatch, until
from tests.wire.trading_bench import BUY, QUICK, SELL, TradingBench, failure_of, open_bench
from tests.wire.trading_faults import ACCEPTED, CANCELED, CONNECTED, FILLED, REJECTED, TradingFaults
from tests.wire.venues import alpaca

POST = "POST /v2/orders"


class TestOrders(TradingFaults):
    """Crypto at Alpaca, where the common tests apply; what it has not, or does otherwise, is said below."""

    ORDER: ClassVar[str] = "/v2/orders"
    RIGHTS: ClassVar[str] = "crypto"

    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TradingBench]:
        monkeypatch.setattr(lookups, "POLL_S", 0.3)  # more often than the venue would bear for long
        async with open_bench(AlpacaTrading, alpaca, tmp_path, "BTC/USD") as bench:
            yield bench

    async def test_a_frame_lost_in_silence_is_found_by_the_audit(
        self, bench: TradingBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lookups, "AUDIT_S", 0.2)
        await super().test_a_frame_lost_in_silence_is_found_by_the_audit(bench, monkeypatch)

    async def test_a_venue_that_asks_for_a_pause_gets_it(self, bench: TradingBench) -> None:
        """Alpaca says until when, in whole seconds."""
        await bench.connect()
        bench.site.fault_rate_limit(retry_after_s=30)
        began_s = time.monotonic()
        error = await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
        assert isinstance(error, VenueUnavailable)
        held_s, passed_s = bench.venue.held_s, time.monotonic() - began_s
        assert 29 - passed_s < held_s < 31
        asked = len(bench.server.requests)
        refused = await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
        assert isinstance(refused, VenueUnavailable)
        assert refused.retry_after_s is not None
        assert (len(bench.server.requests), bench.there) == (asked, [])

    async def test_a_key_that_may_not_trade(self, bench: TradingBench) -> None:
        bench.site.fault_key(bench.owned.key, permissions=["read"])
        await bench.connect()
        rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90), REJECTED)
        assert "may not do this" in rejected.reason
        report = await bench.venue.check()
        assert (report.can_read, report.can_trade, report.can_withdraw) == (True, False, False)
        assert "trading is suspended" in report.problem

    async def test_a_check_tells_fees_latency_and_balances(self, bench: TradingBench) -> None:
        report = await bench.venue.check()
        assert (report.problem, report.warnings) == ("", ())
        assert report.latency_ms is not None
        assert 0 < report.latency_ms < 1500
        assert "crypto" in report.permissions
        assert {balance.currency for balance in report.balances} == {"USD", "BTC", "AAPL"}

    async def test_there_is_no_testnet(self, bench: TradingBench) -> None:
        """There is: Alpaca's own paper trading, which takes no key of the live account."""
        error = await failure_of(bench.make(TradingMode.TESTNET).connect(bench.sink))
        assert isinstance(error, VenueRejected)
        assert "are of this venue and mode" in str(error)
        paper = alpaca.add_person(bench.exchange, "novice", test_network=True)
        assert (await bench.make(TradingMode.TESTNET, key=paper.key, secret=paper.secret).check()).problem == ""
        assert (await bench.make(TradingMode.LIVE, key=paper.key, secret=paper.secret).check()).problem
        with pytest.raises(ConfigError):
            bench.make(TradingMode.PAPER)

    async def test_amounts_between_steps_are_refused_here(self, bench: TradingBench) -> None:
        """Alpaca refuses them itself."""
        await bench.connect()
        rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90.001), REJECTED)
        assert "minimum pricing criteria" in rejected.reason

    async def test_a_stop_limit_waits_then_rests(self, bench: TradingBench) -> None:
        """Alpaca does not say when a stop goes off."""
        await bench.connect()
        order = await bench.submit(SELL, "0.5", 96, stop_price=Decimal(95))
        await bench.reaches(order, ACCEPTED)
        bench.show(94, 95)
        bench.show(97, 98)
        await bench.reaches(order, FILLED)
        assert {fill.price for fill in bench.fills(order)} == {Decimal(96)}

    async def test_a_stop_can_be_cancelled_before_and_after_it_went_off(self, bench: TradingBench) -> None:
        await bench.connect()
        waiting = await bench.submit(SELL, "0.5", 89, stop_price=Decimal(90))
        resting = await bench.submit(SELL, "0.5", 97, stop_price=Decimal(95))
        for order in (waiting, resting):
            await bench.reaches(order, ACCEPTED)
        listed = await bench.venue.open_orders()
        assert {each.stop_price for each in listed} == {Decimal(90), Decimal(95)}
        bench.show(94, 95)
        for order in (waiting, resting):
            await bench.venue.cancel(bench.now(order))
            await bench.reaches(order, CANCELED)

    async def test_a_stop_whose_answer_is_lost_is_found_after_it_went_off(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_silence()
        bench.site.fault_lose_answer("place", how="drop")
        order = bench.new(SELL, "0.5", 93, stop_price=Decimal(95))
        assert isinstance(await failure_of(bench.venue.submit(order)), VenueTimeout)
        bench.show(94, 95)
        report = await bench.look_up(order)
        assert report is not None
        assert bench.now(order).status is FILLED

    # ---- what is Alpaca's own ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize("status", [429, 504])
    async def test_the_library_repeats_no_order_by_itself(self, bench: TradingBench, status: int) -> None:
        await bench.connect()
        bench.site.fault_rest("/v2/orders", status=status, body='{"message": "no"}', times=10)
        async with stopwatch() as watch:
            error = await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
        assert isinstance(error, VenueUnavailable if status == 429 else VenueTimeout)
        assert bench.asked(POST) == 1
        assert watch.spent_s < 2.0, "it would sleep three seconds before each of three repeats"

    async def test_every_order_bears_our_id(self, bench: TradingBench) -> None:
        await bench.connect()
        order = bench.new(BUY, "0.5", 90)
        await bench.venue.submit(order)
        assert bench.there[0].client_id == order.client_order_id
        another = bench.make()
        await another.connect(lambda _: None)
        bench.site.fault_silence()
        twice = await failure_of(another.submit(order))
        assert isinstance(twice, VenueTimeout), "an order with this id is there: nothing is certain of this one"
        assert len(bench.there) == 1
        long = msgspec.structs.replace(bench.new(BUY, "0.5", 90), client_order_id="x" * 129)
        bench.orders[long.client_order_id] = long
        await bench.venue.submit(long)
        assert "128 characters" in (await bench.reaches(long, REJECTED)).reason

    async def test_a_silent_server_is_not_waited_for_for_ever(self, bench: TradingBench) -> None:
        """The library sets no time-out at all."""
        await bench.connect()
        bench.site.fault_rest("/v2/account", hang=True, times=100)
        async with stopwatch() as watch:
            assert isinstance(await failure_of(bench.venue.account()), VenueTimeout)
        assert watch.spent_s < 3 * QUICK.request_s

    async def test_orders_never_wait_behind_queries(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_rest("/v2/account", hang=True, times=100)
        stuck = [asyncio.create_task(failure_of(bench.venue.account())) for _ in range(6)]
        await until(lambda: bench.asked("GET /v2/account") >= 3, what="every thread for queries to be busy")
        async with stopwatch() as watch:
            await bench.rests()
        assert watch.spent_s < 1.0
        await asyncio.gather(*stuck)

    async def test_a_redirection_is_no_success(self, bench: TradingBench) -> None:
        """The library would take an empty one for the answer that a cancel was accepted."""
        await bench.connect()
        order = await bench.rests()
        bench.site.fault_rest("/v2/orders", status=302, headers={"Location": "https://portal.invalid"}, times=100)
        assert isinstance(await failure_of(bench.venue.cancel(order)), VenueTimeout)
        assert bench.there[0].is_open

    async def test_the_budget_follows_the_venue_s_headers(self, bench: TradingBench) -> None:
        await bench.connect()
        name = f"{bench.user.name}/False"
        for _ in range(100):  # another program with the same keys
            bench.site.limits.take(name, 1, bench.exchange.time_ns())
        await bench.venue.account()
        assert bench.venue.budget.used("minute") >= 100

    async def test_nobody_is_asked_after_the_first_429(
        self, bench: TradingBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(requests_of, "TURN_S", 0.05)  # the minute may be over in a moment, and is waited for then
        await bench.connect()
        order = await bench.rests()
        bench.site.limits.limit = 0
        assert isinstance(await failure_of(bench.venue.account()), VenueUnavailable)
        asked = len(bench.server.requests)
        assert bench.venue.held_s > 0
        assert isinstance(await failure_of(bench.venue.open_orders()), VenueUnavailable)
        assert len(bench.server.requests) == asked
        assert bench.now(order).status is ACCEPTED

    async def test_replacements_are_told_when_they_are_made(self, bench: TradingBench) -> None:
        await bench.connect()
        await bench.until_state(CONNECTED)
        order = await bench.rests(90, "1")
        bench.site.hold_replaces = True
        await bench.venue.amend(order, Decimal(2), Decimal(91))
        assert not [event for event in bench.events if isinstance(event, OrderAmended)], "an answer promises nothing"
        again = await failure_of(bench.venue.amend(order, Decimal(3), Decimal(91)))
        assert isinstance(again, VenueRejected)
        bench.site.release_replaces()
        await until(lambda: bench.now(order).request.quantity == 2, what="the change")
        assert bench.now(order).venue_order_id != order.venue_order_id
        (listed,) = await bench.venue.open_orders()
        assert (listed.client_order_id, listed.price) == (order.client_order_id, Decimal(91))

    @pytest.mark.parametrize("streams", [True, False])
    async def test_a_replacement_that_is_refused_later_leaves_the_order(
        self, bench: TradingBench, streams: bool
    ) -> None:
        if not streams:
            bench.site.fault_refuse_streams()
        await bench.connect()
        order = await bench.rests(90, "1")
        bench.site.hold_replaces = True
        await bench.venue.amend(order, Decimal(2), Decimal(91))
        bench.site.release_replaces(False)
        await until(lambda: any(isinstance(event, AmendRejected) for event in bench.events), what="the refusal")
        assert bench.now(order).request.quantity == 1
        bench.show(89, 90)
        await bench.reaches(order, FILLED)

    async def test_what_is_executed_meanwhile_is_taken_off_the_replacement(self, bench: TradingBench) -> None:
        """At Alpaca the new order's quantity is on top of what was executed of the old one."""
        await bench.connect()
        await bench.until_state(CONNECTED)
        order = await bench.rests(90, "2")
        bench.site.hold_replaces = True
        await bench.venue.amend(order, Decimal(3), Decimal(91))
        bench.exchange.set_thin(bench.symbol, Decimal("0.5"))
        bench.show(89, 90)
        await until(lambda: bench.now(order).filled_quantity == Decimal("0.5"), what="a part of it")
        bench.show(100, 101)
        bench.site.release_replaces()
        await until(lambda: bench.now(order).request.quantity == 3, what="the rest to be lessened")
        assert bench.there[0].quantity == 3
        assert (bench.now(order).status, bench.now(order).filled_quantity) == (
            OrderStatus.PARTIALLY_FILLED,
            Decimal("0.5"),
        )
        bench.exchange.set_thin(bench.symbol, None)
        bench.show(89, 90)
        filled = await bench.reaches(order, FILLED)
        assert filled.filled_quantity == 3
        report = await bench.look_up(order)
        assert report is not None
        assert {fill.fill_id for fill in report.fills} == set(filled.fill_ids)

    async def test_a_partly_filled_order_is_changed_to_the_total_that_is_asked_for(self, bench: TradingBench) -> None:
        await bench.connect()
        await bench.until_state(CONNECTED)
        order = await bench.rests(90, "2")
        bench.exchange.set_thin(bench.symbol, Decimal("0.5"))
        bench.show(89, 90)
        await until(lambda: bench.now(order).filled_quantity == Decimal("0.5"), what="a part of it")
        bench.show(100, 101)
        await bench.venue.amend(bench.now(order), Decimal(1), Decimal(91))
        await until(lambda: bench.now(order).request.quantity == 1, what="the change")
        assert bench.there[0].quantity == 1
        assert [r for r in bench.server.requests if r.startswith("PATCH")] == [
            f"PATCH /v2/orders/{order.venue_order_id}"
        ]

    async def test_a_replacement_by_somebody_else_is_found(self, bench: TradingBench) -> None:
        await bench.connect()
        await bench.until_state(CONNECTED)
        order = await bench.rests(90, "1")
        another = bench.make()
        await another.connect(lambda _: None)
        await another.amend(order, Decimal(2), Decimal(92))
        await until(lambda: bench.now(order).request.quantity == 2, what="the change")
        await bench.venue.cancel(bench.now(order))
        await bench.reaches(order, CANCELED)

    async def test_an_order_that_was_changed_in_an_earlier_session_goes_on(self, bench: TradingBench) -> None:
        await bench.connect()
        unchanged = await bench.rests(90, "2")
        await bench.venue.amend(unchanged, Decimal(3), Decimal(91))
        await until(lambda: bench.now(unchanged).request.quantity == 3, what="the change")
        changed = bench.now(unchanged)
        bench.exchange.set_thin(bench.symbol, Decimal(1))
        await bench.venue.close()
        bench.show(89, 90)  # nobody hears of what this fills
        bench.orders[unchanged.client_order_id] = unchanged
        bench.venue = bench.make()
        await bench.venue.connect(bench.sink)
        assert await bench.look_up(unchanged) is not None
        now = bench.now(unchanged)
        assert (now.request, now.venue_order_id) == (changed.request, changed.venue_order_id)
        assert now.filled_quantity == 1
        bench.exchange.set_thin(bench.symbol, None)
        bench.show(89, 90)
        await bench.reaches(now, FILLED)

    async def test_a_cancel_reaches_the_order_that_took_its_place(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.rests(90, "1")
        bench.site.fault_silence()
        another = bench.make()
        await another.connect(lambda _: None)
        await another.amend(order, Decimal(2), Decimal(92))
        await until(lambda: bench.there[0].quantity == 2, what="the change")
        bench.site.fault_clear()
        await bench.venue.cancel(order)
        await bench.reaches(order, CANCELED)
        assert not bench.there[0].is_open

    async def test_a_cancel_that_comes_too_late_says_so(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.reaches(await bench.submit(BUY, "0.5"), FILLED)
        await bench.venue.cancel(order)
        await until(lambda: bench.refusals(order), what="the refusal")
        assert "no such order, or it has ended" in bench.refusals(order)[0]

    async def test_what_cannot_be_checked_is_not_sent(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_server_error("/v2/positions")
        error = await failure_of(bench.venue.submit(bench.new(SELL, "1", reduce_only=True)))
        assert isinstance(error, VenueUnavailable)
        assert bench.asked(POST) == 0

    async def test_no_key_is_written_anywhere(
        self, bench: TradingBench, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            await bench.connect()
            await bench.until_state(CONNECTED)
            bench.site.fault_drop("private")
            bench.site.fault_server_error("/v2/account")
            error = await failure_of(bench.venue.account())
        written = caplog.text + "".join(capfd.readouterr()) + str(error) + repr(error) + str(error.__cause__)
        assert bench.owned.secret not in written
        assert bench.owned.key not in written

    @pytest.mark.parametrize("made", [True, False])
    async def test_a_change_whose_answer_is_lost_is_found_out(self, bench: TradingBench, made: bool) -> None:
        await bench.connect()
        order = await bench.rests(90, "1")
        bench.site.fault_silence()
        if made:
            bench.site.fault_lose_answer("amend", how="drop")
        else:
            bench.site.fault_server_error(f"/v2/orders/{order.venue_order_id}", times=1)
        error = await failure_of(bench.venue.amend(order, Decimal(2), Decimal(91)))
        assert isinstance(error, VenueTimeout)
        wanted = OrderAmended if made else AmendRejected
        await until(lambda: any(isinstance(event, wanted) for event in bench.events), what=f"{wanted.__name__}")
        assert bench.now(order).request.quantity == (2 if made else 1)

    async def test_fees_of_crypto_are_those_of_the_first_tier(self, bench: TradingBench) -> None:
        await bench.connect()
        taken = await bench.reaches(await bench.submit(BUY, "1"), FILLED)
        made = await bench.rests(95, "1")
        bench.show(94, 95)
        await bench.reaches(made, FILLED)
        assert [(fill.fee, fill.liquidity) for order in (taken, made) for fill in bench.fills(order)] == [
            (Decimal("0.2525"), Liquidity.TAKER),
            (Decimal("0.1425"), Liquidity.MAKER),
        ]

    async def test_what_crypto_has_not_is_refused_here_in_words(self, bench: TradingBench) -> None:
        await bench.connect()
        for options, words in (
            ({"stop_price": Decimal(120)}, "stop-limit"),
            ({"price": 90, "time_in_force": TimeInForce.FOK}, "fill-or-kill"),
            ({"price": 90, "post_only": True}, "post-only"),
            ({"price": 90, "reduce_only": True}, "close with a market order"),
        ):
            rejected = await bench.reaches(await bench.submit(BUY, "0.5", **options), REJECTED)
            assert words in rejected.reason
        assert bench.asked(POST) == 0

    async def test_closing_never_opens_a_position(self, bench: TradingBench) -> None:
        await bench.connect()
        refused = await bench.submit(SELL, "3", reduce_only=True)
        assert "would not reduce" in (await bench.reaches(refused, REJECTED)).reason
        await bench.reaches(await bench.submit(SELL, "2", reduce_only=True), FILLED)
        assert [each.symbol for each in await bench.venue.positions()] == ["AAPL"]
        refused = await bench.submit(SELL, "1", reduce_only=True)
        assert "would not reduce" in (await bench.reaches(refused, REJECTED)).reason


class TestStocks:
    """Shares on Alpaca's own paper trading."""

    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[TradingBench]:
        person: dict[str, Any] = {"test_network": True, "allow_short": True, "balances": {"USD": "100000"}}
        async with open_bench(AlpacaTrading, alpaca, tmp_path, "AAPL", **person) as bench:
            await bench.venue.close()
            bench.venue = bench.make(TradingMode.TESTNET)
            yield bench

    async def test_an_order_waits_for_the_market_to_open(self, bench: TradingBench) -> None:
        await bench.connect()
        await bench.until_state(CONNECTED)
        for symbol in ("AAPL", "SPY"):
            bench.site.fault_trading(symbol, "closed")
        order = await bench.reaches(await bench.submit(BUY, "2", 101), ACCEPTED)
        report = await bench.venue.find_order(order)
        assert report is not None
        assert (report.status, "market is closed" in report.reason) == (ACCEPTED, True)
        assert any("closed until" in warning for warning in (await bench.venue.check()).warnings)
        await bench.venue.amend(order, Decimal(3), Decimal(101))
        await until(lambda: any(isinstance(event, AmendRejected) for event in bench.events), what="the refusal")
        bench.site.fault_trading("AAPL", "open")
        await bench.reaches(order, FILLED)

    async def test_a_waiting_order_can_be_cancelled(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_trading("AAPL", "closed")
        order = await bench.reaches(await bench.submit(BUY, "2", 101), ACCEPTED)
        await bench.venue.cancel(order)
        await bench.reaches(order, CANCELED)
        bench.site.fault_trading("AAPL", "open")
        assert bench.there == []

    async def test_parts_of_a_share_are_good_for_the_day(self, bench: TradingBench) -> None:
        await bench.connect()
        part = await bench.reaches(await bench.submit(BUY, "0.123456789", 90), ACCEPTED)
        whole = await bench.reaches(await bench.submit(BUY, "1", 90), ACCEPTED)
        bench.site.expire_day()
        ended = await bench.reaches(part, OrderStatus.EXPIRED)
        assert "the day" in ended.reason
        assert bench.now(whole).status is ACCEPTED
        (expired,) = [event for event in bench.events if isinstance(event, OrderExpired)]
        report = await bench.look_up(part)
        assert report is not None
        assert (report.status, report.reason) == (OrderStatus.EXPIRED, expired.reason)

    async def test_a_stock_of_whole_shares_alone_says_so(self, bench: TradingBench) -> None:
        bench.site.whole_shares.add("AAPL")
        await bench.connect()
        rejected = await bench.reaches(await bench.submit(BUY, "0.5"), REJECTED)
        assert "not fractionable" in rejected.reason

    async def test_a_short_is_a_position_below_zero_and_no_balance(self, bench: TradingBench) -> None:
        await bench.connect()
        await bench.reaches(await bench.submit(SELL, "3"), FILLED)
        (held,) = await bench.venue.positions()
        assert (held.symbol, held.quantity, held.average_price) == ("AAPL", Decimal(-3), Decimal(100))
        assert [balance.currency for balance in await bench.venue.balances()] == ["USD"]
        await bench.reaches(await bench.submit(BUY, "3", reduce_only=True), FILLED)
        assert await bench.venue.positions() == []

    async def test_executions_have_one_id_wherever_they_are_told(self, bench: TradingBench) -> None:
        """Alpaca numbers those of the stream and those of its lists in ways of its own."""
        await bench.connect()
        await bench.until_state(CONNECTED)
        bench.exchange.set_thin("AAPL", Decimal(1))
        order = await bench.submit(BUY, "3", 101)
        for _ in range(3):
            bench.show(100, 101)
        await bench.reaches(order, FILLED)
        told = [fill.fill_id for fill in bench.fills(order)]
        assert len(set(told)) == 3
        assert [trade.fill_id for trade in await bench.venue.trades(0)] == told
        await bench.venue.close()
        bench.venue = bench.make(TradingMode.TESTNET)
        await bench.connect()
        assert await bench.look_up(order) is not None
        assert len([event for event in bench.events if isinstance(event, OrderFilled)]) == 3


async def test_a_connection_that_came_too_late_sends_nothing(tmp_path: Path) -> None:
    """Looking a name up has no time-out: an order must not go out when nobody waits for it any more."""
    async with open_bench(AlpacaTrading, alpaca, tmp_path, "BTC/USD") as bench:
        await bench.connect()
        requests = bench.venue._requests

        async def send(*is_late: bool) -> str:
            answers = iter(is_late)
            requests._client._session.get_adapter("https://").close()  # so that a connection has to be made
            answer = await asyncio.to_thread(
                requests._library.perform,
                lambda client: client.post("/orders", {}),
                requests._client,
                lambda: next(answers),
            )
            return str(answer.error)

        assert "too late" in await send(True)
        assert "connecting took too long" in await send(False, True)
        assert bench.asked(POST) == 0
        assert "invalid request" in await send(False, False)
        assert bench.asked(POST) == 1


def test_nothing_of_the_vendor_is_imported_before_it_is_used() -> None:
    code = (
        "import sys; from koc_qt.adapters.venues.alpaca import ABILITIES; "
        "sys.exit(any(name.split('.')[0] in ('alpaca', 'requests', 'websockets', 'ccxt') for name in sys.modules))"
    )
    assert run([sys.executable, "-c", code], check=False, timeout=60 * PATIENCE).returncode == 0
