"""The registry of accounts as wiring/engine.py composes it, on fakes that do as they are told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from koc_qt.accounts_file import AccountsFile, ManagedAccount
from koc_qt.adapters.secrets.mounted_store import MountedStore
from koc_qt.config import AccountConfig
from koc_qt.domain.errors import VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.orders import Fill, OrderReport, OrderType
from koc_qt.domain.risk import RiskLimits
from koc_qt.domain.state import StrategySpec, StrategyState, TradingMode
from koc_qt.domain.venues import ConnectionReport, CredentialField, VenueAbilities
from koc_qt.engine.account_commands import AccountCommands
from koc_qt.engine.account_opening import Guards
from koc_qt.engine.account_registry import AccountRegistry
from koc_qt.engine.accounts import Accounts
from koc_qt.engine.bus import Bus
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.latency import LatencyBook
from koc_qt.engine.ledger import Ledger
from koc_qt.engine.orders import OrderService
from koc_qt.engine.plain_keys import PlainKeyMover
from koc_qt.engine.secrets import SecretsDesk
from koc_qt.engine.store import Store
from koc_qt.engine.strategies import Managed
from koc_qt.link.account_messages import AccountCommand
from koc_qt.link.messages import AccountChanged
from koc_qt.ports.secrets import Credentials, SecretStore
from koc_qt.ports.venue import TradingVenue
from tests.fakes.clock import FakeClock
from tests.fakes.journal import MemoryJournal
from tests.fakes.secrets import MemoryStore
from tests.fakes.trading import BTC_RULES, FakeTradingVenue

KRAKEN_BTC: Instrument = msgspec.structs.replace(BTC_RULES, id=InstrumentId("kraken", "BTC/USDT"))
FIELDS = (CredentialField("key", "API key"), CredentialField("secret", "Private key"))
ABILITIES = {
    "sim": VenueAbilities("sim", "Simulated market", trading=True, paper=False, order_types=tuple(OrderType)),
    "kraken": VenueAbilities("kraken", "Kraken", trading=True, testnet=True, credentials=FIELDS),
    "alpaca": VenueAbilities("alpaca", "Alpaca", trading=True, data_needs_key=True, credentials=FIELDS),
    "polygon": VenueAbilities("polygon", "Polygon.io", data_needs_key=True, credentials=FIELDS[:1]),
}
KEYS = {"key": "key-123456", "secret": "secret-123456"}
OTHERS = {"key": "key-654321", "secret": "secret-654321"}


class Venue(FakeTradingVenue):
    """A venue of an account, with the clock of the test."""

    def __init__(self, account: AccountConfig, clock: FakeClock) -> None:
        super().__init__(account.id)
        self.venue = account.venue
        self.refuse_connect: Exception | None = None
        self.clock = clock
        self.behind_ns = 0

    def time_ns(self) -> int:
        """Give the time at which everything happens here."""
        return self.clock.time_ns() - self.behind_ns

    async def connect(self, sink: Any, on_state: Any = None) -> None:
        """Connect, as told."""
        if self.refuse_connect is not None:
            raise self.refuse_connect
        await super().connect(sink, on_state)


class Factory:
    """Implements engine/account_opening.py TradingFactory; `made` remembers with which keys what was made."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.abilities: Mapping[str, VenueAbilities] = ABILITIES
        self.made: list[tuple[str, TradingMode, dict[str, str] | None]] = []
        self.tested: list[tuple[str, TradingMode, dict[str, str] | None]] = []
        self.venues: list[Venue] = []
        self.used: list[str] = []
        self.refuse: list[Exception] = []  # raised one after the other
        self.refuse_connect: Exception | None = None
        self.behind_ns = 0
        self.hold: asyncio.Event | None = None
        self.reports: dict[tuple[str, TradingMode], dict[str, OrderReport]] = {}
        self.report = ConnectionReport(can_read=True, can_trade=True)

    async def use_venue(self, venue: str) -> None:
        """Note that market data is wanted."""
        self.used.append(venue)

    async def make_trading(self, account: AccountConfig, credentials: Credentials | None) -> TradingVenue:
        """Make a venue, a second later than whatever was before."""
        if self.hold is not None:
            await self.hold.wait()
        if self.refuse:
            raise self.refuse.pop(0)
        self.clock.advance(1)
        self.made.append((account.id, account.mode, None if credentials is None else dict(credentials)))
        venue = Venue(account, self.clock)
        venue.refuse_connect, venue.behind_ns = self.refuse_connect, self.behind_ns
        venue.reports = self.reports.setdefault((account.id, account.mode), {})  # it is the same exchange
        self.venues.append(venue)
        return venue

    async def check(self, account: AccountConfig, credentials: Credentials | None) -> ConnectionReport:
        """Note what was tried."""
        if self.hold is not None:
            await self.hold.wait()
        self.tested.append((account.id, account.mode, None if credentials is None else dict(credentials)))
        return self.report


class FakeHost:
    """Of engine/strategies.py StrategyHost, what accounts need: strategies that can be stopped."""

    def __init__(self) -> None:
        self.managed: dict[str, Managed] = {}
        self.stopped: list[tuple[str, str]] = []
        self.stubborn = False

    def run(self, strategy_id: str, account_id: str, instrument: InstrumentId = KRAKEN_BTC.id) -> None:
        """Have a strategy run."""
        managed = Managed(StrategySpec(strategy_id, f"/{strategy_id}.py", account_id, (instrument,), "1m"))
        managed.state = StrategyState.RUNNING
        self.managed[strategy_id] = managed

    async def stop(self, strategy_id: str, reason: str = "") -> None:
        """Stop one, unless it is stubborn."""
        self.stopped.append((strategy_id, reason))
        if not self.stubborn:
            self.managed[strategy_id].state = StrategyState.STOPPED


class AccountDesk:
    """Everything that accounts need, on one profile folder; several desks on it are one engine after the other."""

    def __init__(
        self,
        folder: Path,
        secrets: MemoryStore | None = None,
        configured: Sequence[AccountConfig] = (),
        journal: MemoryJournal | None = None,
        secrets_timeout_s: float = 5.0,
        mounted: MountedStore | None = None,
    ) -> None:
        self.path = folder / "accounts.yaml"
        self.clock, self.journal = FakeClock(), journal or MemoryJournal()
        self.store, self.bus, self.host = Store(), Bus(), FakeHost()
        self.ledger = Ledger(self.store, self.clock)
        self.switch = KillSwitch(self.journal, self.clock)
        self.venues: dict[str, TradingVenue] = {}
        self.orders = OrderService(
            self.store,
            self.bus,
            self.journal,
            self.clock,
            self.ledger,
            self.venues,
            self.switch,
            RiskLimits(),
            LatencyBook(self.clock),
            random.Random(1),
            lookup_delays_s=(0.0, 0.001),
        )
        self.accounts = Accounts(self.store, self.bus, self.clock, {}, self.venues, self.orders.reconcile)
        self.secrets = secrets or MemoryStore()
        store: SecretStore = mounted or self.secrets
        self.factory = Factory(self.clock)
        self.guarded = 0
        self.settling: asyncio.Event | None = None  # holds accounts up that have just been connected
        self.registry = AccountRegistry(
            self.store,
            self.bus,
            self.clock,
            self.ledger,
            self.orders,
            self.accounts,
            self.host,  # type: ignore[arg-type]
            self.venues,
            SecretsDesk(lambda: (store, "a test wants it"), secrets_timeout_s),
            self.factory,
            AccountsFile(self.path),
            Guards(self._guard, self._fills, self._settle),
            configured,
        )
        self.mover = PlainKeyMover(self.registry)
        self.commands = AccountCommands(self.store, self.registry, self.mover)
        self.shown: list[AccountChanged] = []
        self.bus.subscribe(AccountChanged, self.shown.append)
        self.store.instruments[KRAKEN_BTC.id] = KRAKEN_BTC
        self.store.instruments[BTC_RULES.id] = BTC_RULES

    def _guard(self) -> None:
        self.guarded += 1

    async def _settle(self, account_id: str) -> None:
        if self.settling is not None:
            await self.settling.wait()
        await self.orders.reconcile(account_id)

    def _fills(self, account: ManagedAccount) -> Sequence[Fill]:
        state = self.journal.load()
        made_ns = {order.client_order_id: order.created_ns for order in state.orders}
        ours = [fill for fill in state.fills if fill.account_id == account.id]
        return [fill for fill in ours if account.mode_at(made_ns[fill.client_order_id]) is account.mode]

    async def start(self) -> None:
        """Begin, as the engine does."""
        remembered = self.journal.load()
        await self.mover.read({order.account_id for order in remembered.orders})
        self.orders.restore(remembered.orders)
        self.orders.start()
        self.accounts.start()
        tasks = self.registry.open_all()
        if tasks:
            await asyncio.wait(tasks, timeout=2)

    async def close(self) -> None:
        """End, as the engine does."""
        if self.factory.hold is not None:
            self.factory.hold.set()
        await self.registry.close()
        await self.accounts.close()
        await self.orders.close()
        if self.secrets.hold is not None:
            self.secrets.hold.set()
        self.registry.secrets.close()

    async def do(self, command: AccountCommand) -> Any:
        """Carry out a client's command."""
        return await self.commands.execute(command)

    def venue(self, account_id: str) -> Venue:
        """Give the venue that an account is open on."""
        venue = self.venues[account_id]
        assert isinstance(venue, Venue)
        return venue

    def reasons(self, account_id: str) -> list[str]:
        """Give what was shown of an account so far, without repetitions."""
        said = [
            f"{fact.account.state}: {fact.account.reason}"
            for fact in self.shown
            if fact.account.account_id == account_id
        ]
        return [text for index, text in enumerate(said) if index == 0 or text != said[index - 1]]


def unavailable() -> VenueUnavailable:
    """Give the error of a venue that is out of reach."""
    return VenueUnavailable("kraken is out of reach")
