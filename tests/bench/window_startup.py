"""How fast the window is there: python -m tests.bench.window_startup [--runs 7] [--evict] [--profile]

Milliseconds from the start of the process until the first whole paint has been handed to the screen, medians:
    bare    a QMainWindow with four docks of labels on PySide6 alone: the floor, in the same run
    cold    `koc` on an empty profile: starts the engine as well
    warm    `koc` with the engine running, and the layout remembered
for ours also until a chart has painted bars, and until every panel is there. All are fresh interpreters with their
bytecode on disk. --evict drops the pages of Python, Qt and this project from the page cache before each run, as after
the machine has started (Linux; those that other processes use stay). The three take turns, so that noise hits all.

--turns [--trace] measures something else instead: every turn of the window's loop, from the first until everything is
there. It prints those that took more than 8 ms, with what ran in them where --trace samples it, which costs a little.

--program "/opt/koc/koc" measures an installed program instead, or any other command, from outside: until half the
screen is painted, and until a chart has candles. With --evict also with its folder out of the page cache.
"""

from __future__ import annotations

import argparse
import os
import pstats
import re
import shlex
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from tests.bench.window_common import (
    ROOT,
    Child,
    add_display_options,
    display,
    load,
    profile,
    say,
    wait_for_engine,
)
from tests.bench.window_screen import installed

CASES = ("bare", "cold", "warm")
INSTANTS = ("window", "candle", "filled")
SHOWN = 20


def bare() -> None:
    """Show a main window with four docks, and say when it was painted."""
    from PySide6.QtCore import QCoreApplication, QEvent, Qt
    from PySide6.QtWidgets import QApplication, QDockWidget, QLabel, QMainWindow

    app = QApplication([])
    app.setStyle("Fusion")
    painted = QEvent.Type(QEvent.registerEventType())

    class Bare(QMainWindow):
        asked = False

        def event(self, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Paint and not self.asked:
                self.asked = True
                QCoreApplication.postEvent(self, QEvent(painted), Qt.EventPriority.HighEventPriority.value)
            elif event.type() == painted:
                say("window")
                self.close()
            return super().event(event)

    window = Bare()
    window.resize(1480, 900)
    window.setCentralWidget(QLabel("centre"))
    areas = Qt.DockWidgetArea
    for area in (
        areas.LeftDockWidgetArea,
        areas.RightDockWidgetArea,
        areas.TopDockWidgetArea,
        areas.BottomDockWidgetArea,
    ):
        dock = QDockWidget("Dock", window)
        dock.setWidget(QLabel("content"))
        window.addDockWidget(area, dock)
    window.show()
    app.exec()


def measure(case: str, home: Path, environment: dict[str, str]) -> dict[str, float]:
    """Start one window; give milliseconds to each instant."""
    environment = {**environment, "KOC_HOME": str(home)}
    arguments = ("tests.bench.window_startup", "--bare") if case == "bare" else ("tests.bench.window_runner", "startup")
    with Child(*arguments, environment=environment) as child:
        found = {}
        waiting = {"window"} if case == "bare" else set(INSTANTS)
        while waiting:
            said = child.hear(*waiting)
            waiting.discard(said["event"])
            found[said["event"]] = (said["at_ns"] - child.began_ns) / 1e6
        child.process.wait(30)
    return found


def evict() -> None:
    """Drop what a start reads from the page cache."""
    folders = {
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
        str(ROOT / "koc_qt"),
    }
    for folder in folders:
        for file in Path(folder).rglob("*"):
            if file.suffix in (".py", ".pyc") or ".so" in file.name:
                descriptor = os.open(file, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def report(found: dict[str, list[dict[str, float]]]) -> None:
    """Print medians, spreads and ratios."""
    floor = statistics.median(run["window"] for run in found["bare"])
    for case in CASES:
        parts = []
        for instant in INSTANTS:
            values = [run[instant] for run in found[case] if instant in run]
            if values:
                middle = statistics.median(values)
                ratio = f" ({middle / floor:.2f} x bare)" if instant == "window" else ""
                parts.append(f"{instant} {middle:5.0f} ms [{min(values):.0f}-{max(values):.0f}]{ratio}")
        print(f"{case:5} " + "   ".join(parts))
    for case in CASES[1:]:
        gap = statistics.median(run["candle"] - run["window"] for run in found[case])
        print(f"{case}: candles {gap:.0f} ms after the window (target: 1,000; the window itself: 2 x bare)")


def slow_imports() -> None:
    """Print what is imported until the window can be made, and is dear by itself or with what it brings."""
    program = (
        "import koc_qt.cli.main, koc_qt.wiring.window, koc_qt.ui.theme, koc_qt.wiring.qt_loop, koc_qt.link.client, "
        "koc_qt.ui.desk, koc_qt.ui.memory, koc_qt.ui.panel_list, koc_qt.ui.window, koc_qt.wiring.keeper"
    )
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    rows = [
        (int(own), int(total), name)
        for own, total, name in re.findall(r"import time:\s+(\d+) \|\s+(\d+) \|\s+(\S+)", result.stderr)
    ]
    print(f"imports before the first paint: {len(rows)} modules, {sum(own for own, _, _ in rows) / 1e3:.0f} ms")
    for own, total, name in sorted(rows, key=lambda row: -row[1])[:SHOWN]:
        print(f"{total / 1e3:7.1f} ms with what it brings, {own / 1e3:6.1f} by itself  {name}")


def profiled(environment: dict[str, str]) -> None:
    """Print the functions that a warm start spends its time in, under cProfile, which makes all of it slower."""
    with profile() as home:
        environment = {**environment, "KOC_HOME": str(home)}
        measure("cold", home, environment)
        wait_for_engine(home)
        file = home / "profile"
        program = [sys.executable, "-m", "cProfile", "-o", str(file), "-m", "tests.bench.window_runner", "startup"]
        subprocess.run(program, env=environment, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=120)
        for order in ("cumulative", "tottime"):
            pstats.Stats(str(file)).strip_dirs().sort_stats(order).print_stats(SHOWN * 2)


def turns(case: str, home: Path, environment: dict[str, str], trace: bool) -> None:
    """Print the long turns of one start."""
    arguments = ["tests.bench.window_runner", "turns", *(["--trace"] if trace else [])]
    with Child(*arguments, environment={**environment, "KOC_HOME": str(home)}) as child:
        found = child.hear("turns")
        child.process.wait(30)
    show_turns(case, found, child.began_ns)


def show_turns(case: str, found: dict[str, Any], began_ns: int) -> None:
    """Print what a window has found of the turns of its loop."""
    print(
        f"{case}: {found['turns']} turns; of their own processor time {found['cpu_stalls']} above 16 ms, longest "
        f"{found['longest_cpu_ms']:.1f}; by the wall clock {found['stalls']}, longest {found['longest_ms']:.1f}"
    )
    for stall in sorted(found["stall_list"], key=lambda each: each["at_ns"]):
        at_ms = (stall["at_ns"] - began_ns) / 1e6
        print(f"  until {at_ms:5.0f} ms: {stall['cpu_ms']:5.1f} ms of its own, {stall['ms']:5.1f} by the wall clock")
        for stack in stall["stacks"]:
            print(f"      {stack}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--evict", action="store_true", help="with nothing of it in the page cache")
    parser.add_argument("--profile", action="store_true", help="say what the time goes into instead")
    parser.add_argument("--turns", action="store_true", help="measure the turns of the loop instead")
    parser.add_argument("--trace", action="store_true", help="with --turns, say what ran in the long ones")
    parser.add_argument("--program", metavar="COMMAND", help="measure an installed program, seen from outside")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    add_display_options(parser)
    args = parser.parse_args()
    if args.bare:
        bare()
        return
    print(load())
    if args.program:
        program = shlex.split(args.program)
        installed(program, args.display, args.runs, Path(program[0]).resolve().parent if args.evict else None)
        return
    with display(args) as environment:
        if args.profile:
            slow_imports()
            profiled(environment)
            return
        if args.turns:
            with profile() as running:
                for number in range(args.runs):
                    with profile() as empty:
                        turns("cold", empty, environment, args.trace)
                    turns("warm" if number else "cold", running, environment, args.trace)
            return
        found: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
        with profile() as running:
            measure("cold", running, environment)  # makes layout, keys, bytecode; leaves its engine
            wait_for_engine(running)
            for _ in range(args.runs):
                for case in CASES:
                    with profile() as empty:
                        if args.evict:
                            evict()
                        time.sleep(0.5)
                        found[case].append(measure(case, running if case == "warm" else empty, environment))
        print(f"{args.runs} runs each{', page cache dropped' if args.evict else ''}; median [least-most]")
        report(found)


if __name__ == "__main__":
    main()
