"""Whether the window stands still while its dialogs open and close: python -m tests.bench.window_dialogs [--trace]

The real window on an engine of its own, with every panel there. Each dialog is opened by its command and closed again,
twice: the first time brings its imports. Then the layout is reset, twice. Prints the turns of the window's loop of
each: those above 16 ms, of their own processor time and by the clock, and each that took more than 8 ms; with --trace,
what ran.
"""

from __future__ import annotations

from tests.bench.window_common import Child, display, load, profile, traced_runs
from tests.bench.window_startup import show_turns


def main() -> None:
    """Run it a few times."""
    args, options = traced_runs(__doc__, 2)
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
