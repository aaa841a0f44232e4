"""Strategies that die or misbehave: reported with the reason, restarted within limits, and nobody else is disturbed."""

from __future__ import annotations

import signal
from typing import Any

import psutil
import pytest

from koc_qt.domain.state import StrategySnapshot, StrategyState
from koc_qt.link.messages import Fact, Snapshot, StrategyChanged
from tests.e2e.books import check_books
from tests.e2e.processes import STRATEGIES, Condition, EngineProcess, Profile, Status, runs, strategy, trades

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

LONGEST_SILENCE_S = 5.0  # a disturbed engine or neighbour is silent for as long as the other misbehaves


def misbehaving(how: str) -> dict[str, Any]:
    """Configure a strategy that does so, and is called so."""
    return {"id": how, "path": str(STRATEGIES / "misbehave.py"), "parameters": {"how": how}, "symbols": ["ETH/USDT"]}


def configure(home: Profile, *ways: str, max_restarts: int) -> None:
    """Let strategies that misbehave run beside one that trades."""
    good = {"id": "good", "path": str(STRATEGIES / "busy.py"), "symbols": ["BTC/USDT"]}
    home.configure(
        {
            "engine": {"heartbeat_s": 0.2, "workers": {"max_restarts": max_restarts, "backoff_s": 1.0}},
            "risk": {"max_orders_per_minute": 100_000},
            "strategies": [{**each, "autostart": True} for each in (*map(misbehaving, ways), good)],
        }
    )


def has_restarted(status: Status, key: str) -> bool:
    """Tell whether a strategy runs for the second time."""
    return strategy(status, key)["restarts"] == 1 and bool(runs(key)(status))


class Watch:
    """Looks at every status and hears every fact, and holds that the good strategy is not disturbed."""

    def __init__(self, engine: EngineProcess, facts: list[Fact]) -> None:
        self._engine = engine
        self._facts = facts
        self._good_pid: int | None = None
        self.wait(lambda status: self._good_pid is not None, "the good one to beat")

    def wait(self, condition: Condition, what: str) -> Status:
        """Wait until a condition holds of a status."""
        return self._engine.wait_for_status(lambda status: self._check(status) and condition(status), what)

    def backed_off(self, key: str) -> list[str]:
        """Give the reasons with which a strategy was shown to wait until it starts again.

        It does so for a second: whoever asks for a status now and then may not see it.
        """
        told = [strategy for fact in self._facts for strategy in _told(fact) if strategy.spec.strategy_id == key]
        return list(dict.fromkeys(each.reason for each in told if each.state is StrategyState.BACKING_OFF))

    def trades_on(self, after: Status) -> None:
        """Hold that the good strategy goes on trading."""
        self.wait(trades("good", strategy(after, "good")["trades"] + 3), "more good trades")

    def _check(self, status: Status) -> bool:
        good = strategy(status, "good")
        assert status["engine"]["state"] == "running"
        if self._good_pid is not None:
            assert (good["state"], good["pid"], good["restarts"]) == ("running", self._good_pid, 0), good
            assert good["heartbeat_age_s"] < LONGEST_SILENCE_S, good
        elif runs("good")(status) and good["heartbeat_age_s"] is not None:
            self._good_pid = good["pid"]
        return True


def _told(fact: Fact) -> tuple[StrategySnapshot, ...]:
    match fact:
        case Snapshot():
            return fact.strategies
        case StrategyChanged():
            return (fact.strategy,)
        case _:
            return ()


def given_up(watch: Watch, home: Profile, how: str, reason: str, max_restarts: int) -> Status:
    """Wait until a strategy that misbehaves is given up, and hold what is said of it and left of it."""
    status = watch.wait(lambda s: strategy(s, how)["state"] == "failed", f"{how} to be given up")
    bad = strategy(status, how)
    assert reason in bad["reason"]
    assert f"given up after {max_restarts} restarts" in bad["reason"]
    assert bad["restarts"] == max_restarts
    backed_off = watch.backed_off(how)
    assert len(backed_off) == max_restarts
    assert all(reason in text for text in backed_off), backed_off
    watch.wait(lambda s: strategy(s, how)["open_orders"] == 0, "its orders to be cancelled")
    return status


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("orders", ""),  # which limit it runs into first depends on the machine
        ("flood", "floods: it said more than 2000 messages a second"),
    ],
)
def test_a_strategy_that_says_too_much_is_reported_and_given_up(home: Profile, how: str, reason: str) -> None:
    configure(home, how, max_restarts=0)
    with home.engine("--speed", "5") as engine, home.listening() as facts:
        watch = Watch(engine, facts)
        watch.trades_on(given_up(watch, home, how, reason, max_restarts=0))
        assert engine.stop() == 0
    check_books(home)


def test_strategies_that_die_are_reported_restarted_and_in_the_end_given_up(home: Profile) -> None:
    """At the same time, and none of them disturbs another."""
    reasons = {
        "raise": "ZeroDivisionError: a price was divided by nothing",
        "exit": "ended with exit code 7",
        "garbage": "sent garbage",
        "hoard": "the strategy ran out of memory",
    }
    configure(home, *reasons, max_restarts=1)
    with home.engine("--speed", "5") as engine, home.listening() as facts:
        watch = Watch(engine, facts)
        for how, reason in reasons.items():
            status = given_up(watch, home, how, reason, max_restarts=1)
        watch.trades_on(status)
        assert engine.stop() == 0
    check_books(home)


def test_workers_that_are_killed_or_hang_are_replaced(home: Profile) -> None:
    """Whether in a loop of their own or frozen from outside, at the same time."""
    configure(home, "calm", "hang", "deaf", max_restarts=5)
    with home.engine("--speed", "5") as engine, home.listening() as facts:
        watch = Watch(engine, facts)
        status = watch.wait(
            lambda s: runs("calm")(s) and runs("deaf")(s) and strategy(s, "deaf")["heartbeat_age_s"] is not None,
            "the others to run",
        )
        pids = {key: strategy(status, key)["pid"] for key in ("calm", "deaf")}
        psutil.Process(pids["deaf"]).send_signal(signal.SIGSTOP)
        psutil.Process(pids["calm"]).send_signal(signal.SIGKILL)
        for key, reason in (("calm", "SIGKILL"), *((key, "hung: no heartbeat for 10 s") for key in ("hang", "deaf"))):
            status = watch.wait(lambda s, key=key: has_restarted(s, key), f"another worker for {key}")  # type: ignore[misc]
            assert [reason in text for text in watch.backed_off(key)] == [True], watch.backed_off(key)
            assert strategy(status, key)["pid"] not in (None, pids.get(key))
        watch.trades_on(status)
        assert engine.stop(signal.SIGTERM) == 0  # strategies that do not listen hold nobody up
