"""Accounts as things that are added, renamed, switched off, removed and switched to another mode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from koc_qt import scrub as scrubbing
from koc_qt.accounts_file import AccountsFile
from koc_qt.config import AccountConfig
from koc_qt.domain.errors import (
    ConfigError,
    InvalidOrder,
    SecretsUnavailable,
    VenueRejected,
    VenueTimeout,
    VenueUnavailable,
)
from koc_qt.domain.orders import OrderRequest
from koc_qt.domain.state import TradingMode, VenueState
from koc_qt.engine import account_closing, account_opening
from koc_qt.link.account_messages import (
    AddAccount,
    RemoveAccount,
    RenameAccount,
    SetAccountEnabled,
    SwitchAccount,
    UpdateCredentials,
)
from koc_qt.link.messages import AccountChanged, AccountRemoved
from tests.conditions import until
from tests.fakes.secrets import MemoryStore
from tests.fakes.trading import limit_buy, market_buy, quote
from tests.unit.engine.account_desk import KEYS, KRAKEN_BTC, OTHERS, AccountDesk, unavailable

DATA, LIVE, PAPER, TESTNET = TradingMode.DATA, TradingMode.LIVE, TradingMode.PAPER, TradingMode.TESTNET
ADD_TESTNET = AddAccount("kraken", TESTNET, "main", "Main", KEYS)
ADD_PAPER = AddAccount("kraken", PAPER, "main", "Main")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "_known", None)
    monkeypatch.setattr(scrubbing, "_known_forms", set())
    monkeypatch.setattr(account_closing, "QUIET_POLL_S", 0.001)
    monkeypatch.setattr(account_closing, "CANCEL_AGAIN_S", 0.02)
    monkeypatch.setattr(account_opening, "RETRY_S", 0.01)
    monkeypatch.setattr(account_opening, "CLOCK_POLL_S", 0.001)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[AccountDesk]:
    desk = AccountDesk(tmp_path)
    await desk.start()
    yield desk
    await desk.close()


def buy(request: OrderRequest) -> OrderRequest:
    return msgspec.structs.replace(request, instrument=KRAKEN_BTC.id)


async def opened(desk: AccountDesk, account_id: str = "main") -> None:
    await until(lambda: desk.store.accounts[account_id].state is VenueState.CONNECTED, what="the account is open")


def state_of(desk: AccountDesk, account_id: str = "main") -> VenueState:
    return desk.store.accounts[account_id].state


def written(desk: AccountDesk) -> list[tuple[str, TradingMode]]:
    return [(account.id, account.mode) for account in AccountsFile(desk.path).read().accounts]


# ---- adding, renaming, switching off, removing


async def test_an_account_is_added_opened_and_there_again_at_the_next_start(desk: AccountDesk, tmp_path: Path) -> None:
    assert await desk.do(ADD_TESTNET) == "main"
    await opened(desk)
    shown = desk.store.accounts["main"]
    assert (shown.label, shown.mode, shown.enabled, shown.has_keys) == ("Main", TESTNET, True, True)
    assert desk.secrets.kept == {("main", TESTNET): KEYS}
    assert desk.factory.made == [("main", TESTNET, KEYS)]
    assert not [value for value in KEYS.values() if value in desk.path.read_text()]
    again = AccountDesk(tmp_path, desk.secrets)
    await again.start()
    assert again.factory.made == [("main", TESTNET, KEYS)]
    await again.close()


async def test_ids_are_chosen_where_none_is_given(desk: AccountDesk) -> None:
    assert await desk.do(AddAccount("kraken", PAPER)) == "kraken-paper"
    assert await desk.do(AddAccount("kraken", PAPER)) == "kraken-paper-2"
    await opened(desk, "kraken-paper-2")
    assert written(desk) == [("kraken-paper", PAPER), ("kraken-paper-2", PAPER)]


async def test_an_id_is_used_once(desk: AccountDesk, tmp_path: Path) -> None:
    await desk.do(ADD_PAPER)
    await opened(desk)
    desk.bus.publish(quote(instrument=KRAKEN_BTC.id))
    desk.store.quotes[KRAKEN_BTC.id] = quote(instrument=KRAKEN_BTC.id)
    await desk.orders.submit(buy(market_buy()), "s", "main")
    await desk.orders.settle()
    with pytest.raises(ConfigError, match="is or was there"):
        await desk.do(ADD_PAPER)
    await desk.do(RemoveAccount("main"))
    with pytest.raises(ConfigError, match="is or was there"):
        await desk.do(ADD_PAPER)
    again = AccountDesk(tmp_path, journal=desk.journal)
    await again.start()
    with pytest.raises(ConfigError, match="is or was there, and what it traded is in the journal"):
        await again.do(ADD_PAPER)
    await again.close()


async def test_what_cannot_be_kept_is_not_added(desk: AccountDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.secrets.broken = "the keyring is away"
    with pytest.raises(SecretsUnavailable, match="the keyring is away"):
        await desk.do(ADD_TESTNET)
    desk.secrets.broken = ""
    desk.secrets.forgetful = True
    with pytest.raises(SecretsUnavailable, match="did not keep the keys of main"):
        await desk.do(ADD_TESTNET)
    desk.secrets.forgetful = False

    def full(_: object) -> None:
        raise ConfigError("accounts.yaml cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(desk.registry.file, "write", full)
        with pytest.raises(ConfigError, match="No space left"):
            await desk.do(ADD_TESTNET)
    assert desk.secrets.kept == {}, "no keys stay behind"
    assert not desk.path.exists()
    assert desk.store.accounts == {}
    await desk.do(ADD_TESTNET)
    await opened(desk)


async def test_renaming_keeps_the_id(desk: AccountDesk) -> None:
    await desk.do(ADD_PAPER)
    await desk.do(RenameAccount("main", "  My money "))
    assert desk.store.accounts["main"].label == "My money"
    assert AccountsFile(desk.path).read().accounts[0].label == "My money"
    with pytest.raises(ConfigError, match="there is no account 'other'; there are: main"):
        await desk.do(RenameAccount("other", "x"))


async def test_an_account_is_switched_off_and_on(desk: AccountDesk, tmp_path: Path) -> None:
    await desk.do(ADD_TESTNET)
    await opened(desk)
    await desk.do(SetAccountEnabled("main", enabled=False))
    assert desk.venues == {}
    assert desk.factory.venues[0].closed
    shown = desk.store.accounts["main"]
    assert (shown.state, shown.enabled, shown.reason) == (VenueState.DISCONNECTED, False, "it is switched off")
    again = AccountDesk(tmp_path, desk.secrets)
    await again.start()
    assert again.factory.made == []
    assert again.store.accounts["main"].reason == "it is switched off"
    await again.close()
    await desk.do(SetAccountEnabled("main", enabled=True))
    assert state_of(desk) is VenueState.CONNECTED
    assert len(desk.factory.made) == 2


async def test_an_account_in_use_is_closed_only_when_told_to_stop(desk: AccountDesk) -> None:
    await desk.do(ADD_TESTNET)
    await opened(desk)
    desk.host.run("sma", "main")
    desk.store.quotes[KRAKEN_BTC.id] = quote(instrument=KRAKEN_BTC.id)
    await desk.orders.submit(buy(limit_buy()), "manual", "main")
    await desk.orders.settle()
    for command in (SetAccountEnabled("main", enabled=False), RemoveAccount("main")):
        with pytest.raises(ConfigError, match=r"in use: sma run on it and 1 orders are open\. Stop and cancel first"):
            await desk.do(command)
    assert state_of(desk) is VenueState.CONNECTED
    await desk.do(RemoveAccount("main", stop=True))
    assert [key for key, _ in desk.host.stopped] == ["sma"]
    assert len(desk.factory.venues[0].canceled) == 1
    assert desk.store.open_orders() == []
    assert desk.secrets.kept == {}
    assert written(desk) == []
    assert "main" not in desk.store.accounts


async def test_an_account_is_not_removed_while_its_keys_cannot_be_deleted(desk: AccountDesk) -> None:
    removed: list[AccountRemoved] = []
    desk.bus.subscribe(AccountRemoved, removed.append)
    await desk.do(ADD_TESTNET)
    await opened(desk)
    desk.secrets.broken = "the keyring is away"
    with pytest.raises(SecretsUnavailable, match="away"):
        await desk.do(RemoveAccount("main"))
    assert written(desk) == [("main", TESTNET)]
    assert desk.store.accounts["main"].reason == "it could not be removed: the keyring is away"
    assert removed == []
    desk.secrets.broken = ""
    await desk.do(RemoveAccount("main"))
    assert removed == [AccountRemoved("main")]


@pytest.mark.expected_warnings("account mine cannot be used: keys for live mode are not kept")
async def test_accounts_of_the_configuration_can_only_be_given_keys(tmp_path: Path) -> None:
    secrets = MemoryStore()
    desk = AccountDesk(tmp_path, secrets, [AccountConfig("mine", "kraken", LIVE)])
    await desk.start()
    assert state_of(desk, "mine") is VenueState.DISCONNECTED
    assert desk.store.accounts["mine"].reason == "keys for live mode are not kept (store in memory): type them in"
    for command in (
        RenameAccount("mine", "x"),
        SetAccountEnabled("mine", enabled=False),
        RemoveAccount("mine"),
        SwitchAccount("mine", PAPER),
    ):
        with pytest.raises(ConfigError, match=r"'mine' is described in koc\.yaml: change it there"):
            await desk.do(command)
    await desk.do(UpdateCredentials("mine", KEYS))
    assert state_of(desk, "mine") is VenueState.CONNECTED
    assert desk.factory.made == [("mine", LIVE, KEYS)]
    assert desk.guarded
    assert not desk.path.exists()
    await desk.close()


async def test_new_keys_open_the_account_anew_and_its_orders_go_on(desk: AccountDesk) -> None:
    await desk.do(ADD_TESTNET)
    await opened(desk)
    desk.store.quotes[KRAKEN_BTC.id] = quote(instrument=KRAKEN_BTC.id)
    order = await desk.orders.submit(buy(limit_buy()), "manual", "main")
    await desk.orders.settle()
    await desk.do(UpdateCredentials("main", OTHERS, LIVE))
    assert len(desk.factory.made) == 1, "keys of another mode disturb nothing"
    desk.factory.hold = asyncio.Event()
    changing = asyncio.create_task(desk.do(UpdateCredentials("main", OTHERS)))
    await until(lambda: not desk.venues, what="the old venue is closed")
    with pytest.raises(ConfigError, match="is being changed already"):
        await desk.do(RenameAccount("main", "x"))
    desk.factory.hold.set()
    await changing
    assert desk.factory.made[-1] == ("main", TESTNET, OTHERS)
    assert desk.secrets.kept == {("main", TESTNET): OTHERS, ("main", LIVE): OTHERS}
    assert desk.venue("main").looked_up == [order.client_order_id]
    assert [open_order.client_order_id for open_order in desk.store.open_orders()] == [order.client_order_id]
    assert desk.factory.venues[0].canceled == []


async def test_an_account_that_settles_after_its_start_is_not_closed_by_a_change(
    desk: AccountDesk, tmp_path: Path
) -> None:
    await desk.do(ADD_TESTNET)
    await opened(desk)
    again = AccountDesk(tmp_path, desk.secrets)
    again.settling = asyncio.Event()
    starting = asyncio.create_task(again.start())
    await until(lambda: "main" in again.store.accounts and state_of(again) is VenueState.CONNECTED, what="the start")
    changing = asyncio.create_task(again.do(UpdateCredentials("main", OTHERS, LIVE)))
    for _ in range(20):
        await asyncio.sleep(0)  # the change begins, and has to wait
    assert not changing.done()
    assert list(again.venues) == ["main"], "its orders work, and can be cancelled"
    again.settling.set()
    await asyncio.gather(starting, changing)
    assert again.factory.made == [("main", TESTNET, KEYS)]
    assert not again.venue("main").closed
    await again.close()


async def test_a_change_at_the_very_moment_an_account_is_connected_does_not_break_its_opening_off(
    desk: AccountDesk,
) -> None:
    changes: list[asyncio.Task[object]] = []

    def change(fact: AccountChanged) -> None:
        if fact.account.state is VenueState.CONNECTED and not changes:
            changes.append(asyncio.create_task(desk.do(UpdateCredentials("main", OTHERS, LIVE))))

    desk.bus.subscribe(AccountChanged, change)
    await desk.do(ADD_TESTNET)
    await until(lambda: changes, what="the account to be connected")
    await changes[0]
    assert "disconnected: its opening was broken off" not in desk.reasons("main")
    assert state_of(desk) is VenueState.CONNECTED
    assert desk.factory.made == [("main", TESTNET, KEYS)]


# ---- opening


@pytest.mark.expected_warnings("account main cannot be used yet: kraken is out of reach")
async def test_an_account_out_of_reach_is_tried_until_it_is_there(desk: AccountDesk) -> None:
    desk.factory.refuse = [unavailable(), unavailable()]
    await desk.do(ADD_TESTNET)
    await until(lambda: "disconnected: kraken is out of reach" in desk.reasons("main"), what="it is said")
    await opened(desk)


@pytest.mark.expected_warnings("account main cannot be used: keys refused")
async def test_refused_keys_are_not_tried_again_by_themselves(desk: AccountDesk) -> None:
    desk.factory.refuse_connect = VenueRejected("keys refused: make new ones")
    await desk.do(ADD_TESTNET)
    await until(lambda: state_of(desk) is VenueState.DISCONNECTED, what="it is said")
    assert desk.store.accounts["main"].reason == "keys refused: make new ones"
    desk.factory.refuse_connect = None
    await desk.do(UpdateCredentials("main", OTHERS))
    assert state_of(desk) is VenueState.CONNECTED


@pytest.mark.expected_warnings("account main cannot be used yet")
async def test_an_account_that_is_being_tried_can_be_switched_off(desk: AccountDesk) -> None:
    desk.factory.refuse = [unavailable() for _ in range(1000)]
    await desk.do(ADD_TESTNET)
    await until(lambda: len(desk.factory.refuse) < 998, what="it was tried")
    await desk.do(SetAccountEnabled("main", enabled=False))
    left = len(desk.factory.refuse)
    await asyncio.sleep(0.05)
    assert len(desk.factory.refuse) == left


async def test_keys_for_data_alone_open_no_trading(desk: AccountDesk) -> None:
    assert await desk.do(AddAccount("polygon", DATA, credentials={"key": "poly-123456"})) == "polygon-data"
    await opened(desk, "polygon-data")
    assert desk.factory.used == ["polygon"]
    assert desk.factory.made == []
    found = await desk.registry.data_credentials("polygon")
    assert found is not None
    assert dict(found) == {"key": "poly-123456"}
    assert await desk.registry.data_credentials("kraken") is None
    with pytest.raises(InvalidOrder, match="is not connected"):
        await desk.orders.submit(buy(market_buy()), "manual", "polygon-data")


async def test_market_data_takes_keys_of_the_harmless_mode_first(desk: AccountDesk) -> None:
    await desk.do(AddAccount("alpaca", LIVE, "real", credentials=KEYS, confirmation="real"))
    found = await desk.registry.data_credentials("alpaca")
    assert found is not None
    assert dict(found) == KEYS
    await desk.do(AddAccount("alpaca", PAPER, "play", credentials=OTHERS))
    found = await desk.registry.data_credentials("alpaca")
    assert found is not None
    assert dict(found) == OTHERS
    await opened(desk, "play")
    await opened(desk, "real")


# ---- switching


async def trading(desk: AccountDesk) -> None:
    """Have an account on testnet with a strategy, a working order and a holding."""
    await desk.do(ADD_TESTNET)
    await desk.do(UpdateCredentials("main", OTHERS, LIVE))
    await opened(desk)
    desk.host.run("sma", "main")
    desk.host.run("other", "elsewhere")
    desk.store.quotes[KRAKEN_BTC.id] = quote(instrument=KRAKEN_BTC.id)
    await desk.orders.submit(buy(market_buy()), "sma", "main")
    await desk.orders.submit(buy(limit_buy()), "sma", "main")
    await desk.orders.settle()


def held(desk: AccountDesk) -> Decimal:
    return desk.ledger.position("sma", "main", KRAKEN_BTC.id).quantity


@pytest.mark.expected_warnings("account main is live now")
async def test_switching_stops_ends_and_opens_anew_with_other_keys(desk: AccountDesk, tmp_path: Path) -> None:
    await trading(desk)
    first = desk.venue("main")
    desk.secrets.reads.clear()
    await desk.do(SwitchAccount("main", LIVE, "Main"))
    assert [key for key, _ in desk.host.stopped] == ["sma"]
    assert desk.store.open_orders() == []
    assert first.closed
    assert desk.factory.made == [("main", TESTNET, KEYS), ("main", LIVE, OTHERS)]
    assert {mode for _, mode in desk.secrets.reads} == {LIVE}
    assert desk.guarded, "core files are forbidden before a live key is read"
    assert written(desk) == [("main", LIVE)]
    assert held(desk) == 0, "what was bought on the testnet is not held in earnest"
    shown = desk.store.accounts["main"]
    assert (shown.mode, shown.state, shown.reason) == (LIVE, VenueState.CONNECTED, "")
    steps = desk.reasons("main")
    for step in (
        "connecting: it is being switched to live: sma is being stopped",
        "connecting: it is being switched to live: its orders are being cancelled",
        "disconnected: it is being switched to live",
        "connecting: it is being opened",
    ):
        assert step in steps
    again = AccountDesk(tmp_path, desk.secrets, journal=desk.journal)
    await again.start()
    assert again.factory.made == [("main", LIVE, OTHERS)]
    await again.close()


@pytest.mark.expected_warnings("account main is live now")
async def test_what_was_held_in_a_mode_is_held_again_when_it_comes_back(desk: AccountDesk) -> None:
    await trading(desk)
    assert held(desk) == Decimal("0.1")
    await desk.do(SwitchAccount("main", LIVE, "Main"))
    await desk.orders.submit(buy(market_buy("0.3")), "sma", "main")
    await desk.orders.settle()
    assert held(desk) == Decimal("0.3")
    await desk.do(SwitchAccount("main", TESTNET))
    assert held(desk) == Decimal("0.1")
    await desk.do(SwitchAccount("main", LIVE, "Main"))
    assert held(desk) == Decimal("0.3")


@pytest.mark.parametrize("typed", ["", "main", "MAIN", "Main Street", "live"])
async def test_going_live_needs_the_accounts_name(desk: AccountDesk, typed: str) -> None:
    await trading(desk)
    with pytest.raises(ConfigError, match="real money: type the account's name, 'Main', to confirm it"):
        await desk.do(SwitchAccount("main", LIVE, typed))
    assert desk.host.stopped == []
    with pytest.raises(ConfigError, match="type the account's name, 'Second'"):
        await desk.do(AddAccount("kraken", LIVE, "second", "Second", KEYS, confirmation=typed))


async def test_a_switch_that_cannot_be_disturbs_nothing(desk: AccountDesk) -> None:
    await desk.do(ADD_TESTNET)
    await opened(desk)
    desk.host.run("sma", "main")
    for mode, said in (
        (TESTNET, "is in testnet mode already"),
        (DATA, "cannot be in data mode"),
        (LIVE, r"keys for live mode are not kept"),
    ):
        with pytest.raises((ConfigError, SecretsUnavailable), match=said):
            await desk.do(SwitchAccount("main", mode, "Main"))
    assert desk.host.stopped == []
    assert state_of(desk) is VenueState.CONNECTED
    assert written(desk) == [("main", TESTNET)]


async def test_orders_that_do_not_end_leave_the_account_closed_in_its_mode(
    desk: AccountDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_closing, "QUIET_TIMEOUT_S", 0.1)
    await trading(desk)
    desk.venue("main").refuse_cancel = VenueUnavailable("kraken is in maintenance")
    with pytest.raises(VenueTimeout, match=r"order koc\w+ did not end within 0.1 s"):
        await desk.do(SwitchAccount("main", LIVE, "Main"))
    assert desk.venues == {}
    assert state_of(desk) is VenueState.DISCONNECTED
    assert desk.store.accounts["main"].reason.startswith(
        "it was not switched to live, and is closed, still in testnet mode: order koc"
    )
    assert written(desk) == [("main", TESTNET)]
    assert [made[:2] for made in desk.factory.made] == [("main", TESTNET)], "never half-switched"
    with pytest.raises(InvalidOrder, match="is not connected"):
        await desk.orders.submit(buy(market_buy()), "manual", "main")
    await desk.do(SetAccountEnabled("main", enabled=True))
    assert desk.factory.made[-1] == ("main", TESTNET, KEYS)


async def test_a_strategy_that_does_not_stop_leaves_the_account_closed(
    desk: AccountDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_closing, "QUIET_TIMEOUT_S", 0.05)
    await trading(desk)
    desk.host.stubborn = True
    with pytest.raises(VenueTimeout, match="sma"):
        await desk.do(SwitchAccount("main", LIVE, "Main"))
    assert desk.venues == {}
    assert written(desk) == [("main", TESTNET)]


@pytest.mark.expected_warnings("account main is live now")
async def test_a_file_that_cannot_be_written_leaves_the_account_closed(
    desk: AccountDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trading(desk)

    def full(_: object) -> None:
        raise ConfigError("accounts.yaml cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(desk.registry.file, "write", full)
        with pytest.raises(ConfigError, match="No space left"):
            await desk.do(SwitchAccount("main", LIVE, "Main"))
    assert desk.venues == {}
    assert desk.store.accounts["main"].mode is TESTNET
    assert "still in testnet mode" in desk.store.accounts["main"].reason
    await desk.do(SwitchAccount("main", LIVE, "Main"))
    assert state_of(desk) is VenueState.CONNECTED


@pytest.mark.expected_warnings("account main is live now", "account main cannot be used: kraken is out of reach")
async def test_a_new_mode_that_cannot_be_opened_is_closed_in_that_mode(desk: AccountDesk) -> None:
    await trading(desk)
    desk.factory.refuse_connect = unavailable()
    with pytest.raises(VenueUnavailable, match="out of reach"):
        await desk.do(SwitchAccount("main", LIVE, "Main"))
    shown = desk.store.accounts["main"]
    assert (shown.mode, shown.state) == (LIVE, VenueState.DISCONNECTED)
    assert shown.reason == "it was switched to live, but could not be opened: kraken is out of reach"
    assert desk.venues == {}
    made = len(desk.factory.made)
    desk.factory.refuse_connect = None
    await asyncio.sleep(0.05)
    assert len(desk.factory.made) == made, "nobody opens it behind one's back"
    await desk.do(SetAccountEnabled("main", enabled=True))
    assert state_of(desk) is VenueState.CONNECTED


@pytest.mark.expected_warnings("account main is live now")
async def test_a_clock_that_is_far_behind_is_no_clock_to_tell_orders_apart_by(
    desk: AccountDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_opening, "CLOCK_TIMEOUT_S", 0.05)
    await trading(desk)
    desk.factory.behind_ns = 3_600_000_000_000
    with pytest.raises(VenueUnavailable, match="the clock of kraken is far behind"):
        await desk.do(SwitchAccount("main", LIVE, "Main"))
    assert desk.venues == {}


@pytest.mark.expected_warnings("account main is live now")
async def test_no_order_slips_through_while_an_account_is_being_switched(desk: AccountDesk) -> None:
    await trading(desk)
    desk.host.stubborn = True
    switching = asyncio.create_task(desk.do(SwitchAccount("main", LIVE, "Main")))
    await until(lambda: bool(desk.host.stopped), what="strategies are being stopped")
    with pytest.raises(InvalidOrder, match="'main' takes no orders: it is being switched to live"):
        await desk.orders.submit(buy(market_buy()), "manual", "main")
    desk.host.stubborn = False
    await switching
    assert desk.factory.venues[0].submitted[-1].request.type == "limit", "nothing was sent meanwhile"


async def test_going_to_paper_for_the_first_time_begins_with_money(desk: AccountDesk) -> None:
    await trading(desk)
    await desk.do(SwitchAccount("main", PAPER))
    assert desk.factory.made[-1] == ("main", PAPER, None), "no key is read for paper"
    assert AccountsFile(desk.path).read().accounts[0].balances == {"USD": Decimal(100_000)}


@pytest.mark.parametrize(
    "moment",
    [
        "stopping",
        "cancelling",
        pytest.param("written", marks=pytest.mark.expected_warnings("account main is live now")),
    ],
)
async def test_a_kill_in_the_middle_is_safe_at_the_next_start(
    desk: AccountDesk, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trading(desk)
    if moment == "stopping":
        desk.host.stubborn = True
    elif moment == "cancelling":
        monkeypatch.setattr(desk.venue("main"), "cancel", lambda order: asyncio.sleep(0))
    else:
        desk.factory.hold = asyncio.Event()
    switching = asyncio.create_task(desk.do(SwitchAccount("main", LIVE, "Main")))
    is_written = moment == "written"
    await until(
        lambda: bool(desk.host.stopped) and (not is_written or written(desk) == [("main", LIVE)]),
        what=f"it is {moment}",
    )
    # what is on the disk and in the store of keys now is all that a killed engine leaves behind
    after = AccountDesk(tmp_path, desk.secrets, journal=desk.journal)
    await after.start()
    mode, keys = (LIVE, OTHERS) if is_written else (TESTNET, KEYS)
    assert after.factory.made == [("main", mode, keys)]
    assert after.store.accounts["main"].mode is mode
    assert bool(after.venue("main").looked_up) is not is_written, "a new mode begins with no order of the old one"
    await after.close()
    switching.cancel()
    await asyncio.gather(switching, return_exceptions=True)
    assert state_of(desk) is VenueState.DISCONNECTED
    assert desk.venues == {}
