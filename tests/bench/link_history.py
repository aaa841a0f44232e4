"""How long the link's longest messages keep the loops of engine and window busy.

    python -m tests.bench.link_history [--records 10000] [--json]

An engine that remembers so many closed orders and fills, and a client with a window's desk, on one loop of this
process: so a turn of the loop, which is taken between two looks at its sockets, has the work of both in it. It trades a
little while the history is told. Then the result of a back-test with as many trades is fetched. All times are processor
time; the garbage collector looks at nothing that was there before, as in the window.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import selectors
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from loguru import logger
from PySide6.QtCore import QCoreApplication

from koc_qt.domain.backtests import BacktestResult, BacktestSpec, RoundTrip
from koc_qt.domain.orders import Fill, Order
from koc_qt.engine.backtest_run import PAGE
from koc_qt.engine.commands import SNAPSHOT_RECORDS
from koc_qt.link import server, session
from koc_qt.link.client import LinkClient, local_engine
from koc_qt.link.codec import encode_fact
from koc_qt.link.messages import BacktestHead, Command, Fact, FetchBacktest, FetchBacktestPage, Snapshot
from koc_qt.link.results import fetch_result
from koc_qt.ui.desk import Desk
from tests.conditions import until
from tests.fakes.link import BTC, START_NS, FakeEngine, serve

RECENT = SNAPSHOT_RECORDS
PAUSE_S = 0.01  # between two trades while the history is told
R = TypeVar("R")


class Stopwatch:
    """The longest of each kind of thing, in milliseconds, and how many there were."""

    def __init__(self) -> None:
        self.longest_ms: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def take(self, what: str, work: Callable[[], R]) -> R:
        """Take the time of some work."""
        began = time.thread_time()
        try:
            return work()
        finally:
            self.note(what, (time.thread_time() - began) * 1e3)

    def note(self, what: str, took_ms: float) -> None:
        """Take one over."""
        self.longest_ms[what] = max(self.longest_ms.get(what, 0.0), took_ms)
        self.counts[what] = self.counts.get(what, 0) + 1


class TurnSelector(selectors.DefaultSelector):
    """Takes the time between two looks at the sockets."""

    watch = Stopwatch()
    _looked = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Look."""
        if self._looked:
            self.watch.note("turn", (time.thread_time() - self._looked) * 1e3)
        ready = super().select(timeout)
        self._looked = time.thread_time()
        return ready

    def begin(self, watch: Stopwatch) -> None:
        """Take the turns after this one."""
        self.watch, self._looked = watch, 0.0


class TimedClient(LinkClient):
    """Takes the time of each message from its bytes to the desk."""

    watch: Stopwatch

    def _heard(self, body: bytes) -> None:
        self.watch.take("decode and apply", lambda: super(TimedClient, self)._heard(body))


class Remembering(FakeEngine):
    """An engine with a past, which it has at hand as the real one does."""

    def remember(self, records: int) -> None:
        """Trade so often, and have a result with as many trades."""
        for _ in range(records):
            self.fill(self.place().client_order_id)
        self.place()
        self._told = super().history()
        self._first = super().snapshot()
        asked = BacktestSpec("/a.py", (BTC,), "1m", 0, 1)
        trips = [RoundTrip(BTC, 0.5, START_NS + n, 1.5, START_NS + n + 1, 2.5, 0.25, 0.25) for n in range(records)]
        times, equity = list(range(START_NS, START_NS + 5_000)), [10_000.0 + n for n in range(5_000)]
        self._pages = [msgspec.msgpack.encode(trips[start : start + PAGE]) for start in range(0, records, PAGE)]
        result = BacktestResult(asked, "A", "1m", 9, times, equity, [], [], {"return": 0.5})
        self._head = msgspec.msgpack.encode(BacktestHead(result, len(self._pages), 0))

    async def execute(self, command: Command, client_id: str) -> Any:
        """Answer with what is encoded already, as the real one does."""
        match command:
            case FetchBacktest():
                return msgspec.Raw(self._head)
            case FetchBacktestPage(_, _, page):
                return msgspec.Raw(self._pages[page])
        return await super().execute(command, client_id)

    def history(self) -> tuple[Sequence[Order], Sequence[Fill]]:
        """Give what was remembered."""
        return self._told

    def snapshot(self) -> Snapshot:
        """Give the state of then."""
        return self._first


def time_encoding(watch: Stopwatch) -> None:
    """Take the time of all that the server encodes from now on."""

    def encode(fact: Fact) -> bytes:
        return watch.take("encode", lambda: encode_fact(fact))

    for module in (server, session):
        vars(module)["encode_fact"] = encode


async def measure(folder: Path, records: int, selector: TurnSelector) -> dict[str, Any]:
    """Connect, have all history, fetch a result."""
    history, result = Stopwatch(), Stopwatch()
    engine, desk = Remembering(recent=RECENT), Desk()
    engine.remember(records)
    gc.collect()
    gc.freeze()
    async with serve(folder, engine) as link:
        client = TimedClient(local_engine(link.run_folder), link.keys.client, on_fact=desk.take)
        client.watch = history
        time_encoding(history)
        selector.begin(history)
        began_s = time.monotonic()
        await client.connect(30.0)
        first_ms = (time.monotonic() - began_s) * 1e3
        while not desk.replica.has_history:
            engine.fill(engine.place().client_order_id)
            await asyncio.sleep(PAUSE_S)
        history_ms = (time.monotonic() - began_s) * 1e3
        newest = list(engine.fills.values())[-1]
        await until(lambda: next(reversed(desk.replica.fills.values())) == newest)
        wanted = list(engine.fills.values())[-len(desk.replica.fills) :]
        assert list(desk.replica.fills.values()) == wanted
        selector.begin(result)
        client.watch = result
        time_encoding(result)
        began_s = time.monotonic()
        got = await fetch_result(client, "b")
        result_ms = (time.monotonic() - began_s) * 1e3
        assert len(got.trades) == records
        selector.begin(Stopwatch())
        await client.close()
    await desk.close()
    return {
        "first_state_ms": first_ms, "history_ms": history_ms, "result_ms": result_ms,
        "history_longest_ms": history.longest_ms, "history_counts": history.counts,
        "result_longest_ms": result.longest_ms, "result_counts": result.counts,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--records", type=int, default=10_000, help="closed orders, and as many fills (default: 10000)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    logger.remove()
    application, selector = QCoreApplication([]), TurnSelector()
    loop = asyncio.SelectorEventLoop(selector)
    with tempfile.TemporaryDirectory() as folder:
        try:
            figures = loop.run_until_complete(measure(Path(folder), args.records, selector))
        finally:
            loop.close()
            del application
    if args.json:
        print(json.dumps(figures))
        return
    print(f"{args.records:,} closed orders, as many fills and trades; the longest in ms, and how many there were")
    for part in ("history", "result"):
        for what, longest in figures[f"{part}_longest_ms"].items():
            print(f"{part:8} {what:18} {longest:7.2f} {figures[f'{part}_counts'][what]:7,}")
    print(
        f"first state after {figures['first_state_ms']:.0f} ms, all history after {figures['history_ms']:.0f} ms; "
        f"the result in {figures['result_ms']:.0f} ms"
    )


if __name__ == "__main__":
    main()
