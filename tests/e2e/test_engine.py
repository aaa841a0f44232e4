"""The main job, with the real processes: simulated market, sandboxed strategy, orders, crash and recovery."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conditions import wait_until
from tests.e2e.processes import STRATEGIES, Profile

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SMA = ("--strategy", str(STRATEGIES / "sma_cross.py"), "--symbol", "BTC/USDT", "--no-live")


@pytest.fixture
def home(tmp_path: Path) -> Profile:
    return Profile(tmp_path / "koc home")


def fills_of(profile: Profile) -> list[dict[str, Any]]:
    fills = profile.ask("fills")
    assert isinstance(fills, list)
    return fills


def check_books(profile: Profile) -> None:
    """Hold orders and fills against each other: every fill once, every order's filled quantity the sum of its fills."""
    orders, fills = profile.ask("orders"), fills_of(profile)
    ids = Counter(order["client_order_id"] for order in orders)
    assert max(ids.values()) == 1
    assert max(Counter(fill["fill_id"] for fill in fills).values()) == 1
    filled: dict[str, Decimal] = {}
    for fill in fills:
        filled[fill["client_order_id"]] = filled.get(fill["client_order_id"], Decimal(0)) + Decimal(fill["quantity"])
    for order in orders:
        assert Decimal(order["filled_quantity"]) == filled.pop(order["client_order_id"], Decimal(0)), order
    assert filled == {}


def test_a_strategy_trades_on_the_simulated_market_and_stops_in_order(home: Profile) -> None:
    with home.engine(*SMA) as engine:
        status = engine.wait_for_status(
            lambda s: s["strategies"] and s["strategies"][0]["trades"] >= 2, "two trades", 120.0
        )
        assert status["engine"]["state"] == "running"
        assert {venue["venue"] for venue in status["venues"]} >= {"sim", "sim2"}
        strategy = status["strategies"][0]
        assert strategy["state"] == "running"
        assert strategy["badge"] in ("isolated", "partial")
        assert strategy["pid"] in [child.pid for child in engine.children()]
        assert engine.interrupt() == 0
        assert "Stopped: SIGINT received" in engine.output
        assert "Traceback" not in engine.output
    assert not [o for o in home.ask("orders") if o["status"] in ("new", "submitted", "accepted", "unknown")]
    check_books(home)
    assert home.status() is None


def test_kill_9_loses_nothing_and_doubles_nothing(home: Profile) -> None:
    with home.engine(*SMA) as engine:
        engine.wait_for_status(lambda s: s["strategies"] and s["strategies"][0]["trades"] >= 1, "a trade", 120.0)
        engine.kill()
    orders, fills = home.ask("orders"), fills_of(home)
    assert fills
    with home.engine("--no-live") as engine:
        status = engine.wait_for_status(
            lambda s: s["strategies"] and s["strategies"][0]["state"] == "running", "the strategy to run again"
        )
        position = sum(
            (Decimal(f["quantity"]) * (1 if f["side"] == "buy" else -1) for f in fills_of(home)), Decimal(0)
        )
        assert sum((Decimal(p["quantity"]) for p in status["strategies"][0]["positions"]), Decimal(0)) == position
        more = engine.wait_for_status(
            lambda s: s["strategies"][0]["trades"] > len(fills), "a trade after the crash", 120.0
        )
        assert more["strategies"][0]["name"] == status["strategies"][0]["name"]
        assert engine.interrupt() == 0
    after = {order["client_order_id"]: order for order in home.ask("orders")}
    assert {order["client_order_id"] for order in orders} <= after.keys()
    assert {fill["fill_id"] for fill in fills} <= {fill["fill_id"] for fill in fills_of(home)}
    check_books(home)


def test_a_worker_that_dies_is_replaced_and_disturbs_nobody(home: Profile) -> None:
    with home.engine(*SMA) as engine:
        status = engine.wait_for_status(lambda s: s["strategies"] and s["strategies"][0]["state"] == "running")
        pid = status["strategies"][0]["pid"]
        psutil.Process(pid).kill()
        status = engine.wait_for_status(
            lambda s: s["strategies"][0]["state"] == "running" and s["strategies"][0]["pid"] not in (None, pid),
            "another worker",
        )
        assert status["engine"]["state"] == "running"
        assert status["strategies"][0]["restarts"] == 1
        assert engine.interrupt() == 0


def test_the_kill_switch_latches_over_a_restart(home: Profile) -> None:
    with home.engine(*SMA) as engine:
        engine.wait_for_status(lambda s: s["strategies"] and s["strategies"][0]["state"] == "running")
        assert home.koc("kill", "--reason", "test of the switch").returncode == 0
        status = engine.wait_for_status(lambda s: s["strategies"][0]["state"] == "stopped", "the strategy to stop")
        assert status["engine"]["kill_switch"] is True
        assert status["engine"]["state"] == "halted"
        engine.kill()
    with home.engine(*SMA) as engine:
        status = engine.wait_for_status()
        assert status["engine"]["kill_switch"] is True
        assert "test of the switch" in status["engine"]["kill_reason"]
        wait_until(lambda: "kill switch is engaged" in engine.output, what="the refusal to start the strategy")
        assert home.koc("kill", "--release").returncode == 0
        engine.wait_for_status(lambda s: s["engine"]["state"] == "running", "the release")
        assert home.koc("stop").returncode == 0
        assert engine.process.wait(40) == 0


def test_two_engines_on_one_profile(home: Profile) -> None:
    with home.engine("--no-live") as engine:
        engine.wait_for_status()
        second = home.koc("engine", "--no-live", "--duration", "1")
        assert second.returncode == 1
        assert str(engine.process.pid) in second.stderr
        assert "Traceback" not in second.stderr
        assert engine.wait_for_status()["engine"]["state"] == "running"
