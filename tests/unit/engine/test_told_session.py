"""Sessions of strategies that hear quotes, recorded and run once more: the engine's services on matching engines."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, cast

import msgspec
import pytest

from koc_qt.adapters.venues.paper import PaperVenue
from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Book, BookLevel, MarketEvent, Quote, Side, Trade
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.orders import OrderRequest
from koc_qt.domain.parity import PAPER, Comparison
from koc_qt.domain.state import Balance, StrategyState, TradingMode
from koc_qt.domain.trust import Check, Verdict
from koc_qt.engine import latency, told_files, told_session, told_tape
from koc_qt.engine.accounts import AccountInfo
from koc_qt.engine.told_files import PieceHead, read, sessions_of
from koc_qt.sdk.channel import (
    Amend,
    BarClosed,
    Cancel,
    FillUpdate,
    HistoryBars,
    HostMessage,
    OrderUpdate,
    QuoteUpdate,
    ReplayTold,
    RequestHistory,
    Running,
    StartRun,
    Submit,
    TradeUpdate,
    WorkerMessage,
)
from koc_qt.sdk.parameters import set_parameters
from koc_qt.sdk.session import Session
from koc_qt.sdk.strategy import describe
from koc_qt.wiring.accounts import feed
from koc_qt.worker.loader import load_strategy
from tests.conditions import until
from tests.fakes.market import FakeDataVenue
from tests.fakes.trading import BTC, BTC_RULES
from tests.fakes.workers import FakeWorker
from tests.unit.engine.desk import EngineDesk
from tests.unit.engine.test_trust import Desk

SAMPLES = Path(__file__).parents[3] / "strategies"
SCALPING = (SAMPLES / "scalping.py").read_text(encoding="utf-8")
ARBITRAGE = (SAMPLES / "arbitrage.py").read_text(encoding="utf-8")
QUICK: dict[str, Any] = {"average_s": 4.0, "margin_bp": 0.0, "stop_bp": 25.0}
GAPS: dict[str, Any] = {"margin_bp": 0.0, "exit_bp": 1.0, "rest_s": 2.0, "patience_s": 20.0}
MOODY = """
from koc_qt.sdk import Strategy
import random

class Moody(Strategy):
    heard = 0

    def on_quote(self, quote):
        self.heard += 1
        if self.heard % 5 == 0:
            random.choice((self.buy, self.sell))("0.1")
"""
TIMED = """
from koc_qt.sdk import Strategy

class Timed(Strategy):
    def on_start(self):
        self.set_timer(3.0)

    def on_timer(self):
        if self.position().quantity:
            self.close_position()
        else:
            self.buy("0.1")

    def on_quote(self, quote): ...
"""
ALT = InstrumentId("alt", "BTC/USDT")
ALT_RULES = msgspec.structs.replace(BTC_RULES, id=ALT)
MS = 1_000_000
CASH = (Balance("USDT", Decimal(50_000)),)


class Player:
    """A worker whose strategy is real, and which the test has handle its messages when it likes."""

    def __init__(self, worker: FakeWorker, clock: Callable[[], int]) -> None:
        self._worker = worker
        self._clock = clock
        self._send = worker.send
        self.waiting: deque[HostMessage] = deque()
        self._said: list[WorkerMessage] | None = []  # what on_start asks for waits until it runs
        worker.send = self.take  # type: ignore[method-assign]

    @property
    def time_ns(self) -> int:
        return self._clock()

    def take(self, message: HostMessage) -> None:
        self._send(message)
        if isinstance(message, StartRun):
            self._start(message)
        else:
            self.waiting.append(message)

    def _start(self, start: StartRun) -> None:
        strategy = load_strategy(start.source, start.filename)()
        sys.modules.pop("koc_strategy", None)
        set_parameters(strategy, start.parameters)
        self.session = Session(
            strategy, self, instruments=start.instruments, timeframe=start.timeframe or strategy.timeframe,
            cash=start.cash, positions=start.positions, open_orders=start.open_orders, seed=start.seed,
        )  # fmt: skip
        self.session.start()
        self._worker.say(Running(describe(strategy), {}))
        said, self._said = self._said or [], None
        for message in said:
            self._worker.say(message)

    def pump(self) -> None:
        """Handle what has come."""
        session = self.session
        while self.waiting:
            match self.waiting.popleft():
                case QuoteUpdate(quote):
                    session.on_quote(quote)
                case TradeUpdate(trade):
                    session.on_trade(trade)
                case BarClosed(bar, warmup):
                    session.on_bar(bar, warmup=warmup)
                case OrderUpdate(request_id, order, reason):
                    session.on_order_update(request_id, order, reason)
                case FillUpdate(request_id, fill, position, cash):
                    session.on_fill(request_id, fill, position, cash)
                case HistoryBars(request_id, bars, error):
                    session.on_history(request_id, bars, error)
            self.tick()

    def tick(self) -> None:
        """Let a timer go off that is due."""
        session = self.session
        if session.next_deadline_ns is not None and self.time_ns >= session.next_deadline_ns:
            session.on_time(self.time_ns)

    def _say(self, message: WorkerMessage) -> None:
        if self._said is None:
            self._worker.say(message)
        else:
            self._said.append(message)

    def submit(self, request_id: int, request: OrderRequest) -> None:
        self._say(Submit(request_id, request))

    def cancel(self, client_order_id: str) -> None:
        self._say(Cancel(client_order_id))

    def amend(self, client_order_id: str, quantity: Decimal, price: Decimal | None) -> None:
        self._say(Amend(client_order_id, quantity, price))

    def request_history(self, request_id: int, instrument: InstrumentId, timeframe: str, count: int) -> None:
        self._say(RequestHistory(request_id, instrument, timeframe, count))

    def log(self, level: str, text: str) -> None: ...

    def metric(self, name: str, value: float) -> None: ...


class Told(Desk):
    """Two venues with a paper account each, and a market that moves; `players` are the workers of strategies."""

    def __init__(self, engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(engine)
        self.path = ""
        self.key = ""
        bars = [msgspec.structs.replace(bar, instrument=ALT) for bar in engine.venue.history]
        cast(Any, engine.market._venues["alt"]).history = bars
        self.players: list[Player] = []
        self.rng = Random(3)
        self.apart = Decimal(0)
        self.mids = {BTC: Decimal(100), ALT: Decimal(100)}
        launch = engine.launcher.launch

        async def launched(*given: Any) -> FakeWorker:
            worker = await launch(*given)
            self.players.append(Player(worker, engine.clock.time_ns))
            return worker

        monkeypatch.setattr(engine.launcher, "launch", launched)

    async def run(self, text: str, instruments: Sequence[InstrumentId] = (BTC,), **parameters: Any) -> None:
        """Start a strategy."""
        self.path = self.engine.file(text, "quoted.py")
        self.key = await self.engine.host.start(
            self.engine.spec(path=self.path, instruments=tuple(instruments), timeframe="1s", parameters=parameters)
        )
        await until(lambda: self.engine.host.managed[self.key].state is StrategyState.RUNNING, what="it to run")

    async def live(self, steps: int, lag: float = 0.3) -> None:
        """Let the market move; the worker is late now and then."""
        for _ in range(steps):
            for instrument in (BTC, ALT):
                self.engine.clock.advance(ns=self.rng.randrange(40, 260) * MS)
                if not self.players[-1].waiting:
                    self.players[-1].tick()
                cast(Any, self.engine.market._venues[instrument.venue]).publish(self._news(instrument))
                if self.rng.random() > lag:
                    self.players[-1].pump()
                for _ in range(self.rng.randrange(2, 12)):
                    await asyncio.sleep(0)

    def _news(self, instrument: InstrumentId) -> MarketEvent:
        rng, time_ns = self.rng, self.engine.clock.time_ns()
        self.mids[BTC] += Decimal(rng.randrange(-6, 7)) / 100
        if instrument == ALT:  # follows the other, and strays from it now and then
            if rng.random() < 0.06:
                self.apart = Decimal(rng.choice((0, 0, 45, -45))) / 100
            self.mids[ALT] = self.mids[BTC] + self.apart
        mid = self.mids[instrument]
        bid, ask, size = mid - Decimal("0.01"), mid + Decimal("0.01"), Decimal(rng.randrange(1, 9))
        kind = rng.random()
        if kind < 0.2:
            ladder = [BookLevel(bid - Decimal(step) / 100, size) for step in range(8)]
            return Book(instrument, time_ns, tuple(ladder), tuple(BookLevel(2 * mid - p.price, size) for p in ladder))
        if kind < 0.45:
            side = rng.choice((Side.BUY, Side.SELL))
            reach = Decimal(rng.randrange(0, 12)) / 100
            price = ask + reach if side is Side.BUY else bid - reach
            return Trade(instrument, time_ns, price, Decimal(rng.randrange(1, 20)), side, str(time_ns))
        return Quote(instrument, time_ns, bid, size, ask, size)

    async def session(self) -> Comparison | str:
        """Hold the session against its replay; gives why not where that cannot be."""
        spec = self.spec(SCALPING, Check.PARITY, session=self.key)
        instruments = self.engine.host.managed[self.key].spec.instruments
        backtest = msgspec.structs.replace(spec.backtest, path=self.path, instruments=instruments)
        key = await self.trust.start(msgspec.structs.replace(spec, backtest=backtest))
        await self.ended(key)
        found = self.trust.report(key).certificate
        assert found is not None, self.trust.report(key)
        absent = next((each.reason for each in found.absent if each.source == PAPER), "")
        return absent or next(each for each in found.comparisons if each.source == PAPER)


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Told]:
    monkeypatch.setattr(latency, "SLOW_MS", 1e9)  # time flies here
    engine = EngineDesk(tmp_path)
    data = {"sim": engine.venue, "alt": FakeDataVenue(engine.clock, "alt", (ALT_RULES,))}
    for name, rules in (("sim", BTC_RULES), ("alt", ALT_RULES)):
        account = MatchingEngine([rules], CASH, FillModel(latency_ns=35 * MS), name, Random(1), allow_short=True)
        paper = PaperVenue(name, account, engine.clock.time_ns, speed=1e-6)  # what is due comes with the next news
        cast(dict[str, Any], engine.orders._venues)[name] = paper
        cast(dict[str, Any], engine.accounts._venues)[name] = paper
        cast(dict[str, Any], engine.market._venues)[name] = data[name]
        engine.accounts.put(AccountInfo(name, name, TradingMode.SIMULATED))
        feed(paper, name, engine.bus)
    engine.market._ready["alt"] = asyncio.Event()
    await engine.start()
    await engine.accounts.connect("alt", engine.orders.receive)
    await engine.market.wait_ready("alt")
    made = Told(engine, monkeypatch)
    yield made
    await engine.host.stop_all("the test is over")
    await made.close()
    await engine.close()


@pytest.mark.parametrize(
    ("text", "instruments", "parameters", "lag"),
    [(SCALPING, (BTC,), QUICK, 0.3), (ARBITRAGE, (BTC, ALT), GAPS, 0.3), (TIMED, (BTC,), {}, 0.0)],
    ids=["scalping", "arbitrage on two venues", "timers"],
)
async def test_a_recorded_session_is_green(
    desk: Told, text: str, instruments: Sequence[InstrumentId], parameters: dict[str, Any], lag: float
) -> None:
    await desk.run(text, instruments, **parameters)
    await desk.live(400, lag)
    found = await desk.session()
    assert isinstance(found, Comparison), found
    assert found.verdict is Verdict.GREEN, found.sentence
    assert found.fills == found.fills_equal == found.fills_expected > 12
    assert found.trades_equal == found.trades > 5
    assert found.largest <= 1e-9


async def test_what_chance_decided_is_red_and_why(desk: Told) -> None:
    await desk.run(MOODY)
    await desk.live(150)
    found = await desk.session()
    assert isinstance(found, Comparison), found
    assert found.verdict is Verdict.RED
    assert "Cause: " in found.sentence
    assert "was told the same in the same order. What is left: chance" in found.sentence


async def test_a_fill_at_another_price_is_amber_and_why(desk: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.run(SCALPING, **QUICK)
    await desk.live(200)

    def dearer(files: Sequence[Path]) -> Iterator[ReplayTold]:
        for told in told_files.told_of(files):
            yield msgspec.structs.replace(told, said=tuple(_dearer(each) for each in told.said))

    monkeypatch.setattr(told_session, "told_of", dearer)
    found = await desk.session()
    assert isinstance(found, Comparison), found
    assert found.verdict is Verdict.AMBER, found.sentence
    assert found.fills_equal == 0
    assert "(other price)" in found.sentence
    assert "Cause: slippage. The replay met the quotes, books and trades that were recorded" in found.sentence


def _dearer(said: Any) -> Any:
    if not isinstance(said, FillUpdate):
        return said
    return msgspec.structs.replace(
        said, fill=msgspec.structs.replace(said.fill, price=said.fill.price + Decimal("0.01"))
    )


async def test_a_killed_engine_loses_the_last_moments_alone(desk: Told) -> None:
    await desk.run(SCALPING, **QUICK)
    tapes = desk.trust._tapes
    for _ in range(4):
        await desk.live(60)
        await tapes.flush()
    [(_, [file])] = sessions_of(tapes.folder, desk.key)
    frames = len(list(read(file)))
    file.write_bytes(file.read_bytes()[:-5])
    assert len(list(read(file))) == frames - 1
    tapes._tapes.clear()  # as after a restart: what is there is on disk
    found = await desk.session()
    assert isinstance(found, Comparison), found
    assert found.verdict is Verdict.GREEN, found.sentence
    assert found.fills > 2
    file.write_bytes(b"nothing")
    found = await desk.session()
    assert isinstance(found, str)
    assert "nothing of the sessions of quoted that were recorded can be read" in found


async def test_a_session_that_begins_with_a_holding_goes_on_with_it(desk: Told) -> None:
    await desk.run(SCALPING, **QUICK)
    ledger, key = desk.engine.ledger, desk.key
    for _ in range(40):
        await desk.live(10)
        if ledger.position(key, "sim", BTC).quantity:
            break
    await desk.engine.host.stop(key)
    held = ledger.position(key, "sim", BTC).quantity
    assert held > 0
    assert await desk.engine.host.start(desk.engine.host.managed[key].spec) == key
    await until(lambda: desk.engine.host.managed[key].state is StrategyState.RUNNING, what="it to run again")
    await desk.live(300)
    [(newest, _), _] = await _flushed(desk)
    assert [each.quantity for each in newest.positions] == [held]
    found = await desk.session()
    assert isinstance(found, Comparison), found
    assert found.verdict is Verdict.GREEN, found.sentence
    assert found.fills == found.fills_equal > 6


async def test_what_the_engine_refused_is_refused_again(desk: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    submit, count = desk.engine.orders.submit, 0

    async def refuses(*given: Any) -> Any:
        nonlocal count
        count += 1
        if count % 4 == 0:
            raise InvalidOrder("too many orders a minute")
        return await submit(*given)

    monkeypatch.setattr(desk.engine.orders, "submit", refuses)
    await desk.run(SCALPING, **QUICK)
    await desk.live(300)
    found = await desk.session()
    assert isinstance(found, Comparison), found
    assert found.verdict is Verdict.GREEN, found.sentence
    assert found.fills_equal > 6
    assert "orders were refused by the engine, and in the replay as well." in found.sentence


async def test_a_record_without_its_beginning_says_so(desk: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_tape, "PIECE_ENTRIES", 150)
    await desk.run(SCALPING, **QUICK)
    for _ in range(8):
        await desk.live(60)
        await desk.trust._tapes.flush()
    [(head, files)] = await _flushed(desk)
    assert head.number == 0
    assert len(files) > 2
    files[0].unlink()
    found = await desk.session()
    assert isinstance(found, Comparison), found
    assert found.fills > 2
    assert "The record begins later than the session: it is compared from " in found.sentence


async def test_old_pieces_make_way_and_another_file_is_not_compared(
    desk: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told_tape, "PIECE_ENTRIES", 50)
    monkeypatch.setattr(told_files, "STRATEGY_BYTES", 20_000)
    await desk.run(SCALPING, **QUICK)
    for _ in range(10):
        await desk.live(30)
        await desk.trust._tapes.flush()
    [(head, files)] = await _flushed(desk)
    assert head.number > 0
    assert sum(file.stat().st_size for file in files[:-1]) <= 20_000
    desk.engine.file(SCALPING + "\n", "quoted.py")
    found = await desk.session()
    assert isinstance(found, str)
    assert "was changed since that session was recorded" in found


async def test_a_full_disk_ends_the_record_and_not_the_strategy(
    desk: Told, monkeypatch: pytest.MonkeyPatch, expected_warnings: list[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(told_tape, "append", full)
    await desk.run(SCALPING, **QUICK)
    await desk.live(20)
    await desk.trust._tapes.flush()
    await desk.live(20)
    assert len(expected_warnings) == 1
    assert "is not recorded any further" in expected_warnings[0]
    assert desk.engine.host.managed[desk.key].state is StrategyState.RUNNING
    assert not desk.trust._tapes._tapes


async def _flushed(desk: Told) -> list[tuple[PieceHead, list[Path]]]:
    await desk.trust._tapes.flush()
    return sessions_of(desk.trust._tapes.folder, desk.key)
