"""Whether the window stands still while it puts another theme on: python -m tests.bench.window_theme [--trace]

The real window with four live charts and every panel, over the real link, from a stand-in engine. Prints the turns of
the window's loop while the light theme and the dark one are put on, twice: those above 16 ms, of their own processor
time and by the clock, and each that took more than 8 ms; with --trace, what ran.
"""

from __future__ import annotations

from tests.bench.window_common import Child, display, load, profile, traced_runs
from tests.bench.window_startup import show_turns


def main() -> None:
    """Run it a few times."""
    args, options = traced_runs(__doc__, 3)
    print(load())
    with display(args) as plain:
        for _ in range(args.runs):
            with profile() as home:
                environment = {**plain, "KOC_HOME": str(home)}
                with Child("tests.bench.window_stand_in", str(home), environment=environment) as engine:
                    engine.hear("ready")  # or the window starts an engine of its own
                    with Child("tests.bench.window_runner", "theme", *options, environment=environment) as window:
                        show_turns("theme", window.hear("turns"), window.began_ns)
                        window.process.wait(30)


if __name__ == "__main__":
    main()
