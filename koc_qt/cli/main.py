"""``koc``: the command line.

Exit codes: 0 done, 1 it could not be done (a sentence says why), 2 the command line is wrong, 70 an error in K.O.C.
itself (a report is in the crashes folder), 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn, cast

from koc_qt.cli import engine, window
from koc_qt.domain.errors import KocError
from koc_qt.version import __version__

if TYPE_CHECKING:
    from koc_qt.logger import Logging

FAILED, USAGE, CRASHED, INTERRUPTED = 1, 2, 70, 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SOON = {  # people wait for these; others need not be loaded
    "window": window.add_parser,
    "engine": engine.add_parser,
}

_BACKTEST = "backtest"  # likewise, but the window and the engine do without it

_EPILOG = """\
Without a command, koc opens its window, and starts the engine where none runs. Where there is no display, the engine
runs in this terminal. 'koc FILE.py' opens the window and offers to start that strategy.

'koc COMMAND --help' explains a command. All data, configuration, logs and locks are under the folder that
KOC_HOME names; without it, where this system keeps such things ('koc doctor' says where).
"""


class Parser(argparse.ArgumentParser):
    """Takes options only as they are written, and says in a line or two what is wrong with others."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Explain on stderr, and end with code 2."""
        self.exit(USAGE, f"{self.prog}: {message}\nTry '{self.prog} --help'.\n")


def build_parser(command: str = "") -> tuple[Parser, dict[str, Parser]]:
    """Make the parser of everything, or of the one command that shall begin soonest; also give the commands' own."""
    parser = Parser(
        prog="koc",
        description="K.O.C., the Killer Operations Core: a trading desktop with sandboxed strategies.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"koc {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    commands = cast("argparse._SubParsersAction[argparse.ArgumentParser]", subparsers)
    for name, add_parser in _SOON.items():
        if command in ("", name):
            add_parser(commands)
    if command in ("", _BACKTEST):
        from koc_qt.cli import backtest

        backtest.add_parser(commands)
    if not command:
        from koc_qt.cli import accounts, doctor, fetch, keys, optimize, remote

        remote.add_parsers(commands)
        accounts.add_parsers(commands)
        optimize.add_parser(commands)
        fetch.add_parser(commands)
        keys.add_parser(commands)
        doctor.add_parser(commands)
    return parser, subparsers.choices


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; ends the process with code 2 and a suggestion where it is wrong."""
    words = list(arguments) or ["window"]
    parser, commands = build_parser(words[0] if words[0] in (*_SOON, _BACKTEST) else "")
    if words[0] not in commands and _means_window(words, commands["window"]):
        words.insert(0, "window")
    if words[0].startswith("-"):
        option = words[0].partition("=")[0]
        if option not in _options(parser):
            hint = _did_you_mean(option, [*_options(parser), *_options(commands["window"])])
            parser.error(f"there is no option {option!r}{hint}")
    elif words[0] not in commands:
        if "://" in words[0]:
            parser.error(f"{words[0]!r} is an address; did you mean '--connect {words[0]}'?")
        parser.error(f"there is no command {words[0]!r}{_did_you_mean(words[0], commands)}")
    args, unknown = parser.parse_known_args(words)
    if unknown:
        chosen = commands.get(args.command, parser)
        options = _options(chosen)
        what = f"there is no option {unknown[0].split('=')[0]!r}" if unknown[0].startswith("-") else ""
        hint = _did_you_mean(unknown[0].split("=")[0], options) if what else ""
        if unknown[0].endswith(".py") and "--strategy" in options:
            hint = f"; did you mean '--strategy {unknown[0]}'?"
        chosen.error((what or f"{unknown[0]!r} is one word too many") + hint)
    return args


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def _means_window(words: Sequence[str], window_parser: Parser) -> bool:
    """Tell whether a command line without a command is one for the window: one of its options, or a file."""
    first = words[0]
    if first.startswith("-"):
        return first.partition("=")[0] in set(_options(window_parser)) - {"-h", "--help"}
    return first.lower().endswith(".py") or (("/" in first or os.sep in first) and "://" not in first)


def main(arguments: Sequence[str]) -> int:
    """Run a command and give its exit code; no error reaches the person as a traceback."""
    try:
        args = parse(arguments)
        with contextlib.closing(_quiet_log()):
            code: int = args.run(args)
        sys.stdout.flush()
    except KocError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("koc: stopped.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output, such as head, has seen enough
        _drop_output()
        return FAILED
    except OSError as error:
        if error.errno not in _FULL:
            return _crash(error, arguments)
        _drop_output()  # what is left of it would fail again when Python ends
        return _fail(f"nothing more can be written: {error.strerror or 'the disk is full'}")
    except ImportError as error:
        return _fail(f"a part of K.O.C. does not load: {error}. 'koc doctor' says what this machine lacks.")
    except Exception as error:
        return _crash(error, arguments)
    return code


def _drop_output() -> None:
    """Let what stdout still holds go nowhere."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _quiet_log() -> Logging:
    """Let warnings alone reach stderr, until a command sets up a log of its own."""
    from koc_qt.logger import setup_logger

    return setup_logger(None, level="WARNING")


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _fail(sentence: str) -> int:
    from koc_qt.scrub import scrub

    print(f"koc: {scrub(sentence)}", file=sys.stderr)
    return FAILED


def _crash(error: Exception, arguments: Sequence[str]) -> int:
    try:
        where = f"A report is in {write_crash_report(error, arguments)}"
    except (OSError, KocError) as trouble:
        where = f"A report could not be written ({trouble})"
    print(f"koc: an error in K.O.C. itself, {type(error).__name__}, has ended this command. {where}.", file=sys.stderr)
    return CRASHED


def write_crash_report(error: Exception, arguments: Sequence[str]) -> str:
    """Write what is needed to mend an error, without secrets; gives the file. Raises OSError, ConfigError."""
    from koc_qt.adapters.crash_reports import CrashReports
    from koc_qt.paths import profile_paths

    first = arguments[0] if arguments else "window"
    part = first if first in _SOON else "command"
    return str(CrashReports(profile_paths()).write(part, error, has_ended=True, arguments=arguments))
