"""Every way in which an engine is told to end, and the kill switch, which outlives them all."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

from tests.conditions import PATIENCE, wait_until
from tests.e2e.books import check_books, open_orders
from tests.e2e.processes import STRATEGIES, EngineProcess, Profile, runs, strategy, trades

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

BUSY = ("--strategy", str(STRATEGIES / "busy.py"), "--symbol", "BTC/USDT", "--speed", "10")


def trading(home: Profile, engine: EngineProcess) -> None:
    """Wait until it trades and an order rests, so that there is something to be put in order."""
    engine.wait_for_status(trades("busy", 2), "three trades")
    wait_until(lambda: open_orders(home), what="an order that rests")


def check_in_order(home: Profile) -> None:
    """Hold that nothing is left open, and that the strategy does not come back by itself."""
    assert open_orders(home) == []
    assert [record.wanted for record in home.journal().strategies] == [False]
    check_books(home)


def test_koc_stop(home: Profile) -> None:
    with home.engine(*BUSY) as engine:
        trading(home, engine)
        children = engine.children()
        result = home.koc("stop")
        assert (result.returncode, result.stdout) == (0, "The engine has stopped.\n")
        assert engine.wait() == 0
        engine.check_gone(children)
    check_in_order(home)
    assert home.koc("stop").returncode == 3


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_it_in_order(home: Profile, how: signal.Signals) -> None:
    with home.engine(*BUSY) as engine:
        trading(home, engine)
        assert engine.stop(how) == 0
    assert f"Stopped: {how.name} received." in engine.output
    check_in_order(home)


def test_impatience_changes_nothing(home: Profile) -> None:
    with home.engine(*BUSY) as engine:
        trading(home, engine)
        children = engine.children()
        for _ in range(5):
            engine.process.send_signal(signal.SIGINT)
        assert engine.wait() == 0
        engine.check_gone(children)
    check_in_order(home)


def test_a_terminal_that_is_closed(home: Profile) -> None:
    """With its terminal gone, the engine stops in order; that it can say nothing any more stops nothing."""
    master, slave = pty.openpty()
    home.home.mkdir()
    command = [
        sys.executable,
        "-c",
        "import os, sys; os.setsid(); import fcntl, termios;"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])",
    ]
    process = subprocess.Popen(
        [*command, "-m", "koc_qt", "engine", *BUSY], stdin=slave, stdout=slave, stderr=slave, env=home.environment
    )
    os.close(slave)
    try:
        wait_until(lambda: len(home.journal().fills) > 2 and open_orders(home), timeout_s=60.0, what="trades")
    finally:
        os.close(master)
    try:
        assert process.wait(30 * PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    check_in_order(home)
    assert not list(home.paths.crashes.glob("crash-*"))


def test_nohup_goes_on_without_a_terminal(home: Profile) -> None:
    with home.engine(*BUSY, nohup=True) as engine:
        trading(home, engine)
        engine.process.send_signal(signal.SIGHUP)
        engine.wait_for_status(trades("busy", len(home.journal().fills) + 3), "trades after the terminal was closed")
        assert engine.stop() == 0
    check_in_order(home)


def test_the_kill_switch_latches_over_kill_9(home: Profile) -> None:
    with home.engine(*BUSY) as engine:
        trading(home, engine)
        result = home.koc("kill", "--reason", "tëst of the switch")
        assert result.returncode == 0
        assert "until `koc kill --release`" in result.stdout
        status = home.ask("status")
        assert (status["engine"]["kill_switch"], status["engine"]["state"]) == (True, "halted")
        assert strategy(status, "busy")["state"] == "stopped"
        assert open_orders(home) == []
        engine.kill()
    stopped_at = home.journal()
    with home.engine(*BUSY) as engine:
        status = engine.wait_for_status(lambda s: s["engine"]["state"] == "halted", "to be halted still")
        assert status["engine"]["kill_reason"] == "tëst of the switch"
        engine.wait_for_output("busy.py was not started: the kill switch is engaged (tëst of the switch)")
        assert home.koc("kill", "--release").returncode == 0
        released = engine.wait_for_status(lambda s: s["engine"]["state"] == "running", "the release")
        assert strategy(released, "busy")["state"] == "stopped", "a release restarts nothing"
        assert home.journal().orders == stopped_at.orders
        assert engine.stop() == 0
    with home.engine(*BUSY) as engine:
        engine.wait_for_status(runs("busy"), "the strategy to run again")
        engine.wait_for_status(trades("busy", len(stopped_at.fills)), "trades after the release")
        assert engine.stop() == 0
    check_in_order(home)


def test_kill_9_while_the_kill_switch_is_being_engaged(home: Profile) -> None:
    """Whatever the switch had not cancelled yet when the engine died is cancelled by the next one."""
    home.configure(
        {
            "accounts": [
                {"id": "sim", "venue": "sim", "mode": "simulated", "balances": {"USDT": 100_000}, "latency_ms": 2_000}
            ]
        }
    )
    with home.engine(*BUSY) as engine:
        wait_until(lambda: open_orders(home), timeout_s=60.0, what="orders on their way")
        with subprocess.Popen(
            [sys.executable, "-m", "koc_qt", "kill"],
            env=home.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as command:
            wait_until(
                lambda: (switch := home.journal().kill_switch) is not None and switch.engaged,
                what="the latch on the disk",
            )
            engine.kill()
            command.kill()
    assert open_orders(home)
    with home.engine() as engine:
        engine.wait_for_status(lambda s: s["engine"]["state"] == "halted", "to be halted still")
        wait_until(lambda: not open_orders(home), timeout_s=30.0, what="every order to end")
        assert engine.stop() == 0
    check_books(home)
