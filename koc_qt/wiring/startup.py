"""What an engine is to run when it starts: what the configuration plans, and what the journal shows to be in use."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from loguru import logger

from koc_qt.config import REAL_VENUES, Config, StrategyConfig, resolve_path, with_venues
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.state import StrategySpec
from koc_qt.paths import Paths
from koc_qt.ports.journal import JournalState


def configured(entry: StrategyConfig, config: Config, paths: Paths) -> StrategySpec:
    """Give the specification of a configured strategy. Raises ConfigError for an account that is not there."""
    account = config.find_account(entry.account)
    return StrategySpec(
        strategy_id=entry.id or Path(entry.path).stem,
        path=str(resolve_path(paths, entry.path)),
        account_id=account.id,
        instruments=tuple(InstrumentId.parse(symbol, default_venue=account.venue) for symbol in entry.symbols),
        timeframe=entry.timeframe,
        parameters=dict(entry.parameters),
    )


def is_same(one: StrategySpec, other: StrategySpec) -> bool:
    """Tell whether two specs mean the same strategy: by their ids, or by file and market where one has none yet."""
    if one.strategy_id and other.strategy_id:
        return one.strategy_id == other.strategy_id
    return (one.path, one.account_id, one.instruments) == (other.path, other.account_id, other.instruments)


def with_venues_in_use(config: Config, paths: Paths, remembered: JournalState) -> Config:
    """Enable the venues of what is open, held, running or planned: nobody need name them again."""
    planned = [configured(entry, config, paths) for entry in config.strategies if entry.autostart or entry.start]
    running = [record.spec for record in remembered.strategies if record.wanted]
    in_use = {instrument.venue for spec in (*planned, *running) for instrument in spec.instruments}
    in_use |= {order.request.instrument.venue for order in remembered.orders if order.is_open}
    in_use |= _venues_held(remembered)
    new = [name for name in REAL_VENUES if name in in_use and not config.venues.of(name).enabled]
    if new:
        logger.info("{} in use: a strategy, an order or a holding of this profile needs it", " and ".join(new))
    return with_venues(config, new)


def _venues_held(remembered: JournalState) -> set[str]:
    holdings: dict[tuple[str, str, InstrumentId], Decimal] = {}
    for fill in remembered.fills:
        key = (fill.strategy_id, fill.account_id, fill.instrument)
        signed = fill.quantity if fill.side is Side.BUY else -fill.quantity
        holdings[key] = holdings.get(key, Decimal(0)) + signed
    return {instrument.venue for (_, _, instrument), quantity in holdings.items() if quantity}
