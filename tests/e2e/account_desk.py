"""A profile whose Binance is the simulated one, and what a person does there about accounts, over the link."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from koc_qt.adapters.secrets.encrypted_file import EncryptedFileStore
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Order, OrderRequest, OrderStatus, OrderType
from koc_qt.domain.state import StrategySpec, TradingMode
from koc_qt.link.account_messages import AccountCommand, AddAccount, SwitchAccount, UnlockSecrets, UpdateCredentials
from koc_qt.link.client import connect
from koc_qt.link.messages import Command, StartStrategy, SubmitOrder
from tests.conditions import PATIENCE, wait_until
from tests.e2e.exchange_process import Venue
from tests.e2e.processes import STRATEGIES, EngineProcess, Profile, Status

ACCOUNT = "mine"
LABEL = "Würfel ☃"  # what has to be typed to go live
PASSPHRASE = "correct horse battery staple"
INSTRUMENT = InstrumentId("binance", "BTC/USDT")
ANSWER_S = 60.0
UNSURE = {OrderStatus.NEW, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN}


class AccountDesk:
    """One account on the venue, in the profile's encrypted file of keys."""

    def __init__(self, home: Profile, place: Venue) -> None:
        self.home, self.place = home, place
        home.environment |= {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}  # none of the machine's own
        home.configure(
            {
                "venues": {"binance": place.settings},
                "accounts": [{"id": "sim", "venue": "sim", "mode": "simulated", "balances": {"USDT": 100_000}}],
                "risk": {"max_orders_per_minute": 100_000},
                "engine": {"heartbeat_s": 0.2},
            }
        )

    @contextlib.contextmanager
    def engine(self) -> Iterator[EngineProcess]:
        """Run an engine, and open its file of keys."""
        with self.home.engine() as engine:
            engine.wait_for_status(lambda status: status["engine"]["state"] == "running", "the engine to run")
            self.request(UnlockSecrets(PASSPHRASE))
            yield engine

    def request(self, command: Command | AccountCommand) -> Any:
        """Have a command carried out, on a connection of its own. Raises KocError."""
        with connect(self.home.paths.run, self.home.paths.keys, name="test") as client:
            return client.request(command, timeout_s=ANSWER_S * PATIENCE)

    # ---- the account ------------------------------------------------------------------------------------------------

    def add(self, mode: TradingMode = TradingMode.TESTNET) -> None:
        """Add the account with the keys that it has at the venue."""
        self.request(AddAccount("binance", mode, ACCOUNT, LABEL, self.place.keys[mode], confirmation=LABEL))

    def go(self, mode: TradingMode) -> None:
        """Switch the account, with keys for that mode."""
        if mode in self.place.keys:
            self.request(UpdateCredentials(ACCOUNT, self.place.keys[mode], mode))
        self.request(SwitchAccount(ACCOUNT, mode, LABEL))

    def wait_connected(self, engine: EngineProcess) -> Status:
        """Wait until the account is open, and its market too; gives what is shown of it."""
        status = engine.wait_for_status(_is_open, "the account and its market to be connected")
        return shown(status)

    def kept(self) -> dict[TradingMode, dict[str, str]]:
        """Look into the file of keys from outside."""
        store = EncryptedFileStore(self.home.paths.keys / "accounts.keys")
        store.unlock(PASSPHRASE)
        return {mode: dict(found) for mode in TradingMode if (found := store.get(ACCOUNT, mode)) is not None}

    # ---- trading ----------------------------------------------------------------------------------------------------

    def start_busy(self) -> None:
        """Start the strategy that is never without an order."""
        spec = StrategySpec("busy", str(STRATEGIES / "busy.py"), ACCOUNT, (INSTRUMENT,), "1m", {"every": 2})
        self.request(StartStrategy(spec))

    def buy(self, price: str | None = None) -> Order:
        """Place an order by hand; without a price at the market."""
        kind = OrderType.MARKET if price is None else OrderType.LIMIT
        limit = None if price is None else Decimal(price)
        key = self.request(SubmitOrder(ACCOUNT, OrderRequest(INSTRUMENT, Side.BUY, kind, Decimal("0.001"), limit)))

        def answered() -> Order | None:
            order = next(order for order in self.orders() if order.client_order_id == key)
            return None if order.status is OrderStatus.SUBMITTED else order

        order = wait_until(answered, what="the venue's answer on the disk")
        assert order is not None
        return order

    def orders(self) -> list[Order]:
        """Give the account's orders as they are on the disk."""
        return [order for order in self.home.journal().orders if order.account_id == ACCOUNT]

    def open_orders(self) -> list[Order]:
        """Give those that are open."""
        return [order for order in self.orders() if order.is_open]

    def wait_ended(self, orders: Iterable[Order] = ()) -> None:
        """Wait until orders have ended, all by default."""
        keys = {order.client_order_id for order in orders}
        wait_until(
            lambda: not [o for o in self.open_orders() if not keys or o.client_order_id in keys],
            timeout_s=30.0,
            what="orders to end",
        )

    def wait_resolved(self, orders: Iterable[Order]) -> None:
        """Wait until of no order it is unsure whether the venue has it."""
        keys = {order.client_order_id for order in orders}

        def unsure() -> list[Order]:
            return [order for order in self.orders() if order.client_order_id in keys and order.status in UNSURE]

        try:
            wait_until(lambda: not unsure(), timeout_s=45.0, what="orders to be looked up")
        except AssertionError as error:
            log = "".join(file.read_text() for file in sorted(self.home.paths.logs.glob("*.json")))
            raise AssertionError(f"{error}\n{unsure()}\n{self.home.look()}\n{log[-5000:]}") from None

    def check_books(self) -> tuple[dict[str, Order], dict[str, dict[str, Any]]]:
        """Hold that journal and venue agree: every order once, in the same state, with the same fills; nothing twice.

        Nothing may be on its way. Gives both by client order id; what was simulated here alone is left out.
        """
        theirs = self.place.books()
        placed = self.place.placed()
        journal = self.home.journal()
        ours = {order.client_order_id: order for order in journal.orders if order.client_order_id in placed}
        assert len(ours) == len([order for order in journal.orders if order.client_order_id in placed])
        assert placed.keys() == ours.keys(), "what was sent is not what was intended"
        assert max(placed.values()) == 1, f"sent twice: {[key for key, count in placed.items() if count > 1]}"
        for key, order in ours.items():
            if key not in theirs:
                assert order.status is OrderStatus.REJECTED, order
                continue
            there = theirs[key]
            state = (order.venue_order_id, order.status.value, sorted(order.fill_ids))
            assert state == (there["id"], there["status"], sorted(there["fills"])), (order, there)
        assert not theirs.keys() - ours.keys(), "orders at the venue that nobody knows"
        fills = Counter(fill.fill_id for fill in journal.fills if fill.client_order_id in ours)
        assert fills == Counter(key for there in theirs.values() for key in there["fills"])
        told = {fill.fill_id: f"{fill.price:f} {fill.quantity:f}" for fill in journal.fills}
        for there in theirs.values():
            for key, words in there["fills"].items():
                assert [Decimal(w) for w in told[key].split()] == [Decimal(w) for w in words.split()]
        return ours, theirs


def shown(status: Status, account_id: str = ACCOUNT) -> dict[str, Any]:
    """Give what a status shows of an account; nothing where it is not there."""
    found: list[dict[str, Any]] = [each for each in status["accounts"] if each["id"] == account_id]
    return found[0] if found else {"state": "", "reason": "", "mode": ""}


def _is_open(status: Status) -> bool:
    markets = {each["name"]: each["state"] for each in status["venues"]}
    return shown(status)["state"] == "connected" and markets.get("binance") == "connected"
