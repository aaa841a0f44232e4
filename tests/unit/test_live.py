"""The live terminal: what it shows, at any size, of anything that an engine may hold."""
# ruff: noqa: E501 - the snapshot reads best one item a line

from __future__ import annotations

import io
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from koc_qt.cli.lines import fill_line, summary_line
from koc_qt.cli.live import render
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Quote, Side
from koc_qt.domain.orders import Fill, Liquidity, Order, OrderRequest, OrderStatus, OrderType
from koc_qt.domain.state import (
    AccountSnapshot,
    Badge,
    Balance,
    EngineSnapshot,
    EngineState,
    PositionSnapshot,
    StrategySnapshot,
    StrategySpec,
    StrategyState,
    TradingMode,
    VenueSnapshot,
    VenueState,
)
from koc_qt.link.messages import Snapshot

NOW = 1_700_000_000_000_000_000
BTC = InstrumentId("sim", "BTC/USDT")
ETH = InstrumentId("sim2", "ETH/USDT")


def engine(**changes: object) -> EngineSnapshot:
    whole = EngineSnapshot(
        state=EngineState.RUNNING,
        reason="",
        version="0.1.0",
        pid=4242,
        started_ns=NOW - 754 * 10**9,
        uptime_s=754.3,
        kill_switch=False,
        kill_reason="",
        pnl=Decimal("1234.5678"),
        trades=12,
        trades_per_hour=57.3,
        orders=30,
        open_orders=2,
        cpu_percent=3.4,
        memory_bytes=123_456_789,
        loop_lag_ms=0.4,
        order_latency_p50_ms=1.21,
        order_latency_p99_ms=4.56,
        journal_ok=True,
        time_ns=NOW,
    )
    return msgspec.structs.replace(whole, **changes)


def strategy(name: str, **changes: object) -> StrategySnapshot:
    whole = StrategySnapshot(
        spec=StrategySpec(name, f"/s/{name}.py", "sim", (BTC,), "1m"),
        name=name,
        state=StrategyState.RUNNING,
        reason="",
        pid=1,
        badge=Badge.ISOLATED,
        badge_reason="",
        restarts=0,
        started_ns=NOW,
        heartbeat_age_s=0.5,
        rate_hz=12.34,
        ticks=100,
        anomalies=0,
        pnl=Decimal("-5.25"),
        realised_pnl=Decimal(0),
        unrealised_pnl=Decimal(0),
        fees=Decimal(0),
        trades=7,
        trades_per_hour=3.5,
        orders=9,
        open_orders=1,
        cpu_percent=1.0,
        memory_bytes=1,
        order_latency_p50_ms=None,
        order_latency_p99_ms=None,
        metrics={},
        time_ns=NOW,
    )
    return msgspec.structs.replace(whole, **changes)


def order(number: int, status: OrderStatus = OrderStatus.ACCEPTED, reason: str = "") -> Order:
    request = OrderRequest(BTC, Side.BUY, OrderType.LIMIT, Decimal("0.50"), Decimal("50000.10"))
    when = NOW + number * 10**9
    return Order(f"o{number}", "sma_cross", "sim", request, when, when, status, reason=reason)


def fill(number: int) -> Fill:
    return Fill(
        fill_id=f"f{number}",
        client_order_id=f"o{number}",
        strategy_id="sma_cross",
        account_id="sim",
        instrument=BTC,
        side=Side.SELL,
        price=Decimal("50000.10"),
        quantity=Decimal("0.25000"),
        fee=Decimal("12.500025"),
        fee_currency="USDT",
        liquidity=Liquidity.TAKER,
        time_ns=NOW + number * 10**9,
    )


def position(quantity: str) -> PositionSnapshot:
    third = Decimal(100_000) / 3
    return PositionSnapshot(
        "sma_cross", "sim", BTC, Decimal(quantity), third, Decimal(1), Decimal("-7.5"), Decimal(1), NOW
    )


QUOTES = [Quote(each, NOW, Decimal("49999.9"), Decimal(1), Decimal("50000.1"), Decimal(2)) for each in (BTC, ETH)]
FULL = Snapshot(
    engine=engine(),
    venues=tuple(VenueSnapshot(name, VenueState.CONNECTED, "", 1, "closed", NOW) for name in ("sim", "sim2", "binance")),
    accounts=(AccountSnapshot("sim", "sim", TradingMode.SIMULATED, VenueState.CONNECTED, (Balance("USDT", Decimal(100_000)),), NOW),),
    instruments=(),
    strategies=(strategy("sma_cross"), strategy("scalping", state=StrategyState.FAILED, reason="line 7: boom", badge=Badge.PARTIAL)),
    positions=(position("0.25"), position("0")),
    orders=(order(1), order(2, OrderStatus.REJECTED, "the kill switch is engaged"), order(3, OrderStatus.FILLED)),
    fills=tuple(fill(number) for number in range(30)),
)  # fmt: skip
EMPTY = Snapshot(engine(state=EngineState.STARTING, order_latency_p50_ms=None), (), (), (), (), (), (), ())


def screen(snapshot: Snapshot, width: int = 80, height: int = 24) -> list[str]:
    """Render as the terminal does, and give its lines."""
    console = Console(file=io.StringIO(), width=width, height=height, color_system="truecolor", force_terminal=True)
    with console.capture() as capture:
        console.print(render(snapshot, width, height, QUOTES))
    plain = "".join(_without_codes(capture.get()))
    return plain.removesuffix("\n").split("\n")


def _without_codes(text: str) -> str:
    parts = text.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])


def test_a_full_engine_on_a_plain_terminal() -> None:
    lines = screen(FULL)
    text = "\n".join(lines)
    assert len(lines) == 24
    assert all(cell_len(line) == 80 for line in lines[:-1])
    assert lines[0].startswith(" K.O.C.  RUNNING  up 0:12:34  12 trades, 2 open")
    assert lines[0].endswith("PnL +1,234.57 ")
    assert "0.1.0  cpu 3 %  123 MB  loop 0.4 ms  orders p50 1.2 p99 4.6 ms" in lines[1]
    assert "sim (simulated): 100,000 USDT" in lines[2]
    for words in (
        "sim:BTC/USDT 49,999.9 50,000.1 0.0 bp connected",
        "sma_cross running isolated 12.3 7 -5.25",
        "scalping: line 7: boom failed partial 12.3 7 -5.25",
        "sim:BTC/USDT 0.25 33,333.333 -7.50 sma_cross",
        "22:13:21Z buy sim:BTC/USDT 0/0.5 50,000.1 accepted",
        "rejected",
        "22:13:49Z sell sim:BTC/USDT 0.25 50,000.1 fee 12.500025",
    ):
        assert words in " ".join(text.split()), words
    assert "Ctrl-C stops" in lines[-1]


def test_an_engine_that_has_nothing_yet() -> None:
    text = "\n".join(screen(EMPTY))
    assert "STARTING" in text
    for words in ("no venue yet", "none is running", "none is open", "none yet"):
        assert words in text


def test_open_orders_stand_before_newer_closed_ones() -> None:
    words = " ".join(" ".join(screen(FULL)).split())
    assert words.index("accepted") < words.index("22:13:23Z")


def test_what_has_no_room_is_counted() -> None:
    lines = screen(FULL, height=24)
    shown = sum("sell" in line for line in lines)
    assert any(line.startswith(" FILL") and line.endswith(f"+{30 - shown} ") for line in lines)
    assert sum("sell" in line for line in screen(FULL, height=60)) == 30


@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 81, 120, 200])
@pytest.mark.parametrize("height", [1, 2, 4, 10, 24, 50])
@pytest.mark.parametrize("snapshot", [FULL, EMPTY], ids=["full", "empty"])
def test_it_fills_exactly_the_room_it_is_given(width: int, height: int, snapshot: Snapshot) -> None:
    text = render(snapshot, width, height, QUOTES)
    lines = text.plain.split("\n")
    assert len(lines) == height
    assert all(cell_len(line) == width for line in lines if line)


def test_the_kill_switch_and_a_failing_journal_are_not_overlooked() -> None:
    killed = msgspec.structs.replace(
        FULL, engine=engine(kill_switch=True, kill_reason="by hand", state=EngineState.HALTED)
    )
    assert "KILL SWITCH ENGAGED, 'koc kill --release' ends it: by hand" in screen(killed)[1]
    assert "KILL SWITCH ENGAGED: by hand" in summary_line(killed)
    broken = msgspec.structs.replace(FULL, engine=engine(journal_ok=False))
    assert "THE JOURNAL CANNOT BE WRITTEN" in screen(broken)[1]
    stopping = msgspec.structs.replace(FULL, engine=engine(state=EngineState.STOPPING, reason="SIGTERM received"))
    assert "SIGTERM received" in screen(stopping)[1]


def test_a_note_stands_in_the_last_line() -> None:
    last = render(FULL, 80, 24, note="strategy x\x1b[2J failed").plain.split("\n")[-1]
    assert last.strip() == "strategy x\\x1b[2J failed"


NASTY = "\x1b[2J\x1b]0;title\x07\r\nvery long 名前 [red]not markup[/red] " * 5


def test_names_from_elsewhere_cannot_steer_the_terminal() -> None:
    nasty = msgspec.structs.replace(
        FULL,
        engine=engine(kill_switch=True, kill_reason=NASTY),
        strategies=(strategy(NASTY, state=StrategyState.FAILED, reason=NASTY),),
        orders=(order(1, OrderStatus.REJECTED, NASTY),),
        fills=(msgspec.structs.replace(fill(1), strategy_id=NASTY, fee_currency=NASTY),),
    )
    text = render(nasty, 80, 24, QUOTES)
    assert all(cell_len(line) == 80 for line in text.plain.split("\n") if line)
    for shown in (text.plain.replace("\n", ""), summary_line(nasty), fill_line(nasty.fills[0])):
        assert shown.isprintable()
    assert "[red]not markup" in summary_line(nasty)


def test_plain_lines() -> None:
    assert summary_line(FULL) == (
        "22:13:20Z engine running, up 0:12:34 | PnL +1,234.57 | 12 trades, 2 open orders | sim connected | "
        "sim2 connected | binance connected | sma_cross running -5.25 | scalping failed -5.25"
    )
    assert fill_line(fill(1)) == (
        "22:13:21Z fill: sell 0.25 sim:BTC/USDT at 50,000.1 (taker, fee 12.500025 USDT) for sma_cross"
    )


def test_what_has_stopped_makes_way_for_what_runs() -> None:
    running, other = FULL.strategies[:2]
    never = msgspec.structs.replace(other, state=StrategyState.STOPPED, trades=0, spec=named(other, "never"))
    over = msgspec.structs.replace(other, state=StrategyState.STOPPED, trades=3, spec=named(other, "over"))
    snapshot = msgspec.structs.replace(FULL, strategies=[never, over, running])
    assert summary_line(snapshot).endswith("| over stopped -5.25 | sma_cross running -5.25")
    lines = screen(snapshot)
    first = next(number for number, line in enumerate(lines) if line.startswith(" STRATEGY")) + 1
    assert [line.split()[0].rstrip(":") for line in lines[first : first + 3]] == ["sma_cross", "never", "over"]


def named(strategy: StrategySnapshot, strategy_id: str) -> StrategySpec:
    return msgspec.structs.replace(strategy.spec, strategy_id=strategy_id)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00:00"), (59.9, "0:00:59"), (86399, "23:59:59"), (90061, "1 d 01:01")]
)
def test_uptimes(seconds: float, shown: str) -> None:
    assert f"up {shown} " in summary_line(msgspec.structs.replace(FULL, engine=engine(uptime_s=seconds)))


@given(
    pnl=st.decimals(-(10**30), 10**30, allow_nan=False, places=20),
    quantity=st.decimals(-(10**20), 10**20, allow_nan=False),
    name=st.text(max_size=60),
    width=st.integers(10, 200),
    height=st.integers(1, 60),
)
def test_any_values_fit(pnl: Decimal, quantity: Decimal, name: str, width: int, height: int) -> None:
    snapshot = msgspec.structs.replace(
        FULL,
        engine=engine(pnl=pnl),
        strategies=(strategy(name, pnl=pnl),) * 3,
        positions=(msgspec.structs.replace(position("1"), quantity=quantity, unrealised_pnl=pnl),),
    )
    lines = render(snapshot, width, height, QUOTES).plain.split("\n")
    assert len(lines) == height
    assert all(cell_len(line) == width for line in lines if line)
