"""Makes the accounts that the configuration describes."""

from __future__ import annotations

import random
from collections.abc import Iterable

from koc_qt.adapters.venues.paper import PaperVenue
from koc_qt.config import SIMULATED_VENUES, AccountConfig, SimulatorConfig
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import StreamStatus
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.state import Balance
from koc_qt.engine.bus import Bus
from koc_qt.link.messages import BookChanged, QuoteChanged, TradePrinted
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


def feed(account: PaperVenue, venue: str, bus: Bus) -> None:
    """Let a paper account see what its venue's market does."""

    def quote(fact: QuoteChanged) -> None:
        if fact.quote.instrument.venue == venue:
            account.on_market(fact.quote)

    def book(fact: BookChanged) -> None:
        if fact.book.instrument.venue == venue:
            account.on_market(fact.book)

    def trade(fact: TradePrinted) -> None:
        if fact.trade.instrument.venue == venue:
            account.on_market(fact.trade)

    def status(fact: StreamStatus) -> None:
        if fact.instrument.venue == venue:
            account.on_market(fact)

    bus.subscribe(QuoteChanged, quote)
    bus.subscribe(BookChanged, book)
    bus.subscribe(TradePrinted, trade)
    bus.subscribe(StreamStatus, status)
