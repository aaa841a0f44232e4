"""Strategies that die or misbehave: reported with the reason, restarted within limits, and nobody else is disturbed."""

from __future__ import annotations

import signal
from typing import Any

import psutil
import pytest

from tests.e2e.books import check_books
from tests.e2e.processes import STRATEGIES, Condition, EngineProcess, Profile, Status, runs, strategy, trades

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

LONGEST_SILENCE_S = 5.0  # a disturbed engine or neighbour is silent for as long as the other misbehaves


def misbehaving(key: str, how: str) -> dict[str, Any]:
    """Configure a strategy that does so."""
    return {"id": key, "path": str(STRATEGIES / "misbehave.py"), "parameters": {"how": how}, "symbols": ["ETH/USDT"]}


def configure(home: Profile, how: str, max_restarts: int, *more: dict[str, Any]) -> None:
    """Let a strategy that misbehaves run beside one that trades, and beside more."""
    bad = misbehaving("bad", how)
    good = {"id": "good", "path": str(STRATEGIES / "busy.py"), "symbols": ["BTC/USDT"]}
    home.configure(
        {
            "engine": {"heartbeat_s": 0.2, "workers": {"max_restarts": max_restarts, "backoff_s": 1.0}},
            "risk": {"max_orders_per_minute": 100_000},
            "strategies": [{**each, "autostart": True} for each in (bad, good, *more)],
        }
    )


def has_restarted(status: Status, key: str = "bad") -> bool:
    """Tell whether a strategy runs for the second time."""
    return strategy(status, key)["restarts"] == 1 and bool(runs(key)(status))


class Watch:
    """Looks at every status, notes what became of the bad strategy, and holds that the good one is not disturbed."""

    def __init__(self, engine: EngineProcess) -> None:
        self._engine = engine
        self._good_pid: int | None = None
        self._seen: list[tuple[str, str, str]] = []
        self.wait(lambda status: self._good_pid is not None, "the good one to beat")

    def wait(self, condition: Condition, what: str) -> Status:
        """Wait until a condition holds of a status."""
        return self._engine.wait_for_status(lambda status: self._check(status) and condition(status), what)

    def has_backed_off(self, reason: str, key: str = "bad") -> bool:
        """Tell whether a strategy was seen waiting to start again, and the reason was there to read."""
        return any((seen, state) == (key, "backing_off") and reason in text for seen, state, text in self._seen)

    def trades_on(self, after: Status) -> None:
        """Hold that the good strategy goes on trading."""
        self.wait(trades("good", strategy(after, "good")["trades"] + 3), "more good trades")

    def _check(self, status: Status) -> bool:
        good = strategy(status, "good")
        self._seen += [(each["id"], each["state"], each["reason"]) for each in status["strategies"]]
        assert status["engine"]["state"] == "running"
        if self._good_pid is not None:
            assert (good["state"], good["pid"], good["restarts"]) == ("running", self._good_pid, 0), good
            assert good["heartbeat_age_s"] < LONGEST_SILENCE_S, good
        elif runs("good")(status) and good["heartbeat_age_s"] is not None:
            self._good_pid = good["pid"]
        return True


@pytest.mark.parametrize(
    ("how", "reason", "max_restarts"),
    [
        ("raise", "ZeroDivisionError: a price was divided by nothing", 1),
        ("exit", "ended with exit code 7", 1),
        ("orders", "", 0),  # which limit it runs into first depends on the machine
        ("flood", "floods: it said more than 2000 messages a second", 0),
        ("garbage", "sent garbage", 1),
        ("hoard", "the strategy ran out of memory", 1),
    ],
)
def test_a_strategy_that_misbehaves_is_reported_and_in_the_end_given_up(
    home: Profile, how: str, reason: str, max_restarts: int
) -> None:
    configure(home, how, max_restarts)
    with home.engine("--speed", "5") as engine:
        watch = Watch(engine)
        status = watch.wait(lambda s: strategy(s, "bad")["state"] == "failed", "the bad one to be given up")
        bad = strategy(status, "bad")
        assert reason in bad["reason"]
        assert f"given up after {max_restarts} restarts" in bad["reason"]
        assert bad["restarts"] == max_restarts
        assert watch.has_backed_off(reason) == bool(max_restarts)
        watch.wait(lambda s: strategy(s, "bad")["open_orders"] == 0, "its orders to be cancelled")
        watch.trades_on(status)
        assert engine.stop() == 0
    check_books(home)


def test_a_worker_that_is_killed_is_replaced(home: Profile) -> None:
    configure(home, "calm", max_restarts=5)
    with home.engine("--speed", "5") as engine:
        watch = Watch(engine)
        status = engine.wait_for_status(runs("bad"), "the other one to run")
        pid = strategy(status, "bad")["pid"]
        psutil.Process(pid).send_signal(signal.SIGKILL)
        status = watch.wait(has_restarted, "another worker")
        assert watch.has_backed_off("SIGKILL")
        assert strategy(status, "bad")["pid"] not in (None, pid)
        watch.trades_on(status)
        assert engine.stop() == 0


def test_workers_that_hang_are_replaced(home: Profile) -> None:
    """Whether in a loop of their own or frozen from outside, at the same time."""
    configure(home, "hang", 5, misbehaving("deaf", "deaf"))
    with home.engine("--speed", "5") as engine:
        watch = Watch(engine)
        status = watch.wait(
            lambda s: runs("deaf")(s) and strategy(s, "deaf")["heartbeat_age_s"] is not None, "the other one to run"
        )
        psutil.Process(strategy(status, "deaf")["pid"]).send_signal(signal.SIGSTOP)
        for key in ("bad", "deaf"):
            status = watch.wait(lambda s, key=key: has_restarted(s, key), f"another worker for {key}")  # type: ignore[misc]
            assert watch.has_backed_off("hung: no heartbeat for 10 s", key)
        watch.trades_on(status)
        assert engine.stop(signal.SIGTERM) == 0  # strategies that do not listen hold nobody up
