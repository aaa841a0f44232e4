"""Whether the window grows: an hour of streaming in little time; python -m tests.bench.window_memory [--speed 20]

The real window with four charts, on a stand-in engine whose market runs `--speed` times as fast, for as long as makes
`--hours` of its time. A window that does not keep up gets the newest quotes and forming bars alone, as ever; closed
bars, orders, fills, pulses and log lines all come, and it is they that could pile up. Prints memory along the way, and
the slope of its second half. Growth that is meant: bars that open while a chart follows, orders and fills of the day, a
log of bounded length. With --leaks, the types and lines that grew (slower: not for figures).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from tests.bench.window_common import Child, add_display_options, display, load, profile

MIB = 2**20


def measure(environment: dict[str, str], seconds: float, speed: float, options: list[str]) -> dict[str, Any]:
    """Run one engine and one window."""
    with profile() as home:
        environment = {**environment, "KOC_HOME": str(home)}
        arguments = (str(home), "--speed", str(speed))
        with Child("tests.bench.window_stand_in", *arguments, environment=environment) as engine:
            engine.hear("ready")
            stream = ("stream", "--seconds", str(seconds), "--types", *options)
            with Child("tests.bench.window_runner", *stream, environment=environment) as window:
                window.hear("measuring", timeout_s=120)
                found = window.hear("measured", timeout_s=seconds * 2 + 120)
                window.process.wait(60)
    return found


def slope(times_s: Any, values: Any) -> float:
    """Give the least squares slope a second."""
    return float(np.polyfit(times_s, values, 1)[0])


def report(found: dict[str, Any], speed: float) -> None:
    """Print what was found."""
    samples = np.array([each[:3] for each in found["samples"]])
    market_h, resident = samples[:, 0] * speed / 3600, samples[:, 1] / MIB
    print(
        f"{found['seconds']:.0f} s = {market_h[-1]:.2f} h of the market, {found['facts']:,} facts taken "
        f"({found['facts'] / found['seconds']:.0f}/s), gaps {found['gaps']}, connections {found['connections']}, "
        f"window CPU {found['cpu_percent']:.0f} %"
    )
    for index in np.linspace(0, len(samples) - 1, 9).astype(int):
        print(f"  {market_h[index]:5.2f} h   {resident[index]:7.1f} MiB   {samples[index, 2]:9,.0f} facts")
    half = len(samples) // 2
    print(
        f"growth: {resident[-1] - resident[0]:+.1f} MiB in all; in the second half "
        f"{slope(market_h[half:], resident[half:]):+.2f} MiB an hour of the market, "
        f"{slope(samples[half:, 0] / 3600, resident[half:]):+.1f} an hour of the clock"
    )
    print(
        f"charts: {', '.join(f'{title} {count:,} bars' for title, count in found['charts'])}; "
        f"{found['log_lines']:,} log lines; {found['qobjects']:,} Qt objects below the window"
    )
    print(
        "Python objects that became more: "
        + ", ".join(f"{name} {count:+,}" for name, count in found["grown"] if count > 20)
    )
    for line in found.get("allocated", []):
        print(f"  {line}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0, help="of the market (default: 1)")
    parser.add_argument("--speed", type=float, default=20.0, help="how many times as fast (default: 20)")
    parser.add_argument("--leaks", action="store_true", help="say which lines allocated what stays")
    add_display_options(parser)
    args = parser.parse_args()
    print(load())
    with display(args) as environment:
        options = ["--tracemalloc"] if args.leaks else []
        report(measure(environment, args.hours * 3600 / args.speed, args.speed, options), args.speed)


if __name__ == "__main__":
    main()
