"""Whether the window's loop ever keeps a person waiting: python -m tests.bench.window_stalls [--minutes 10] [--trace]

The real window with four live charts and every panel, over the real link, first from a stand-in engine that publishes
20 quotes, trades and forming bars a second of each of four markets and five strategies' pulses, then from `koc engine`
with sma_cross.py at a simulator speed that gives about as much. Prints, of each:

    turns above 16 ms by the wall clock, and those that used the processor so long themselves; the others were kept
    waiting by the machine, or by another thread of the window that held Python
    paints a second, processor of window and engine (percent of a core), what Python's garbage collector took
    with --trace, where the main thread was in the longest turns (its sampling costs a little, so not for figures)
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.bench.window_common import (
    ROOT,
    Child,
    add_display_options,
    cpu_s,
    display,
    load,
    profile,
    stop_engine,
    wait_for_engine,
)

REAL_SPEED = 5.0  # four quotes and two books a second at speed 1, and trades


@contextlib.contextmanager
def engine(kind: str, home: Path, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """Run the engine that is asked for."""
    if kind == "stand-in":
        with Child("tests.bench.window_stand_in", str(home), environment=environment) as child:
            child.hear("ready")
            yield psutil.Process(child.process.pid)
        return
    strategy = ROOT / "strategies" / "sma_cross.py"
    command = [sys.executable, "-m", "koc_qt", "engine", "--no-live", "--speed", str(REAL_SPEED), "--strategy"]
    with subprocess.Popen([*command, str(strategy)], env=environment, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            yield wait_for_engine(home)
        finally:
            stop_engine(home)
            process.kill()


def measure(kind: str, environment: dict[str, str], seconds: float, options: list[str]) -> dict[str, Any]:
    """Run one engine and one window."""
    with profile() as home:
        environment = {**environment, "KOC_HOME": str(home)}
        with engine(kind, home, environment) as process:
            arguments = ["stream", "--seconds", str(seconds), *options]
            with Child("tests.bench.window_runner", *arguments, environment=environment) as child:
                child.hear("measuring", timeout_s=120)
                before_s = cpu_s(process)
                found = child.hear("measured", timeout_s=seconds + 60)
                found["engine_percent"] = (cpu_s(process) - before_s) / seconds * 100
                child.process.wait(30)
                found["complaints"] = child.complaints()
    return found


def report(kind: str, found: dict[str, Any]) -> None:
    """Print what was found."""
    seconds = found["seconds"]
    print(
        f"\n{kind}: {seconds:.0f} s, {len(found['charts'])} charts, {found['facts'] / seconds:.0f} facts/s, "
        f"{found['frames'] / seconds:.0f} frames/s, {found['paints_per_s']:.0f} paints/s, gaps {found['gaps']}"
    )
    missing = [name for name, is_there in found["panels"].items() if not is_there]
    if missing:
        print(f"  NOT shown, so not measured: {', '.join(missing)}")
    print(f"  CPU: window {found['cpu_percent']:.1f} %, engine {found['engine_percent']:.1f} %")
    monitor = found["monitor"]
    if "turns" not in found:
        print(
            f"  heartbeat (not exact here): longest {monitor['longest_ms']:.1f} ms, p99 {monitor['p99_ms']:.2f} ms, "
            f"{monitor['stalls']} above 16 ms"
        )
        return
    print(
        f"  turns: {found['turns']:,}, p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms, longest "
        f"{found['longest_ms']:.1f} ms; of its own processor time at most {found['longest_cpu_ms']:.1f} ms"
    )
    print(f"  above 16 ms: {found['stalls']} by the wall clock, {found['cpu_stalls']} by its own processor time")
    for generation, (count, longest, total) in found["gc"].items():
        print(f"  garbage of generation {generation}: {count} times, longest {longest:.1f} ms, in all {total:.0f} ms")
    for stall in found["stall_list"][:12]:
        collected = f", garbage {stall['gc']}" if stall["gc"] else ""
        print(
            f"    at {stall['at_s']} s: {stall['ms']} ms, {stall['cpu_ms']} ms of it own, {stall['system_ms']} ms the "
            f"system's, {stall['faults']} pages{collected}"
        )
        for stack in stall["stacks"][:: max(1, len(stall["stacks"]) // 4)]:
            print(f"      {stack}")
    errors = [line for line in found["complaints"].splitlines() if "Error" in line or "ERROR" in line]
    if errors:
        print("  the window complained: " + " | ".join(errors[:5]))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", choices=("stand-in", "real"), help="one of the two engines")
    parser.add_argument("--trace", action="store_true", help="say where the longest turns were spent")
    add_display_options(parser)
    args = parser.parse_args()
    options = ["--trace"] if args.trace else []
    with display(args) as environment:
        for kind in [args.only] if args.only else ["stand-in", "real"]:
            before = load()
            found = measure(kind, environment, args.minutes * 60, options)
            report(kind, found)
            print(f"  {before} before, {os.getloadavg()[0]:.2f} after")


if __name__ == "__main__":
    main()
