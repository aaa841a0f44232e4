"""How long panels and forms with very much in them hold up the window: python -m tests.bench.window_panels

Qt's offscreen platform, the window's own style, a desk that is fed without a link. Prints, of each event, the longest
turn of the window's loop in milliseconds until nothing is left to do, painting within: first what the turn had of the
processor itself, best and worst of so many runs, then by the clock, which counts other processes as well. With --trace
N, what ran in turns that used more than N ms.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable
from decimal import Decimal

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QEventLoop, QTimer
from PySide6.QtWidgets import QApplication, QVBoxLayout

from koc_qt.domain.state import AccountSnapshot, Balance, TradingMode, VenueState
from koc_qt.link.messages import AccountChanged, AccountRemoved
from koc_qt.sdk.channel import Described, ParameterInfo
from koc_qt.ui.bench import Panel
from koc_qt.ui.panels.accounts import AccountsPanel
from koc_qt.ui.panels.backtest import BacktestPanel
from koc_qt.ui.start_form.form import StartForm
from koc_qt.ui.theme import Theme
from tests.bench.window_common import load
from tests.bench.window_watch import Turns
from tests.fakes.desk import FakeBench, running_bench
from tests.fakes.link import START_NS, FakeEngine

QUIET_S = 0.6  # since the last turn that took a while; longer than any timer of what is measured
MOST_S = 30.0
QUICK_NS = 500_000
PARAMETERS = 60
Longest = tuple[float, float]  # milliseconds of the processor, and by the clock


def account(number: int, total: str = "1000") -> AccountSnapshot:
    """Give an account with some currencies in it."""
    balances = (
        Balance("USDT", Decimal(total), Decimal(10)),
        Balance("BTC", Decimal("0.5"), Decimal(0)),
        Balance("ETH", Decimal(2), Decimal(1)),
    )
    return AccountSnapshot(f"account-{number}", "sim", TradingMode.PAPER, VenueState.CONNECTED, balances, START_NS)


def described() -> Described:
    """Give a strategy with very many parameters of every kind."""
    kinds = (
        ("int", 5, 1.0, 500.0, ()),
        ("float", 0.5, 0.0, 1.0, ()),
        ("bool", True, None, None, ()),
        ("choice", "both", None, None, ("both", "long", "short")),
        ("str", "note", None, None, ()),
    )
    parameters = []
    for number in range(PARAMETERS):
        kind, default, low, high, choices = kinds[number % len(kinds)]
        about = f"what number {number} is good for, in a sentence of its own"
        parameters.append(ParameterInfo(f"parameter_{number}", kind, default, low, high, None, choices, about))
    return Described("Very much", "Has a field for everything.", tuple(parameters), "1m", ("bars",), 1, 20)


class Stage:
    """A window of its own on a fake engine, and a watch over its loop."""

    def __init__(self, fake: FakeBench, trace_ms: float | None) -> None:
        self.fake = fake
        self._traces = trace_ms is not None
        self.column = QVBoxLayout(fake.window)
        fake.window.resize(360, 760)
        fake.window.show()
        self.turns = Turns(1_000.0 if trace_ms is None else trace_ms)
        self.turns.start(self._traces)
        self.rest()

    def show(self, panel: Panel) -> Panel:
        """Put a panel into the window, and let it come to rest."""
        self.column.addWidget(panel)
        self.rest()
        return panel

    def longest_ms(self, event: Callable[[], object]) -> Longest:
        """Have something happen, and give the longest turn until the loop rests."""
        gc.collect()
        gc.freeze()
        self.turns.reset()
        QTimer.singleShot(0, event)
        self.rest()
        if self._traces:
            for stall in self.turns.stalls:
                print(f"  {stall['cpu_ms']} ms of its own, {stall['ms']} by the clock")
                for stack in stall["stacks"]:
                    print(f"      {stack}")
            print("these were of:")
        return max(self.turns.cpu_ns) / 1e6, max(self.turns.busy_ns) / 1e6

    def rest(self) -> None:
        """Run the loop until nothing is left to do."""
        loop, watch = QEventLoop(), QTimer()
        last, deadline, seen = [time.monotonic()], time.monotonic() + MOST_S, [0]

        def look() -> None:
            now = time.monotonic()
            if any(ns > QUICK_NS for ns in self.turns.cpu_ns[seen[0] :]):
                last[0] = now
            seen[0] = len(self.turns.cpu_ns)
            if now - last[0] > QUIET_S or now > deadline:
                loop.quit()

        watch.timeout.connect(look)
        watch.start(20)
        loop.exec()
        watch.stop()


def accounts(app: QApplication, count: int, trace_ms: float | None) -> dict[str, Longest]:
    """Measure the accounts panel."""
    longest: dict[str, Longest] = {}
    with running_bench(app, FakeEngine()) as fake:
        stage = Stage(fake, trace_ms)
        stage.show(AccountsPanel(fake.bench, fake.window))

        def tell(total: str) -> Callable[[], None]:
            def event() -> None:
                for number in range(count):
                    fake.desk.take(AccountChanged(account(number, total)))

            return event

        fake.desk.take(AccountRemoved("paper"))
        stage.rest()
        longest[f"{count} accounts come"] = stage.longest_ms(tell("1000"))
        longest[f"{count} accounts change in a frame"] = stage.longest_ms(tell("1234.5"))
        longest[f"{count} accounts, a wider window"] = stage.longest_ms(lambda: fake.window.resize(420, 760))
        stage.turns.stop()
    return longest


def forms(app: QApplication, trace_ms: float | None) -> dict[str, Longest]:
    """Measure what asks for parameters."""
    longest: dict[str, Longest] = {}
    engine = FakeEngine()
    engine.described = described()
    with running_bench(app, engine) as fake:
        stage = Stage(fake, trace_ms)
        panel = stage.show(BacktestPanel(fake.bench, fake.window))
        path = "/strategies/much.py"
        name = f"{PARAMETERS} parameters"
        longest[f"back-test of {name}"] = stage.longest_ms(lambda: fake.requests.backtest_offered.emit(path))
        longest[f"the same, a wider window: {name}"] = stage.longest_ms(lambda: fake.window.resize(700, 760))
        panel.retire()
        made: list[StartForm] = []

        def begin() -> None:
            made.append(StartForm(fake.bench, path, fake.window))
            made[0].open()

        longest[f"start form of {name}"] = stage.longest_ms(begin)
        form = made[0].parameters
        assert form is not None
        longest[f"start form: JSON of {name}"] = stage.longest_ms(lambda: form.tabs.setCurrentIndex(1))
        changed = form.json.toPlainText().replace("0.5", "0.25")
        longest[f"start form: other JSON of {name}"] = stage.longest_ms(lambda: form.json.setPlainText(changed))
        longest[f"start form: its fields, {name}"] = stage.longest_ms(lambda: form.tabs.setCurrentIndex(0))
        longest[f"start form: reset of {name}"] = stage.longest_ms(form.reset_all.click)
        longest[f"start form, wider, {name}"] = stage.longest_ms(lambda: made[0].resize(700, 600))
        made[0].reject()
        stage.turns.stop()
    return longest


def main() -> None:
    """Run it a few times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=("accounts", "forms"))
    parser.add_argument("--trace", type=float, metavar="MS", help="print where turns were that used more")
    args = parser.parse_args()
    app = QApplication([])
    app.setStyle("Fusion")
    Theme(parent=app).apply(app)
    runs = []
    for _ in range(args.runs):
        found: dict[str, Longest] = {}
        if args.only != "forms":
            for count in (10, 40):
                found |= accounts(app, count, args.trace)
        if args.only != "accounts":
            found |= forms(app, args.trace)
        runs.append(found)
    print(f"{load()}; longest turn of the loop in ms, best and worst of {args.runs} runs: of its own | by the clock")
    for name in runs[0]:
        own, clock = zip(*(each[name] for each in runs), strict=True)
        print(f"{name:48} {min(own):8.1f} {max(own):8.1f}  | {min(clock):8.1f} {max(clock):8.1f}")


if __name__ == "__main__":
    main()
