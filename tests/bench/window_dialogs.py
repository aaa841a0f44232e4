"""Whether the window stands still while its dialogs open and close: python -m tests.bench.window_dialogs [--trace]

The real window on an engine of its own, with every panel there. Each dialog is opened by its command and closed again,
twice: the first time brings its imports. Prints the turns of the window's loop of each: those above 16 ms, of their own
processor time and by the clock, and each that took more than 8 ms; with --trace, what ran.
"""

from __future__ import annotations

import argparse

from tests.bench.window_common import Child, add_display_options, display, load, profile
from tests.bench.window_startup import show_turns


def main() -> None:
    """Run it a few times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--trace", action="store_true", help="say what ran in the long turns")
    add_display_options(parser)
    args = parser.parse_args()
    options = ["--trace"] if args.trace else []
    print(load())
    with display(args) as plain:
        for _ in range(args.runs):
            with profile() as home:
                environment = {**plain, "KOC_HOME": str(home)}
                with Child("tests.bench.window_runner", "dialogs", *options, environment=environment) as window:
                    while (said := window.hear("turns", "over"))["event"] == "turns":
                        show_turns(said["what"], said, window.began_ns)
                    window.process.wait(30)


if __name__ == "__main__":
    main()
