"""Makes what accounts need of the outside world: their venues, market data for them, and tests of their keys."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from loguru import logger

from koc_qt.accounts_file import ManagedAccount
from koc_qt.adapters.venues.paper import PaperVenue
from koc_qt.config import DEFAULT_ACCOUNTS, SIMULATED_VENUES, AccountConfig, Config, SimulatorConfig
from koc_qt.domain.errors import KocError, VenueTimeout
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import StreamStatus
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.orders import Fill
from koc_qt.domain.state import Balance, TradingMode
from koc_qt.domain.venues import ConnectionReport, VenueAbilities
from koc_qt.engine.account_registry import AccountRegistry
from koc_qt.engine.bus import Bus
from koc_qt.engine.market_data import MarketData
from koc_qt.engine.store import Store
from koc_qt.link.messages import BookChanged, QuoteChanged, TradePrinted
from koc_qt.paths import Paths
from koc_qt.ports.clock import Clock
from koc_qt.ports.journal import JournalState
from koc_qt.ports.secrets import Credentials
from koc_qt.ports.venue import MarketDataVenue, TradingVenue
from koc_qt.wiring.venues import Abilities, make_data_venue, make_trading_venue

LOOK_TIMEOUT_S = 30.0  # for a look at market data with keys that are being tried


def make_paper_venue(
    account: AccountConfig,
    listed: Iterable[Instrument],
    data: MarketDataVenue,
    simulator: SimulatorConfig,
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


def feed(account: PaperVenue, venue: str, bus: Bus) -> Callable[[], None]:
    """Let a paper account see what its venue's market does; the result ends it."""

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

    ends = [
        bus.subscribe(QuoteChanged, quote),
        bus.subscribe(BookChanged, book),
        bus.subscribe(TradePrinted, trade),
        bus.subscribe(StreamStatus, status),
    ]

    def end() -> None:
        for each in ends:
            each()

    return end


def of_present_mode(account: AccountConfig, state: JournalState) -> JournalState:
    """Give what the journal has of an account in its present mode: what it did in others is another story."""
    orders = [order for order in state.orders if order.account_id == account.id]
    fills = [fill for fill in state.fills if fill.account_id == account.id]
    if isinstance(account, ManagedAccount) and account.past:
        orders = [order for order in orders if account.mode_at(order.created_ns) is account.mode]
        keys = {order.client_order_id for order in orders}
        fills = [fill for fill in fills if fill.client_order_id in keys]
    return JournalState(tuple(orders), tuple(fills), (), None)


def own_accounts(config: Config, data_venues: Collection[str]) -> list[AccountConfig]:
    """Give the accounts of koc.yaml; of those that are there without being asked for, the ones whose venue is used."""
    ours = [account for account in config.accounts if not isinstance(account, ManagedAccount)]
    return [account for account in ours if account.venue in data_venues or account not in DEFAULT_ACCOUNTS]


def key_fields(abilities: Mapping[str, VenueAbilities]) -> set[str]:
    """Give the names of everything that venues ask for."""
    return {field.name for each in abilities.values() for field in each.credentials}


def fills_of_present_modes(state: JournalState, registry: AccountRegistry) -> tuple[Fill, ...]:
    """Give the journal's fills without those of modes in which their accounts were before."""
    made_ns = {order.client_order_id: order.created_ns for order in state.orders}
    return tuple(
        fill
        for fill in state.fills
        if registry.belongs(fill.account_id, made_ns.get(fill.client_order_id, fill.time_ns))
    )


class EngineFactory:
    """Implements engine/account_opening.py TradingFactory; `venues` are the sources of market data, which it adds to.

    `remembered` is what the journal had when the engine began, which is all there is of an account that is opened for
    the first time; `read_journal` gives what it has now, and may block. `keys_for` gives keys for a venue's data.
    """

    def __init__(
        self,
        config: Config,
        paths: Paths,
        clock: Clock,
        store: Store,
        bus: Bus,
        market_data: MarketData,
        venues: dict[str, MarketDataVenue],
        remembered: JournalState,
        read_journal: Callable[[], JournalState],
        keys_for: Callable[[str], Coroutine[Any, Any, Credentials | None]],
    ) -> None:
        self._config = config
        self._paths = paths
        self._clock = clock
        self._store = store
        self._bus = bus
        self._market_data = market_data
        self._venues = venues
        self._remembered = remembered
        self._read_journal = read_journal
        self._keys_for = keys_for
        self._abilities = Abilities()
        self._feeds: dict[str, Callable[[], None]] = {}
        self._adding = asyncio.Lock()

    @property
    def abilities(self) -> Mapping[str, VenueAbilities]:
        """What each venue can do, by its name."""
        return self._abilities

    async def use_venue(self, venue: str) -> None:
        """See that a venue's market data is there, or will be once it can be reached. Raises KocError."""
        async with self._adding:
            if self._market_data.is_ready(venue):
                return
            if venue in self._venues and not self._abilities[venue].data_needs_key:
                return  # else perhaps with other keys
            abilities = await self._look_up(venue)
            keys = await self._keys_for(venue) if abilities.data_needs_key else None
            source = make_data_venue(venue, self._config, self._paths, self._clock, keys)
            await self._market_data.drop(venue)
            self._venues[venue] = source
            self._market_data.connect(venue)

    async def make_trading(self, account: AccountConfig, credentials: Credentials | None) -> TradingVenue:
        """Make the venue of an account, not yet connected; one that is filled here waits for its market first."""
        if not account.is_filled_here:
            await self._look_up(account.venue)
            keys = credentials or Credentials({})
            return make_trading_venue(account, keys, self._config, self._paths, self._clock)
        await self._market_data.wait_ready(account.venue)
        listed = [instrument for key, instrument in self._store.instruments.items() if key.venue == account.venue]
        venue = make_paper_venue(account, listed, self._venues[account.venue], self._config.simulator)
        state = self._remembered
        if (end := self._feeds.pop(account.id, None)) is not None:
            end()  # of the venue that it had before
            state = await asyncio.to_thread(self._read_journal)
        known = of_present_mode(account, state)
        venue.restore(known.orders, known.fills)
        self._feeds[account.id] = feed(venue, account.venue, self._bus)
        return venue

    def fills(self, account: ManagedAccount) -> Sequence[Fill]:
        """Read what the journal has of an account in its present mode. Blocks. Raises StorageError."""
        return of_present_mode(account, self._read_journal()).fills

    async def check(self, account: AccountConfig, credentials: Credentials | None) -> ConnectionReport:
        """Try an account's keys, whether or not it is open. Raises KocError."""
        if account.mode is TradingMode.DATA or (account.is_filled_here and credentials is not None):
            return await self._look_at_data(account.venue, credentials)
        if account.is_filled_here:
            return ConnectionReport(can_read=True, can_trade=True)
        venue = await self.make_trading(account, credentials)
        try:
            return await venue.check()
        finally:
            await _close(venue, account.venue)

    async def _look_up(self, venue: str) -> VenueAbilities:
        """Give what a venue can do; its adapter is imported in a thread, once."""
        return await asyncio.to_thread(self._abilities.__getitem__, venue)

    async def _look_at_data(self, name: str, credentials: Credentials | None) -> ConnectionReport:
        await self._look_up(name)
        venue = make_data_venue(name, self._config, self._paths, self._clock, credentials)
        began_ns = self._clock.monotonic_ns()
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                await venue.connect(lambda event: None)
                await venue.instruments()
        except TimeoutError:
            raise VenueTimeout(f"{name} did not answer within {LOOK_TIMEOUT_S:g} s") from None
        except KocError as error:
            return ConnectionReport(str(error))
        finally:
            await _close(venue, name)
        return ConnectionReport(can_read=True, latency_ms=(self._clock.monotonic_ns() - began_ns) / 1e6)


async def _close(venue: MarketDataVenue | TradingVenue, name: str) -> None:
    try:
        await venue.close()
    except Exception as error:
        logger.warning("a test of {} did not close in order: {!r}", name, error)
