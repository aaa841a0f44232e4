"""How long the window keeps a person waiting when thousands arrive at once: python -m tests.bench.window_bursts

Qt's offscreen platform, four charts and the Orders panel of a desk that is fed without a link. Prints, of each event,
the longest turn of the window's loop in milliseconds, from the moment the desk has taken everything over until nothing
is left to do; painting is within. First what the turn had of the processor itself, best and worst of so many runs, then
by the clock, which counts other processes as well. With --trace N, what ran in turns that used more than N ms.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import msgspec
from PySide6.QtCore import QEventLoop, Qt, QTimer
from PySide6.QtWidgets import QApplication, QGridLayout

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Side
from koc_qt.domain.orders import Fill, Liquidity, Order, OrderRequest, OrderStatus, OrderType
from koc_qt.domain.timeframes import SECOND_NS
from koc_qt.link.messages import Fact, FillRecorded, OrderChanged
from koc_qt.ui.panels.chart import ChartPanel
from koc_qt.ui.panels.orders import ALL, OrdersPanel
from tests.bench.window_common import load
from tests.bench.window_watch import Turns
from tests.fakes.desk import FakeBench, running_bench
from tests.fakes.link import BTC, BTC_RULES, START_NS, FakeEngine

MINUTE_NS = 60 * SECOND_NS
BARS = 1_000
PAGE = 400  # records of a history that comes in pages
QUIET_S = 0.4  # since something was still to come or to be shown; longer than any timer of the panels
MOST_S = 30.0
OTHERS = tuple(InstrumentId("sim", f"{name}/USDT") for name in ("ETH", "SOL", "XRP"))


def bars(instrument: InstrumentId) -> list[Bar]:
    """Give a wave of minutes."""
    return [
        Bar(instrument, "1m", START_NS + n * MINUTE_NS, 100.0 + n % 50, 101.0 + n % 50, 99.0 + n % 50, 100.5, 1.0)
        for n in range(BARS)
    ]


def order(number: int, status: OrderStatus, instrument: InstrumentId) -> Order:
    """Give an order of the time of one of those minutes."""
    side = Side.BUY if number % 2 else Side.SELL
    price = Decimal(90_00 + number * 7919 % 70_00) / 100
    request = OrderRequest(instrument, side, OrderType.LIMIT, Decimal(number % 90 + 10) / 100, price)
    created_ns = START_NS + number * 7919 % (BARS * 60) * SECOND_NS
    return Order(f"order-{number}", f"grid-{number % 5}", "paper", request, created_ns, created_ns, status)


def fill(number: int, instrument: InstrumentId) -> Fill:
    """Give a fill, in no order of time."""
    side = Side.BUY if number % 2 else Side.SELL
    price, quantity = Decimal(95_00 + number * 7919 % 60_00) / 100, Decimal(number % 90 + 10) / 100
    time_ns = START_NS + number * 7919 % (BARS * 60) * SECOND_NS
    key = (f"fill-{number}", f"order-{number}", f"grid-{number % 5}", "paper")
    return Fill(*key, instrument, side, price, quantity, Decimal("0.01"), "USDT", Liquidity.TAKER, time_ns)


Longest = tuple[float, float]  # milliseconds of the processor, and by the clock


class Stage:
    """Four charts and the Orders panel in one window, and a watch over its loop."""

    def __init__(self, fake: FakeBench, instruments: Sequence[InstrumentId], trace_ms: float | None) -> None:
        self.fake = fake
        self._traces = trace_ms is not None
        grid = QGridLayout(fake.window)
        grid.setContentsMargins(0, 0, 0, 0)
        self.charts = [ChartPanel(fake.bench, fake.window) for _ in range(4)]
        for place, chart in enumerate(self.charts):
            grid.addWidget(chart, place // 2, place % 2)
        self.orders = OrdersPanel(fake.bench, fake.window)
        grid.addWidget(self.orders, 2, 0, 1, 2)
        self.orders.tabs.setCurrentWidget(self.orders.tables[ALL])
        fake.window.resize(1600, 1000)
        fake.window.show()
        for chart, instrument in zip(self.charts, instruments, strict=True):
            chart.show_market(instrument, "1m")
        self.turns = Turns(1_000.0 if trace_ms is None else trace_ms)
        self.turns.start(self._traces)
        self._pages_left = 0
        self.settle()

    def settle(self) -> None:
        """Run the loop until it rests."""
        loop, watch = QEventLoop(), QTimer()
        last, deadline, seen = [time.monotonic()], time.monotonic() + MOST_S, [0]

        def look() -> None:
            busy = self._pages_left > 0 or self.orders.tables[ALL].records.is_busy
            busy = busy or any(chart.is_busy for chart in self.charts)
            now = time.monotonic()
            if busy or seen[0] < 3:
                last[0] = now
                seen[0] += 1
            if now - last[0] > QUIET_S or now > deadline:
                loop.quit()

        watch.timeout.connect(look)
        watch.start(20)
        loop.exec()
        watch.stop()

    def longest_ms(self, event: Callable[[], None]) -> Longest:
        """Have something happen, and give the longest turn until the loop rests."""
        gc.collect()
        gc.freeze()  # as the window does when it is there; a full collection of a bench's objects says nothing of it
        self.turns.reset()
        QTimer.singleShot(0, event)
        self.settle()
        if self._traces:
            for stall in self.turns.stalls:
                print(f"  {stall['cpu_ms']} ms of its own, {stall['ms']} by the clock")
                for stack in stall["stacks"]:
                    print(f"      {stack}")
            print("these were of:")
        return max(self.turns.cpu_ns) / 1e6, max(self.turns.busy_ns) / 1e6

    def take(self, facts: Sequence[Fact]) -> Callable[[], None]:
        """Give an event: the next frame of the desk brings all these, which it took over before."""

        def event() -> None:
            for fact in facts:
                self.fake.desk.take(fact)
            QTimer.singleShot(0, self.turns.reset)  # in the next turn: this one is the replica's

        return event

    def pages(self, facts: Sequence[Fact]) -> Callable[[], None]:
        """Give an event: these come a page every 20 ms."""
        pages = [facts[at : at + PAGE] for at in range(0, len(facts), PAGE)]

        def take(page: Sequence[Fact]) -> None:
            for fact in page:
                self.fake.desk.take(fact)
            self._pages_left -= 1

        def event() -> None:
            self._pages_left = len(pages)
            for number, page in enumerate(pages):
                QTimer.singleShot(20 * number, partial(take, page))

        return event


def run(
    app: QApplication, count: int, share_open: float, *, one_market: bool, trace_ms: float | None
) -> dict[str, Longest]:
    """Give the longest turn of each event."""
    engine = FakeEngine()
    engine.instruments = [BTC_RULES, *(Instrument(each, "X", "USDT", Decimal("0.01"), Decimal(1)) for each in OTHERS)]
    markets = [BTC] * 4 if one_market else [BTC, *OTHERS]
    engine.bars = [bar for market in dict.fromkeys(markets) for bar in bars(market)]
    still_open = int(count * share_open)
    orders = [
        order(n, OrderStatus.ACCEPTED if n < still_open else OrderStatus.FILLED, markets[n % 4]) for n in range(count)
    ]
    fills = [fill(n, markets[n % 4]) for n in range(count)]
    with running_bench(app, engine) as fake:
        stage = Stage(fake, markets, trace_ms)
        longest: dict[str, Longest] = {}
        snapshot = msgspec.structs.replace(engine.snapshot(), orders=tuple(orders), fills=tuple(fills))
        longest[f"snapshot of {count:,} orders and fills"] = stage.longest_ms(stage.take([snapshot]))
        table = stage.orders.tables[ALL]
        changed = [msgspec.structs.replace(each, cancel_requested=True) for each in orders[: count // 5]]
        longest[f"{count // 5:,} orders change in a frame"] = stage.longest_ms(
            stage.take([OrderChanged(each) for each in changed])
        )
        new = [order(count + n, OrderStatus.ACCEPTED, markets[n % 4]) for n in range(count // 5)]
        longest[f"{count // 5:,} orders come in a frame"] = stage.longest_ms(
            stage.take([OrderChanged(each) for each in new])
        )
        more = [fill(count + n, markets[n % 4]) for n in range(count // 5)]
        longest[f"{count // 5:,} fills come in a frame"] = stage.longest_ms(
            stage.take([FillRecorded(each) for each in more])
        )
        names = [column.name for column in table.records.columns]
        for name in ("price", "status", "time"):
            by = names.index(name)
            click = partial(table.horizontalHeader().setSortIndicator, by, Qt.SortOrder.AscendingOrder)
            longest[f"click on {name}"] = stage.longest_ms(click)
        longest["click on time again"] = stage.longest_ms(
            lambda: table.horizontalHeader().setSortIndicator(names.index("time"), Qt.SortOrder.DescendingOrder)
        )

        def search(text: str) -> Callable[[], None]:
            return lambda: stage.orders.search.setText(text)

        longest["a filter for one in five"] = stage.longest_ms(search("grid-1"))
        longest["no filter"] = stage.longest_ms(search(""))
        longest["everything selected"] = stage.longest_ms(table.selectAll)
        longest["a sort with everything selected"] = stage.longest_ms(
            lambda: table.horizontalHeader().setSortIndicator(names.index("price"), Qt.SortOrder.AscendingOrder)
        )
        table.clearSelection()
        empty = msgspec.structs.replace(engine.snapshot(), orders=tuple(orders[:still_open]), fills=())
        longest["snapshot of the open orders"] = stage.longest_ms(stage.take([empty]))
        history: list[Fact] = [OrderChanged(each) for each in reversed(orders[still_open:])]
        history += [FillRecorded(each) for each in reversed(fills)]
        longest[f"history in pages of {PAGE}"] = stage.longest_ms(stage.pages(history))
        stage.turns.stop()
        return longest


def main() -> None:
    """Run it a few times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="orders, and as many fills (default: 10,000)")
    parser.add_argument("--open", type=float, default=0.1, help="share of the orders that are open (default: 0.1)")
    parser.add_argument("--one-market", action="store_true", help="all four charts show the same market")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--trace", type=float, metavar="MS", help="print where turns were that used more")
    args = parser.parse_args()
    app = QApplication([])
    app.setStyle("Fusion")
    runs = [run(app, args.count, args.open, one_market=args.one_market, trace_ms=args.trace) for _ in range(args.runs)]
    print(f"{load()}; longest turn of the loop in ms, best and worst of {args.runs} runs: of its own | by the clock")
    for name in runs[0]:
        own, clock = zip(*(each[name] for each in runs), strict=True)
        print(f"{name:48} {min(own):8.1f} {max(own):8.1f}  | {min(clock):8.1f} {max(clock):8.1f}")


if __name__ == "__main__":
    main()
