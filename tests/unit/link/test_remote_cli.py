"""koc status|orders|fills|stop|kill, against an engine in its own process and against journals."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from koc_qt.adapters.sqlite_journal import SqliteJournal
from koc_qt.cli.remote import add_parsers
from koc_qt.domain.errors import KocError, LinkError, StorageError
from koc_qt.domain.orders import OrderFilled
from koc_qt.link.client import connect
from koc_qt.paths import Paths
from koc_qt.ports.journal import OrderRecord
from koc_qt.version import __version__
from tests.conditions import PATIENCE
from tests.fakes.link import FakeEngine, engine_process, market_buy


def koc(*words: str) -> int:
    """Run a command, as the koc program does."""
    parser = argparse.ArgumentParser()
    add_parsers(parser.add_subparsers())
    args = parser.parse_args(words)
    code: int = args.run(args)
    return code


def home(profile: Paths) -> Path:
    return profile.run.parent


def journal(profile: Paths, strategies: Sequence[str] = ("manual",)) -> FakeEngine:
    """Write a journal of two orders a strategy, the first of them filled; gives the engine that has the same."""
    engine = FakeEngine()
    records = []
    for strategy_id in strategies:
        first, _ = engine.place(), engine.place(market_buy("0.25"))
        for order in list(engine.orders.values())[-2:]:
            engine.orders[order.client_order_id] = msgspec.structs.replace(order, strategy_id=strategy_id)
        fill = engine.fill(first.client_order_id)
        records += [OrderRecord(order) for order in list(engine.orders.values())[-2:]]
        done = engine.orders[first.client_order_id]
        records.append(OrderRecord(done, OrderFilled(done.client_order_id, fill.time_ns, fill)))

    async def write() -> None:
        file = SqliteJournal(profile.journal)
        await file.append(records)
        await file.close()

    asyncio.run(write())
    return engine


# ---- status ---------------------------------------------------------------------------------------------------------


def test_status_is_one_object(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    with engine_process(home(profile)) as process:
        assert koc("status", "--json") == 0
        status = json.loads(capsys.readouterr().out)
        assert koc("status") == 0
        text = capsys.readouterr().out
    engine = status["engine"]
    assert engine["state"] == "running"
    assert (engine["pid"], engine["version"], engine["uptime_s"]) == (process.pid, __version__, 12.5)
    assert (engine["pnl"], engine["kill_switch"]) == ("-1.50", False)
    assert (engine["started"], engine["started_ns"]) == ("2023-11-14T22:13:20.000000Z", 1_700_000_000_000_000_000)
    assert status["latency"] == {"order_p50_ms": 1.25, "order_p99_ms": None}
    assert [(venue["name"], venue["state"]) for venue in status["venues"]] == [("sim", "connected")]
    assert status["accounts"][0]["id"] == "paper"
    assert status["accounts"][0]["balances"] == [{"currency": "USDT", "total": "10000", "locked": "0"}]
    (strategy,) = status["strategies"]
    expected = {
        "id": "sma-1",
        "name": "SMA cross",
        "state": "running",
        "pid": 4242,
        "badge": "partial",
        "pnl": "-1.50",
        "trades": 2,
        "orders": 3,
        "instruments": ["sim:BTC/USDT"],
        "started": "2023-11-14T22:13:20.000000Z",
    }
    assert {key: strategy[key] for key in expected} == expected
    (position,) = strategy["positions"]
    assert (position["instrument"], position["quantity"], position["pnl"]) == ("sim:BTC/USDT", "0.1", "-1.50")
    assert status["positions"] == strategy["positions"]
    for word in (
        f"Engine running, up 0:00:12, version {__version__}, pid {process.pid}",
        "PnL -1.5",
        "sma-1",
        "partial",
    ):
        assert word in text


def test_status_without_an_engine(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert koc("status", "--json") == 3
    out, err = capsys.readouterr()
    status = json.loads(out)
    assert status["engine"]["state"] == "stopped"
    assert [status[key] for key in ("venues", "accounts", "strategies", "positions")] == [[], [], [], []]
    assert err.startswith("koc: no engine runs on this profile")
    assert koc("status") == 3
    assert capsys.readouterr().out == ""
    with engine_process(home(profile)) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert koc("status", "--json") == 3
    assert f"(pid {process.pid}) ended without saying so" in json.loads(capsys.readouterr().out)["engine"]["reason"]


def test_status_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOC_HOME", str(tmp_path / "none"))
    assert koc("status") == koc("stop") == koc("kill") == 3
    assert koc("orders") == koc("fills") == 0
    assert not (tmp_path / "none").exists()


def test_status_of_a_profile_with_bad_keys(profile: Paths) -> None:
    with engine_process(home(profile)):
        (profile.keys / "client.key_secret").write_text("nonsense")
        with pytest.raises(LinkError, match="is damaged"):
            koc("status")


# ---- control --------------------------------------------------------------------------------------------------------


def test_kill_and_release(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    with engine_process(home(profile)):
        assert koc("kill", "--reason", "too \x1b[31mhot") == 0
        assert "engaged" in capsys.readouterr().out
        assert koc("status") == 0
        shown = capsys.readouterr().out
        assert "Engine halted" in shown
        assert "KILL SWITCH ENGAGED: too ?[31mhot" in shown
        assert koc("kill", "--release") == 0
        assert "released" in capsys.readouterr().out
        with connect(profile.run, profile.keys) as client:
            assert not client.snapshot.engine.kill_switch


def test_stop_waits_for_the_end(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    with engine_process(home(profile)) as process:
        assert koc("stop") == 0
        assert "has stopped" in capsys.readouterr().out
        assert process.wait(10 * PATIENCE) == 0
    assert koc("stop") == 3


def test_stop_says_when_it_takes_too_long(profile: Paths) -> None:
    with (
        engine_process(home(profile), "--linger") as process,
        pytest.raises(LinkError, match=rf"pid {process.pid}.*not ended in 0\.3 s"),
    ):
        koc("stop", "--timeout", "0.3")


@pytest.mark.parametrize("words", [("stop", "--timeout", "0"), ("stop", "--timeout", "x"), ("orders", "--limit", "-1")])
def test_bad_options(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        koc(*words)
    assert ended.value.code == 2
    assert "is not a" in capsys.readouterr().err


# ---- the journal ----------------------------------------------------------------------------------------------------


def test_orders_and_fills_as_json(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    engine = journal(profile, ["manual", "sma-1"])
    orders: list[dict[str, Any]]
    assert koc("orders", "--json") == 0
    orders = json.loads(capsys.readouterr().out)
    assert [order["client_order_id"] for order in orders] == list(engine.orders)
    assert orders[0]["status"] == "filled"
    assert (orders[0]["instrument"], orders[0]["side"], orders[0]["type"]) == ("sim:BTC/USDT", "buy", "market")
    assert (orders[0]["quantity"], orders[0]["remaining"], orders[0]["average_price"]) == ("0.1", "0.0", "100")
    assert (orders[1]["quantity"], orders[1]["price"], orders[1]["fill_ids"]) == ("0.25", None, [])
    assert orders[0]["created"].endswith("Z")
    assert koc("fills", "--json") == 0
    fills = json.loads(capsys.readouterr().out)
    assert [fill["fill_id"] for fill in fills] == list(engine.fills)
    assert sum(Decimal(fill["quantity"]) for fill in fills) == Decimal("0.2")
    assert (fills[0]["fee"], fills[0]["time_ns"]) == ("0.01", engine.fills["T00001"].time_ns)


def test_orders_and_fills_chosen(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    journal(profile, ["manual", "sma-1"])
    assert koc("orders", "--json", "--strategy", "sma-1", "--limit", "1") == 0
    assert [order["client_order_id"] for order in json.loads(capsys.readouterr().out)] == ["K00004"]
    assert koc("fills", "--json", "--strategy", "manual", "--limit", "5") == 0
    assert [fill["fill_id"] for fill in json.loads(capsys.readouterr().out)] == ["T00001"]
    assert koc("orders", "--strategy", "sma-1") == koc("fills", "--strategy", "sma-1") == 0
    text = capsys.readouterr().out
    assert "K00003" in text
    assert "T00002" in text
    assert "K00001" not in text
    assert koc("orders", "--strategy", "none") == koc("fills", "--strategy", "none") == 0
    assert capsys.readouterr().out == "No orders.\nNo fills.\n"


def test_a_journal_in_use_and_one_of_a_killed_engine(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    script = """
import asyncio, pathlib, sys
from koc_qt.adapters.sqlite_journal import SqliteJournal
from koc_qt.ports.journal import OrderRecord
from tests.fakes.link import FakeEngine
async def main():
    journal, engine = SqliteJournal(pathlib.Path(sys.argv[1])), FakeEngine()
    for _ in range(3):
        await journal.append([OrderRecord(engine.place())])
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    command = [sys.executable, "-c", script, str(profile.journal)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for ended in (False, True):
            if ended:
                process.kill()
                process.wait()
            assert koc("orders", "--json") == 0
            assert len(json.loads(capsys.readouterr().out)) == 3


def test_a_damaged_journal_is_a_sentence(profile: Paths) -> None:
    profile.journal.write_bytes(b"no database" * 1000)
    for command in ("orders", "fills"):
        with pytest.raises(StorageError, match="cannot be read"):
            koc(command)


def test_the_program_itself(profile: Paths) -> None:
    with engine_process(home(profile)):
        command = [sys.executable, "-W", "error", "-m", "koc_qt", "status", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["engine"]["state"] == "running"


def test_parsers_are_cheap() -> None:
    """The commands cost no more than they must: the parser alone loads neither zmq nor rich."""
    script = (
        "import argparse, sys; from koc_qt.cli.remote import add_parsers;"
        "add_parsers(argparse.ArgumentParser().add_subparsers());"
        "sys.exit(any(name in sys.modules for name in ('zmq', 'rich', 'msgspec', 'asyncio', 'sqlite3')))"
    )
    assert subprocess.run([sys.executable, "-c", script], env=dict(os.environ)).returncode == 0


def test_refusals_are_sentences(profile: Paths) -> None:
    with engine_process(home(profile)), connect(profile.run, profile.keys) as client:
        from koc_qt.link.messages import StopStrategy

        with pytest.raises(KocError, match="there is no strategy 'x'"):
            client.request(StopStrategy("x"))
