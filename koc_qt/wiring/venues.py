"""Makes the venues that the configuration describes, and the store that keeps their bars."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from koc_qt.adapters.parquet_bars import ParquetBarStore
from koc_qt.config import SIMULATED_VENUES, AccountConfig, Config, resolve_path
from koc_qt.domain.errors import ConfigError, SecretsUnavailable
from koc_qt.domain.orders import OrderType, TimeInForce
from koc_qt.domain.venues import DataStream, VenueAbilities
from koc_qt.paths import Paths
from koc_qt.ports.clock import Clock
from koc_qt.ports.secrets import Credentials
from koc_qt.ports.venue import MarketDataVenue, TradingVenue

SIMULATED = SIMULATED_VENUES


class _Made(NamedTuple):
    """Where a venue's adapter is: a module with ABILITIES and these classes; without `trading` it is data alone."""

    module: str
    data: str
    trading: str = ""


# One line a venue. Modules are imported when they are needed: what they stand on costs up to a second.
_ADAPTERS = {
    "binance": _Made("koc_qt.adapters.venues.binance", "BinanceVenue", "BinanceTrading"),
    "kraken": _Made("koc_qt.adapters.venues.kraken", "KrakenVenue", "KrakenTrading"),
    "coinbase": _Made("koc_qt.adapters.venues.coinbase", "CoinbaseVenue", "CoinbaseTrading"),
    "kucoin": _Made("koc_qt.adapters.venues.kucoin", "KucoinVenue", "KucoinTrading"),
    "bitfinex": _Made("koc_qt.adapters.venues.bitfinex", "BitfinexVenue", "BitfinexTrading"),
    "alpaca": _Made("koc_qt.adapters.venues.alpaca", "AlpacaVenue", "AlpacaTrading"),
    "polygon": _Made("koc_qt.adapters.venues.polygon", "PolygonVenue"),
    "yahoo": _Made("koc_qt.adapters.venues.yahoo", "YahooVenue"),
}
DATA_VENUES = (*SIMULATED, *_ADAPTERS)
_TITLES = {"sim": "Simulated market", "sim2": "Second simulated market"}


class Abilities(Mapping[str, VenueAbilities]):
    """What each venue can do, by its name; a real one's adapter is imported when it is first looked at."""

    def __getitem__(self, name: str) -> VenueAbilities:
        if name not in DATA_VENUES:
            raise KeyError(name)
        if name in SIMULATED:
            return _simulated(name)
        found: VenueAbilities = _load(name).ABILITIES
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(DATA_VENUES)

    def __len__(self) -> int:
        return len(DATA_VENUES)

    def __contains__(self, name: object) -> bool:
        return name in DATA_VENUES


def make_data_venue(
    name: str, config: Config, paths: Paths, clock: Clock, credentials: Credentials | None = None
) -> MarketDataVenue:
    """Make one venue, not yet connected, whether or not the configuration enables it for the engine.

    Raises ConfigError for a name that is none and for settings that it cannot work with, and SecretsUnavailable where
    its data needs keys and there are none.
    """
    if name in SIMULATED:
        from koc_qt.adapters.venues.simulator import SimulatorVenue

        return SimulatorVenue(name, clock, seed=config.simulator.seed, speed=config.simulator.speed)
    adapter, made = _load(name), _ADAPTERS[name]
    settings: dict[str, Any] = {"endpoint": _endpoint(name, config, paths)}
    if adapter.ABILITIES.data_needs_key:
        if credentials is None:
            title = adapter.ABILITIES.title
            raise SecretsUnavailable(f"market data of {title} needs keys: add an account on {title} with them")
        settings["credentials"] = credentials
    venue: MarketDataVenue = getattr(adapter, made.data)(clock, **settings)
    return venue


def make_data_venues(config: Config, paths: Paths, clock: Clock) -> dict[str, MarketDataVenue]:
    """Make the venues that an engine uses from its start: the simulated ones, and those that are enabled.

    Those whose data needs keys are not among them: they come with an account that has some. Raises ConfigError.
    """
    enabled = [name for name in _ADAPTERS if config.venues.of(name).enabled]
    names = [*SIMULATED, *(name for name in enabled if not _load(name).ABILITIES.data_needs_key)]
    return {name: make_data_venue(name, config, paths, clock) for name in names}


def make_trading_venue(
    account: AccountConfig, credentials: Credentials, config: Config, paths: Paths, clock: Clock
) -> TradingVenue:
    """Make the trading side of a testnet or live account, not yet connected. Raises ConfigError."""
    adapter, made = _load(account.venue), _ADAPTERS[account.venue]
    if not made.trading:
        raise ConfigError(f"{adapter.ABILITIES.title} is a source of data: nothing can be traded there")
    venue: TradingVenue = getattr(adapter, made.trading)(
        account_id=account.id,
        credentials=credentials,
        mode=account.mode,
        clock=clock,
        endpoint=_endpoint(account.venue, config, paths),
    )
    return venue


def make_bar_store(config: Config, paths: Paths) -> ParquetBarStore:
    """Make the store of the profile's bars. Each simulated market, that is each seed, has bars of its own there."""
    from koc_qt.adapters.venues.simulator import MODEL_VERSION

    # numpy may change its random streams from one minor release to the next, and the market with them (its NEP 19).
    numpy_version = "-".join(np.__version__.split(".")[:2])
    edition = f"model{MODEL_VERSION}-numpy{numpy_version}-seed{config.simulator.seed}"
    return ParquetBarStore(paths.bars, dict.fromkeys(SIMULATED, edition))


def _load(name: str) -> Any:
    if name not in DATA_VENUES:
        raise ConfigError(f"there is no venue {name!r}; there are: {', '.join(DATA_VENUES)}")
    return importlib.import_module(_ADAPTERS[name].module)


def _endpoint(name: str, config: Config, paths: Paths) -> Any:
    """Give the server that the configuration sends a venue's requests to; None for the venue's own."""
    settings = config.venues.of(name)
    if settings.endpoint is None:
        return None
    from koc_qt.adapters.ccxt_client import LoopbackEndpoint

    ca_file = str(resolve_path(paths, settings.ca_file)) if settings.ca_file else ""
    return LoopbackEndpoint.parse(settings.endpoint, ca_file)


def _simulated(name: str) -> VenueAbilities:
    return VenueAbilities(
        venue=name,
        title=_TITLES[name],
        trading=True,
        paper=False,
        order_types=tuple(OrderType),
        time_in_force=tuple(TimeInForce),
        post_only=True,
        reduce_only=True,
        client_ids=True,
        amend=True,
        private_streams=True,
        shorting=True,
        streams=(DataStream.TRADES, DataStream.QUOTES, DataStream.BOOK),
        timeframes=("1s", "5s", "15s", "30s", "1m", "5m", "15m", "30m", "1h", "4h", "1d"),
    )
