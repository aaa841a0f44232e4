"""What can be said of a start before the engine is asked: accounts, symbols, the line that an error names."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.state import AccountSnapshot, StrategySnapshot, StrategyState
from koc_qt.ui.modes import takes_orders

LARGEST = 512 << 10  # bytes; the engine takes no larger strategy
_LONGEST_LINE = 160
_FAVOURITE = "BTC/USDT"
_LINE = re.compile(r"\bline (\d{1,7})\b")


def is_active(strategy: StrategySnapshot) -> bool:
    """Tell whether a strategy runs, or will run again by itself."""
    return strategy.state not in (StrategyState.STOPPED, StrategyState.FAILED)


def read_file(path: str) -> bytes:
    """Read a strategy file of this machine, for a thread. Raises StrategyError, naming it."""
    file = Path(path)
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise StrategyError(f"{file.name} is not an ordinary file: choose a strategy file (.py)")
        with file.open("rb") as opened:
            source = opened.read(LARGEST + 1)
    except OSError as error:
        raise StrategyError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null byte in the path
        raise StrategyError(f"{path!r} cannot be read: {error}") from error
    if len(source) > LARGEST:
        raise StrategyError(f"{file.name} is too large: a strategy file may have {LARGEST:,} bytes")
    if not source.strip():
        raise StrategyError(f"{file.name} is empty: there is no strategy in it")
    return source


def route_problem(accounts: Mapping[str, AccountSnapshot], account_id: str, instrument: InstrumentId) -> str:
    """Say why an account cannot trade an instrument, as the engine would: empty where it can.

    Another venue's instrument is traded through the one account there of the same mode.
    """
    account = accounts.get(account_id)
    if account is None:
        return f"There is no account {account_id}"
    if account.venue == instrument.venue:
        return ""
    usable = [each for each in accounts.values() if takes_orders(each)]
    there = [each.account_id for each in usable if each.venue == instrument.venue and each.mode is account.mode]
    if len(there) == 1:
        return ""
    found = "there is no account" if not there else f"there are several accounts ({', '.join(there)})"
    return f"{account_id} trades at {account.venue}, and {found} in {account.mode} mode at {instrument.venue}"


def proposed_symbols(
    instruments: Mapping[InstrumentId, Instrument],
    accounts: Mapping[str, AccountSnapshot],
    account_id: str,
    count: int,
) -> list[InstrumentId]:
    """Propose what a new strategy may run on: a well-known symbol of the account, and the same at other venues."""
    account = accounts.get(account_id)
    known = [each for each in instruments if account is not None and each.venue == account.venue]
    if not known:
        return []
    first = next((each for each in known if each.symbol == _FAVOURITE), known[0])
    elsewhere = [
        each
        for each in instruments
        if each.symbol == first.symbol and each != first and not route_problem(accounts, account_id, each)
    ]
    others = elsewhere if len(elsewhere) >= count - 1 else []
    return [first, *others][:count]


def twice(instruments: Sequence[InstrumentId | None]) -> set[int]:
    """Give the places that repeat an earlier one."""
    seen: set[InstrumentId] = set()
    places: set[int] = set()
    for place, instrument in enumerate(instruments):
        if instrument in seen:
            places.add(place)
        elif instrument is not None:
            seen.add(instrument)
    return places


def line_in(sentence: str) -> int | None:
    """Find the line of its file that an error names."""
    found = _LINE.search(sentence)
    return int(found[1]) if found else None


def without_path(sentence: str, path: str) -> str:
    """Give an error of the engine without the path that the dialog shows anyway, and without saying its line twice."""
    rest = re.sub(rf"^{re.escape(path)}(, line \d+)?: ", "", sentence)
    if rest == sentence:
        return sentence
    line = line_in(sentence)
    if line is not None and line_in(rest) is None:
        rest = f"line {line}: {rest}"
    return rest[:1].upper() + rest[1:]


def excerpt(source: bytes, line: int) -> str:
    """Give the line that an error names and the one before it, numbered, with a mark below; empty where there is none.

    Which column is wrong the engine does not say, so all of the line's text is marked.
    """
    lines = source.decode("utf-8", errors="replace").splitlines()
    if not 1 <= line <= len(lines):
        return ""
    width = len(str(line))
    first = line - 1 if line > 1 and lines[line - 2].strip() else line
    shown = [f"{number:>{width}} | {_printable(lines[number - 1])}" for number in range(first, line + 1)]
    text = _printable(lines[line - 1])
    indent = len(text) - len(text.lstrip())
    shown.append(f"{'':>{width}} | {'':>{indent}}{'^' * max(1, len(text.strip()))}")
    return "\n".join(shown)


def _printable(line: str) -> str:
    text = "".join(c if c.isprintable() else "?" for c in line.expandtabs(4)).rstrip()
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…"
