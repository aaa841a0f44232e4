"""Whether the window keeps a person waiting when an engine comes back: python -m tests.bench.window_reconnect [--trace]

The real window with four live charts, every panel, and the table of all orders in sight, over the real link, from a
stand-in engine that streams and remembers thousands of closed orders and fills. It is stopped in its tracks until the
window has lost it, and goes on. Prints the turns of the window's loop from then until everything is shown again: those
above 16 ms, of their own processor time and by the clock, and each that took more than 8 ms; with --trace, what ran.
"""

from __future__ import annotations

import argparse
import os
import signal

from tests.bench.window_common import Child, add_display_options, display, load, profile
from tests.bench.window_startup import show_turns


def main() -> None:
    """Run it a few times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=10_000, help="and as many fills (default: 10,000)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--trace", action="store_true", help="say what ran in the long turns")
    add_display_options(parser)
    args = parser.parse_args()
    options = ["--orders", str(args.orders), *(["--trace"] if args.trace else [])]
    print(load())
    with display(args) as plain:
        for _ in range(args.runs):
            with profile() as home:
                environment = {**plain, "KOC_HOME": str(home)}
                past = ["--past", str(args.orders)]
                with Child("tests.bench.window_stand_in", str(home), *past, environment=environment) as engine:
                    engine.hear("ready")  # or the window starts an engine of its own
                    with Child("tests.bench.window_runner", "reconnect", *options, environment=environment) as window:
                        window.hear("ready")
                        os.kill(engine.process.pid, signal.SIGSTOP)
                        try:
                            window.hear("lost")
                        finally:
                            os.kill(engine.process.pid, signal.SIGCONT)
                        show_turns("reconnect", window.hear("turns"), window.began_ns)
                        window.process.wait(30)


if __name__ == "__main__":
    main()
