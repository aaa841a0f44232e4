"""Makes the venues that the configuration describes, and the store that keeps their bars."""

from __future__ import annotations

import numpy as np

from koc_qt.adapters.parquet_bars import ParquetBarStore
from koc_qt.config import Config, resolve_path
from koc_qt.domain.errors import ConfigError
from koc_qt.paths import Paths
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import MarketDataVenue

SIMULATED = ("sim", "sim2")
DATA_VENUES = (*SIMULATED, "binance")


def make_data_venue(name: str, config: Config, paths: Paths, clock: Clock) -> MarketDataVenue:
    """Make one venue, not yet connected, whether or not the configuration enables it for the engine.

    Raises ConfigError for a name that is none and for settings that it cannot work with.
    """
    if name in SIMULATED:
        from koc_qt.adapters.venues.simulator import SimulatorVenue

        return SimulatorVenue(name, clock, seed=config.simulator.seed, speed=config.simulator.speed)
    if name == "binance":
        # ccxt costs a second to import: only who asks for the venue pays.
        from koc_qt.adapters.ccxt_client import LoopbackEndpoint
        from koc_qt.adapters.venues.binance import BinanceVenue

        settings = config.venues.binance
        if settings.endpoint is None:
            return BinanceVenue(clock)
        ca_file = str(resolve_path(paths, settings.ca_file)) if settings.ca_file else ""
        return BinanceVenue(clock, LoopbackEndpoint.parse(settings.endpoint, ca_file))
    raise ConfigError(f"there is no venue {name!r}; there are: {', '.join(DATA_VENUES)}")


def make_data_venues(config: Config, paths: Paths, clock: Clock) -> dict[str, MarketDataVenue]:
    """Make the venues that an engine uses: the simulated ones, and those that are enabled. Raises ConfigError."""
    names = [*SIMULATED, *(["binance"] if config.venues.binance.enabled else [])]
    return {name: make_data_venue(name, config, paths, clock) for name in names}


def make_bar_store(config: Config, paths: Paths) -> ParquetBarStore:
    """Make the store of the profile's bars. Each simulated market, that is each seed, has bars of its own there."""
    from koc_qt.adapters.venues.simulator import MODEL_VERSION

    # numpy may change its random streams from one minor release to the next, and the market with them (its NEP 19).
    numpy_version = "-".join(np.__version__.split(".")[:2])
    edition = f"model{MODEL_VERSION}-numpy{numpy_version}-seed{config.simulator.seed}"
    return ParquetBarStore(paths.bars, dict.fromkeys(SIMULATED, edition))
