"""The work of ``koc fetch``: ask for what the store lacks, show how far it is, and say what is kept."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from koc_qt.config import load_config
from koc_qt.domain.errors import ConfigError, VenueRejected
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.percentages import percentage
from koc_qt.domain.timeframes import SECOND_NS, duration_ns
from koc_qt.logger import setup_logger
from koc_qt.paths import profile_paths

if TYPE_CHECKING:
    import argparse

    from koc_qt.engine.history import HistoryService
    from koc_qt.ports.bars import BarSeries, BarStore, Span
    from koc_qt.ports.venue import MarketDataVenue

INTERRUPTED = 130
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AGE = re.compile(r"[1-9][0-9]{0,7}[smhdw]", re.ASCII)
_PARTS_SAID = 3
_PLAIN_STEP = 0.1  # without a terminal, a line for each tenth

Show = Callable[[float, int], None]


@dataclass
class _Fetch:
    """What is fetched, as far as it is known yet; what an interrupt can still report of."""

    store: BarStore
    venue: MarketDataVenue
    source: BarSeries | None = None
    span: Span | None = None


def run(args: argparse.Namespace) -> int:
    """Fetch, show progress, and give the exit code. Raises KocError with a sentence for the person."""
    from koc_qt.adapters.clock import SystemClock
    from koc_qt.wiring.venues import make_bar_store, make_data_venue

    paths = profile_paths()
    paths.ensure()
    config = load_config(paths)
    duration_ns(args.timeframe)
    for text in (args.since, args.until):
        parse_time(text, 0)  # a typing mistake is told before anything is connected
    with closing(setup_logger(paths, level="WARNING")):
        fetch = _Fetch(make_bar_store(config, paths), make_data_venue(args.venue, config, paths, SystemClock()))
        try:
            with _progress(f"{args.venue} {args.symbol} {args.timeframe}") as show:
                fetched = asyncio.run(_run(fetch, args, show))
        except KeyboardInterrupt:
            print(f"Stopped. {_kept(fetch)}")
            return INTERRUPTED
        print(f"Fetched {fetched:,} bars. {_kept(fetch)}")
        return 0


def parse_time(text: str, now_ns: int) -> int:
    """Read a date or time (ISO 8601, UTC unless it says otherwise), an age before `now_ns`, or `now`; UTC nanoseconds.

    Raises ConfigError.
    """
    text = text.strip()
    if text == "now":
        return now_ns
    if _AGE.fullmatch(text):
        return now_ns - int(text[:-1]) * duration_ns(f"1{text[-1]}")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is not a time: write a date such as 2026-01-01, a time such as 2026-01-01T12:00, an age such as "
            "7d, 36h or 90m, or 'now'"
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


async def _run(fetch: _Fetch, args: argparse.Namespace, show: Show) -> int:
    from koc_qt.adapters.clock import SystemClock
    from koc_qt.engine.history import HistoryService
    from koc_qt.ports.bars import BarSeries, Span

    venue = fetch.venue
    try:
        await venue.connect(lambda event: None)  # nothing is subscribed to
        now_ns = venue.time_ns()
        span = Span(parse_time(args.since, now_ns), parse_time(args.until, now_ns))
        _check_span(span, now_ns)
        await _check_symbol(venue, args.symbol)
        series = BarSeries(InstrumentId(venue.name, args.symbol), args.timeframe)
        history: HistoryService = HistoryService(fetch.store, {venue.name: venue}, SystemClock())
        fetch.source, fetch.span = history.source(series), history.closed(series, span)
        return await history.fill(series, span, show)
    finally:
        await venue.close()


def _check_span(span: Span, now_ns: int) -> None:
    if span.since_ns >= span.until_ns:
        raise ConfigError(
            f"--since ({_text(span.since_ns)}) must be before --until ({_text(span.until_ns)}); both are UTC"
        )
    if span.since_ns >= now_ns:
        raise ConfigError(f"--since ({_text(span.since_ns)}) is in the future; it is {_text(now_ns)} UTC at the venue")


async def _check_symbol(venue: MarketDataVenue, symbol: str) -> None:
    from difflib import get_close_matches

    known = [instrument.id.symbol for instrument in await venue.instruments()]
    if symbol not in known:
        close = get_close_matches(symbol.upper(), known, n=3, cutoff=0.5) or known[:5]
        raise VenueRejected(f"{venue.name} has no symbol {symbol!r}; it has, for example, {', '.join(close)}")


def _kept(fetch: _Fetch) -> str:
    """Say what of the span the store has now."""
    if fetch.source is None or fetch.span is None:
        return "Nothing had been fetched yet."
    spans = fetch.store.covered(fetch.source, fetch.span)
    if not spans:
        return "Nothing is kept of that span."
    where = " and ".join(f"{_text(span.since_ns)} to {_text(span.until_ns)}" for span in spans[:_PARTS_SAID])
    if len(spans) > _PARTS_SAID:
        where += f" and {len(spans) - _PARTS_SAID} more parts up to {_text(spans[-1].until_ns)}"
    return f"Kept: {fetch.source.instrument} {fetch.source.timeframe}, {where} UTC."


def _text(time_ns: int) -> str:
    return f"{_EPOCH + timedelta(seconds=time_ns // SECOND_NS):%Y-%m-%d %H:%M:%S}"


@contextmanager
def _progress(title: str) -> Iterator[Show]:
    """Give what shows progress: a bar on a terminal, else a line now and then."""
    if sys.stdout.isatty():
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.fields[bars]:,} bars")) as progress:
            task = progress.add_task(title, total=1.0, bars=0)
            yield lambda fraction, bars: progress.update(task, completed=fraction, bars=bars)
        return
    shown = 0.0

    def line(fraction: float, bars: int) -> None:
        nonlocal shown
        if fraction >= shown + _PLAIN_STEP or shown < fraction == 1.0:
            shown = fraction
            print(f"{title}: {percentage(fraction)}, {bars:,} bars", flush=True)

    yield line
