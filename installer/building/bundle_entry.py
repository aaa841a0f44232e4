"""Where the frozen program begins: what its libraries start it for, the console of Windows, then koc_qt/__main__.py."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import MutableMapping

_TRACKER = re.compile(r"from multiprocessing\.resource_tracker import main;\s*main\((\d+)\)")


def serve_multiprocessing(argv: list[str]) -> bool:
    """Be what Python's multiprocessing starts an interpreter for, if this process is one of those; tell whether it was.

    PyInstaller's own way loads multiprocessing in every process that starts, which costs each of them 15 ms.
    """
    if argv[1:2] == ["--multiprocessing-fork"]:
        from multiprocessing import spawn

        spawn.freeze_support()
        return True
    if "-c" in argv[1:-1] and (found := _TRACKER.fullmatch(argv[-1])):
        from multiprocessing import resource_tracker

        resource_tracker.main(int(found[1]))
        return True
    return False


def give_back_environment(environment: MutableMapping[str, str]) -> None:
    """Let programs that this one starts, such as a browser, find the system's libraries.

    The bundle's loader has put its own folder first, for this process: its libraries have been found by that already,
    and its own children's loaders do the same. They would not where they were told that a loader had been there: an
    engine that a window started did not find SQLite on a system without one.
    """
    for name in [name for name in environment if name.startswith("_PYI_")]:
        del environment[name]
    before = environment.pop("LD_LIBRARY_PATH_ORIG", None)
    environment.pop("LD_LIBRARY_PATH", None)
    if before is not None:
        environment["LD_LIBRARY_PATH"] = before


def join_console() -> None:
    """Write to the terminal that started this program: on Windows one with windows has none of its own.

    Output that goes to a file or a pipe is left as it is. A terminal does not wait for a program with windows:
    `start /wait koc ...` does.
    """
    if sys.platform == "win32":
        import ctypes

        parent = 0xFFFFFFFF  # ATTACH_PARENT_PROCESS
        if None not in (sys.stdin, sys.stdout, sys.stderr):
            return
        attached = bool(ctypes.windll.kernel32.AttachConsole(parent))
        # Without a terminal what is written goes nowhere, rather than that a print fails.
        for name, device, mode in (("stdin", "CONIN$", "r"), ("stdout", "CONOUT$", "w"), ("stderr", "CONOUT$", "w")):
            if getattr(sys, name) is None:
                stream = open(device if attached else "NUL", mode, encoding="utf-8", errors="replace", buffering=1)  # noqa: SIM115, PTH123
                setattr(sys, name, stream)


def main() -> int:
    """Run what the arguments ask for; gives the exit code."""
    if sys.platform == "linux" and getattr(sys, "frozen", False):
        give_back_environment(os.environ)
    if serve_multiprocessing(sys.argv):
        return 0
    join_console()
    from koc_qt.__main__ import main as run

    try:
        return run()
    except Exception:
        sys.excepthook(*sys.exc_info())  # as Python does; beyond here Windows would show a box and wait for somebody
        return 1


if __name__ == "__main__":
    sys.exit(main())
