"""``koc doctor``: what works on this machine, what does not, and what to do about it.

Each check looks at one thing and is bounded in time; nothing is changed but the profile's folders, which are made. The
looks are in the modules beside this one: doctor_program, doctor_machine, doctor_clock, doctor_profile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable

from koc_qt.cli.doctor_check import FAIL, OK, PROBE, WARN, Check


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``koc doctor``."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what works on this machine",
        description="Look at everything that K.O.C. depends on. The exit code is 1 when something fails, and 0 when "
        "there is at most something to know.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.add_argument(
        "--imports", action="store_true", help="import every module that is loaded by name instead, which takes seconds"
    )
    parser.add_argument(PROBE, help=argparse.SUPPRESS)  # see doctor_check.py
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look at everything and report; gives the exit code."""
    if args.probe is not None:
        from koc_qt.cli.doctor_check import answer

        return answer(args.probe)
    checks: list[Check] = []
    for look in _looks() if not args.imports else _imports():
        for check in look():
            checks.append(check)
            if not args.json:
                print(_line(check, colours=sys.stdout.isatty()), flush=True)
    failed = any(check.status == FAIL for check in checks)
    if args.json:
        import json

        print(json.dumps({"ok": not failed, "checks": [check._asdict() for check in checks]}, indent=2))
    return 1 if failed else 0


def _line(check: Check, *, colours: bool) -> str:
    mark = {OK: " ok ", WARN: "warn", FAIL: "FAIL"}[check.status]
    if colours:
        mark = f"\x1b[{ {OK: 32, WARN: 33, FAIL: 31}[check.status] }m{mark}\x1b[0m"
    advice = f"\n{'':19}{check.advice}" if check.advice else ""
    return f"{mark}  {check.name:<11}  {check.text}{advice}"


def _imports() -> list[Callable[[], Iterable[Check]]]:
    from koc_qt.cli.doctor_imports import look_at_imports

    return [look_at_imports]


def _looks() -> list[Callable[[], Iterable[Check]]]:
    """Give every look, in the order in which they are reported."""
    from koc_qt.cli import doctor_clock, doctor_machine, doctor_profile, doctor_program
    from koc_qt.paths import profile_paths

    paths = profile_paths()
    return [
        lambda: [doctor_program.look_at_python()],
        lambda: [doctor_program.look_at_libraries(doctor_program.LOCK_FILE)],
        doctor_program.look_at_qt,
        doctor_program.look_at_system_libraries,
        lambda: [doctor_machine.look_at_display()],
        doctor_machine.look_at_graphics,
        lambda: [doctor_machine.look_at_keyring()],
        lambda: [doctor_machine.look_at_sandbox()],
        lambda: doctor_profile.look_at_profile(paths),
        lambda: [doctor_profile.look_at_config(paths)],
        lambda: [doctor_clock.look_at_clock()],
        lambda: doctor_profile.look_at_engine(paths),
        lambda: doctor_clock.look_at_venue_times(paths),
    ]
