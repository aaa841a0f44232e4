"""``koc optimize --resume``: a study goes on as it began, and what contradicts that is refused."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from koc_qt.cli.backtest_asked import Asked
from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.optimisation import Method, Objective, ParameterRange, StudySpec
from koc_qt.engine.optimiser import Optimiser
from koc_qt.engine.optimiser_leases import SILENT_S

_PATIENCE_S = 2.0  # without a word
_RULES = {
    "cash": "--cash",
    "fee": "--fee",
    "spread": "--spread",
    "slippage": "--slippage",
    "slippage_ticks": "--slippage-ticks",
    "latency_ns": "--latency-ms",
    "volume_fraction": "--volume-share",
    "allow_short": "--no-short",
    "seed": "--seed",
}


async def resume(
    optimiser: Optimiser,
    args: argparse.Namespace,
    asked: Asked,
    ranges: Sequence[ParameterRange],
    objectives: Sequence[Objective],
) -> None:
    """Go on with a study; say why where that has to wait. Raises as `Optimiser.resume` does, and ConfigError."""
    study_id: str = args.resume
    await optimiser.load()
    known = optimiser.study(study_id).spec
    found = [*_search(args, ranges, objectives, known), *_rules(asked, known.base)]
    if found:
        raise ConfigError(
            f"{study_id} goes on as it began, and that was with another {', '.join(found)}: leave that out, "
            "or leave --resume out and start another study, which gets a name of its own"
        )
    resuming = asyncio.ensure_future(optimiser.resume(study_id))
    try:
        if not (await asyncio.wait([resuming], timeout=_PATIENCE_S))[0]:
            patience = f"for up to {SILENT_S:g} s"
            print(f"{study_id}: watching {patience} whether the process that had it still runs", file=sys.stderr)
        await resuming
    finally:
        resuming.cancel()


def _search(
    args: argparse.Namespace, ranges: Sequence[ParameterRange], objectives: Sequence[Objective], known: StudySpec
) -> Iterator[str]:
    """Give the options of the search that were given, and mean something else than the study's."""
    if ranges and not _are_same(ranges, known.ranges):
        yield "--range"
    pairs: dict[str, tuple[Any, Any]] = {
        "--where": (tuple(args.where) or None, known.constraints),
        "--objective": (tuple(objectives) if args.objective else None, known.objectives),
        "--method": (None if args.method == Method.GRID else args.method, known.method),
        "--trials": (args.trials, known.trials),
        "--search-seed": (args.search_seed or None, known.seed),
        "--prune": (args.prune or None, known.prune),
        "--floor": (args.floor, known.floor),
    }
    yield from (option for option, (given, has) in pairs.items() if given is not None and given != has)


def _are_same(given: Sequence[ParameterRange], known: Sequence[ParameterRange]) -> bool:
    has = {each.name: each for each in known}
    return has.keys() == {each.name for each in given} and all(_is_same(each, has[each.name]) for each in given)


def _is_same(given: ParameterRange, known: ParameterRange) -> bool:
    """Whether a range as it was typed is the study's, which has steps and kinds of values from the file."""
    if given.choices:
        return [str(each) for each in given.choices] == [str(each) for each in known.choices]
    return (given.low, given.high) == (known.low, known.high) and given.step in (None, known.step)


def _rules(asked: Asked, known: BacktestSpec) -> Iterator[str]:
    """Give the options of the run that were given, and mean something else than the study's; dates are its own."""
    usual = BacktestSpec(asked.path, asked.symbols, "", 0, 1)
    for name, option in _RULES.items():
        value = asked.rules[name]
        if value not in (getattr(usual, name), getattr(known, name)):
            yield option
    if asked.timeframe and asked.timeframe != known.timeframe:
        yield "--timeframe"
    given = asked.rules["parameters"]
    if any(str(known.parameters.get(name)) != str(value) for name, value in given.items()):
        yield "--set"
