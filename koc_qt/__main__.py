"""Pick what this process is to be, before anything heavy is imported: a worker, or whatever the command line says."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run K.O.C. with these arguments, by default the process's own; gives the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["worker"]:
        from koc_qt.wiring.worker import main as run_worker

        # at once: what a strategy has left behind, such as threads and exit handlers, shall not keep the process
        os._exit(run_worker(arguments[1:]))
    from koc_qt.cli.main import main as run_command

    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(main())
