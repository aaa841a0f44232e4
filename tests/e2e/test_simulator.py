"""The first thing that a person does: a strategy on the built-in market, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import partial

import pytest

from koc_qt.link.rendezvous import ProfileLock
from tests.conditions import wait_until
from tests.e2e.books import check_books, halt_and_count, open_orders
from tests.e2e.processes import SAMPLES, STRATEGIES, EngineProcess, Profile, strategy, trades

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FAST = ("--symbol", "BTC/USDT", "--speed", "20")


def test_a_sample_strategy_trades_and_ctrl_c_stops_it_in_order(home: Profile) -> None:
    with home.engine("--strategy", str(SAMPLES / "sma_cross.py"), *FAST) as engine:
        engine.wait_for_status(trades("sma_cross", 2), "three trades")
        status = home.ask("status")
        assert status["engine"]["state"] == "running"
        assert status["engine"]["uptime_s"] > 0
        assert status["engine"]["pid"] == engine.pid
        assert {venue["name"]: venue["state"] for venue in status["venues"]} == dict.fromkeys(
            ("sim", "sim2"), "connected"
        )
        running = strategy(status, "sma_cross")
        assert running.keys() >= {"name", "state", "pid", "badge", "pnl", "trades", "orders", "positions"}
        assert (running["name"], running["state"]) == ("SMA cross", "running")
        assert running["pid"] in [child.pid for child in engine.children()]
        assert running["badge"] in ("isolated+", "isolated", "partial")
        assert running["trades"] >= 3
        assert Decimal(running["pnl"])
        assert [position["instrument"] for position in running["positions"]] == ["sim:BTC/USDT"]
        assert engine.stop() == 0
    assert "fill: buy" in engine.output
    assert "PnL" in engine.output
    assert "Stopped: SIGINT received." in engine.output
    check_books(home)
    _check_forms(home)
    with ProfileLock(home.paths.engine_lock):
        pass  # nobody holds it any more


def _check_forms(home: Profile) -> None:
    """Hold what other programs read to its form: exact numbers as texts, times as texts and nanoseconds."""
    for order in home.ask("orders"):
        assert order["strategy_id"] == "sma_cross"
        assert order["instrument"] == "sim:BTC/USDT"
        assert order["side"] in ("buy", "sell")
        assert isinstance(order["quantity"], str)
        assert datetime.fromisoformat(order["created"]).timestamp() == pytest.approx(order["created_ns"] / 1e9)
    for fill in home.ask("fills"):
        assert Decimal(fill["price"]) > 0
        assert Decimal(fill["fee"]) > 0
        assert fill["liquidity"] in ("maker", "taker")
        assert datetime.fromisoformat(fill["time"]).timestamp() == pytest.approx(fill["time_ns"] / 1e9)


def test_ctrl_c_cancels_what_rests(home: Profile) -> None:
    with home.engine("--strategy", str(STRATEGIES / "busy.py"), *FAST) as engine:
        engine.wait_for_status(trades("busy", 2), "three trades")
        wait_until(lambda: open_orders(home), what="an order that rests")
        assert engine.stop() == 0
    assert open_orders(home) == []
    assert "canceled" in {order["status"] for order in check_books(home)[0]}
    result = home.koc("status", "--json")
    assert result.returncode == 3
    assert "no engine runs on this profile" in result.stderr


def test_kill_9_at_any_moment_of_the_start(home: Profile) -> None:
    moments: dict[str, Callable[[EngineProcess], object]] = {
        "the lock": lambda engine: (home.paths.run / "engine.pid").exists(),
        "the keys": lambda engine: list(home.paths.keys.rglob("*")),
        "the journal": lambda engine: home.paths.journal.exists(),
        "the announcement": lambda engine: (home.paths.run / "engine.json").exists(),
        "a worker": lambda engine: engine.children(),
    }
    arguments = ("--strategy", str(STRATEGIES / "busy.py"), *FAST)
    for what, moment in moments.items():
        (home.paths.run / "engine.pid").unlink(missing_ok=True)  # so that what is waited for is not of the one before
        (home.paths.run / "engine.json").unlink(missing_ok=True)
        with home.engine(*arguments) as engine:
            wait_until(partial(moment, engine), timeout_s=30.0, what=what)
            engine.kill()
        assert home.look() is None
    with home.engine(*arguments) as engine:
        engine.wait_for_status(trades("busy", 2), "three trades")
        halt_and_count(home, engine, "sim")
        assert engine.stop() == 0
    check_books(home)


def test_kill_9_on_the_simulated_market_loses_and_doubles_nothing(home: Profile) -> None:
    arguments = ("--strategy", str(SAMPLES / "sma_cross.py"), *FAST)
    with home.engine(*arguments) as engine:
        engine.wait_for_status(trades("sma_cross", 2), "three trades")
        engine.kill()
    before = home.journal()
    with home.engine(*arguments) as engine:  # the same command again: the same strategy, not a second one
        status = engine.wait_for_status(trades("sma_cross", len(before.fills)), "new trades")
        assert [each["id"] for each in status["strategies"]] == ["sma_cross"]
        assert engine.stop() == 0
    after = home.journal()
    assert after.fills[: len(before.fills)] == before.fills
    assert {o.client_order_id for o in before.orders} <= {o.client_order_id for o in after.orders}
    check_books(home)
