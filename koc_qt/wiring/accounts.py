"""Makes the accounts that the configuration describes."""

from __future__ import annotations

import random
from collections.abc import Iterable

from koc_qt.adapters.venues.paper import PaperVenue
from koc_qt.config import SIMULATED_VENUES, AccountConfig, SimulatorConfig
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.state import Balance
from koc_qt.ports.venue import MarketDataVenue


def make_paper_venue(
    account: AccountConfig, listed: Iterable[Instrument], data: MarketDataVenue, simulator: SimulatorConfig
) -> PaperVenue:
    """Make an account that is filled by the matching engine, on the market that `data` streams. Raises ConfigError."""
    model = FillModel(
        latency_ns=round(account.latency_ms * 1e6),
        maker_fee=account.fees.maker if account.fees else None,
        taker_fee=account.fees.taker if account.fees else None,
    )
    engine = MatchingEngine(
        listed,
        [Balance(currency, amount) for currency, amount in account.balances.items()],
        model,
        account.id,
        random.Random(f"{simulator.seed}:{account.id}"),  # noqa: S311 - jitter of a simulation
        allow_short=account.allow_short,
    )
    return PaperVenue(account.venue, engine, data.time_ns, speed=market_speed(account.venue, simulator))


def market_speed(venue: str, simulator: SimulatorConfig) -> float:
    """Give how many seconds of a venue pass in one of the world's."""
    return simulator.speed if venue in SIMULATED_VENUES else 1.0
