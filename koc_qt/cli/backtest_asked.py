"""What a person asks of a back-test on the command line, read and checked before anything is started."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from koc_qt.cli.backtest import ALL, USUAL_SHARE
from koc_qt.cli.fetching import parse_time
from koc_qt.cli.lines import counted
from koc_qt.cli.named_files import strategy_file
from koc_qt.config import VENUES, Config
from koc_qt.domain.backtests import FILE_VENUE, BacktestSpec
from koc_qt.domain.errors import BadBars, ConfigError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.timeframes import duration_ns
from koc_qt.domain.trust import utc_text
from koc_qt.paths import Paths
from koc_qt.wiring.backtest import Bench, DataFile, file_bench, venue_bench


@dataclass(frozen=True)
class Asked:
    """A run as it was asked for; times are as they were written, since ages need to know what time it is."""

    path: str
    symbols: tuple[InstrumentId, ...]
    files: tuple[DataFile, ...]
    since: str | None
    until: str | None
    timeframe: str
    rules: dict[str, Any]  # further fields of the BacktestSpec

    @property
    def reading(self) -> dict[str, Any]:
        """The fields of a BacktestSpec that say which files are read, and how; none for a venue's bars."""
        if not self.files:
            return {}
        one = self.files[0]  # options are for all of them
        files = tuple(str(file.path.absolute()) for file in self.files)
        return {"files": files, "tick": one.tick, "lot": one.lot, "skip_bad": one.skip_bad}

    def spec(self, bench: Bench) -> BacktestSpec:
        """Give what is to be run on a bench. Raises ConfigError, and BadBars for a range outside the files."""
        now_ns = bench.now_ns
        since_ns = bench.since_ns if self.since is None else parse_time(self.since, now_ns)
        until_ns = now_ns if self.until is None else parse_time(self.until, now_ns)
        if since_ns is None:
            raise ConfigError("--from is needed: say where the back-test is to begin, such as --from 2024-01-01")
        if bench.since_ns is not None and (until_ns <= bench.since_ns or since_ns >= now_ns):
            there = f"{utc_text(bench.since_ns)} to {utc_text(now_ns)}"
            raise BadBars(f"the bars are from {there}: choose a range within that, or leave --from and --to out")
        if since_ns >= now_ns:
            raise ConfigError(f"--from ({utc_text(since_ns)}) is in the future; at the venue it is {utc_text(now_ns)}")
        if since_ns >= until_ns:
            raise ConfigError(f"--from ({utc_text(since_ns)}) must be before --to ({utc_text(until_ns)})")
        timeframe = self.timeframe or bench.timeframe
        return BacktestSpec(self.path, self.symbols, timeframe, since_ns, until_ns, **self.rules)


def read_asked(args: argparse.Namespace) -> Asked:
    """Read the options of cli/backtest.py's `add_run_options`. Raises KocError for what cannot be."""
    path = strategy_file(args.file)
    if args.timeframe:
        duration_ns(args.timeframe)
    for text in (args.since, args.until):
        if text is not None:
            parse_time(text, 0)  # a typing mistake is told before anything is connected
    files = _files(args)
    symbols = tuple(file.instrument for file in files) if files else _symbols(args)
    asked = Asked(str(path), symbols, files, args.since, args.until, args.timeframe, _rules(args))
    BacktestSpec(asked.path, asked.symbols, asked.timeframe, 0, 1, **asked.rules)  # says what makes no sense
    return asked


@contextlib.asynccontextmanager
async def bench_for(asked: Asked, config: Config, paths: Paths) -> AsyncIterator[Bench]:
    """Give what runs it. Raises KocError."""
    made = file_bench(config, asked.files) if asked.files else venue_bench(config, paths, asked.symbols)
    async with made as bench:
        yield bench


def data_words(asked: Asked) -> list[str]:
    """Give the words of a command line that name the files, and how they are read."""
    reading = asked.reading
    words = [word for file in reading.get("files", ()) for word in ("--data", file)]
    for name in ("tick", "lot"):
        words += [] if reading.get(name) is None else [f"--{name}", str(reading[name])]
    return words + (["--skip-bad"] if reading.get("skip_bad") else [])


def _symbols(args: argparse.Namespace) -> tuple[InstrumentId, ...]:
    for option in ("tick", "lot", "skip_bad"):
        if getattr(args, option):
            raise ConfigError(f"--{option.replace('_', '-')} is for bars from a file: add --data FILE")
    if not args.symbol:
        raise ConfigError("say what to run it on: --symbol VENUE:SYMBOL, or --data FILE for bars of yours")
    if args.since is None:
        raise ConfigError("--from is needed: say where the back-test is to begin, such as --from 2024-01-01")
    symbols = tuple(map(InstrumentId.parse, args.symbol))
    _check_once(symbols)
    for symbol in symbols:
        if symbol.venue not in VENUES:
            raise ConfigError(f"there is no venue {symbol.venue!r}; there are: {', '.join(VENUES)}")
    return symbols


def _files(args: argparse.Namespace) -> tuple[DataFile, ...]:
    if not args.data:
        return ()
    paths = [Path(text) for text in args.data]
    if args.symbol and len(args.symbol) != len(paths):
        raise ConfigError(
            f"{counted(len(paths), 'file')} and {counted(len(args.symbol), 'symbol')}: name one for each file, "
            "in the same order, or none"
        )
    if args.symbol:
        symbols = tuple(InstrumentId.parse(text, default_venue=FILE_VENUE) for text in args.symbol)
    else:
        symbols = tuple(InstrumentId(FILE_VENUE, path.stem.strip() or path.name) for path in paths)
    _check_once(symbols)
    for option, value in (("--tick", args.tick), ("--lot", args.lot)):
        if value is not None and not value > 0:
            raise ConfigError(f"{option} must be above zero, not {value}")
    if args.slippage_ticks and args.tick is None:
        raise ConfigError("--slippage-ticks needs to know how large a tick is in these files: add --tick, such as 0.01")
    return tuple(
        DataFile(path, symbol, args.timeframe, args.tick, args.lot, args.skip_bad)
        for path, symbol in zip(paths, symbols, strict=True)
    )


def _check_once(symbols: tuple[InstrumentId, ...]) -> None:
    twice = next((symbol for number, symbol in enumerate(symbols) if symbol in symbols[:number]), None)
    if twice is not None:
        raise ConfigError(f"{twice} is there twice")


def _rules(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "parameters": dict(_parameter(text) for text in args.parameters),
        "cash": args.cash,
        "fee": args.fee,
        "spread": args.spread,
        "slippage": args.slippage,
        "slippage_ticks": args.slippage_ticks,
        "latency_ns": int(args.latency_ms * 1_000_000),
        "volume_fraction": _share(args),
        "allow_short": not args.no_short,
        "seed": _seed(args.seed),
    }


def _share(args: argparse.Namespace) -> Decimal | None:
    """Give the share of volume; engines that are compared all fill orders whole, unless somebody asks for more care."""
    if args.volume_share is not USUAL_SHARE:
        return cast("Decimal | None", args.volume_share)
    return None if getattr(args, "engine", "") == ALL else Decimal("0.1")


def _seed(seed: int) -> int:
    if not 0 <= seed < 1 << 63:
        raise ConfigError(f"--seed {seed}: it must be zero or a whole number above")
    return seed


def _parameter(text: str) -> tuple[str, str]:
    """Read NAME=VALUE; the strategy's declaration says what kind of value it is."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {text}: write NAME=VALUE, such as --set fast=10")
    return name.strip(), value.strip()
