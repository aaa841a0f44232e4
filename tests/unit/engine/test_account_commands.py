"""What clients ask of accounts and keys: what is checked of what people type, and what is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from koc_qt import scrub as scrubbing
from koc_qt.accounts_file import AccountsFile
from koc_qt.config import AccountConfig, FeesConfig
from koc_qt.domain.accounts import AccountDetails, KeyFiles, PaperOptions, SecretsState, modes_of
from koc_qt.domain.errors import ConfigError, KocError, SecretsUnavailable
from koc_qt.domain.state import Balance, TradingMode, VenueState
from koc_qt.domain.venues import ConnectionReport, VenueAbilities
from koc_qt.engine import account_commands
from koc_qt.link.account_messages import (
    AccountCommand,
    AddAccount,
    ListAccounts,
    ListKeyFiles,
    ListVenues,
    RemoveAccount,
    RenameAccount,
    SecretsStatus,
    SetAccountEnabled,
    SwitchAccount,
    TestConnection,
    UnlockSecrets,
    UpdateCredentials,
)
from koc_qt.link.codec import decode_command, encode_command
from koc_qt.link.messages import CommandEnvelope
from koc_qt.scrub import scrub
from tests.conditions import until
from tests.fakes.secrets import MemoryStore
from tests.unit.engine.account_desk import ABILITIES, KEYS, OTHERS, AccountDesk

DATA, LIVE, PAPER, TESTNET = TradingMode.DATA, TradingMode.LIVE, TradingMode.PAPER, TradingMode.TESTNET
SECRET_COMMANDS = (
    AddAccount("kraken", LIVE, "main", "Main", KEYS),
    UpdateCredentials("main", KEYS),
    TestConnection("kraken", LIVE, KEYS),
    UnlockSecrets("key-123456"),
)


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "_known", None)
    monkeypatch.setattr(scrubbing, "_known_forms", set())


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[AccountDesk]:
    desk = AccountDesk(tmp_path)
    await desk.start()
    yield desk
    await desk.close()


async def details(desk: AccountDesk) -> dict[str, AccountDetails]:
    answer = msgspec.convert(await desk.do(ListAccounts()), list[AccountDetails])
    return {account.account_id: account for account in answer}


# ---- commands with keys in them


@pytest.mark.parametrize("command", SECRET_COMMANDS, ids=lambda command: type(command).__name__)
def test_no_text_made_of_a_command_shows_a_key(command: AccountCommand) -> None:
    sent = encode_command(7, command)
    number, read = decode_command(sent)
    assert (number, read) == (7, command)
    texts = [f"{shown!r} {shown}" for shown in (command, read, CommandEnvelope(7, read), [read], {"a": read})]
    texts += [str(list(read.__rich_repr__()))]
    for value in KEYS.values():
        assert not [text for text in texts if value in text]


@pytest.mark.parametrize("command", SECRET_COMMANDS, ids=lambda command: type(command).__name__)
def test_keys_in_a_command_are_taken_out_of_the_log_from_when_it_is_read(
    command: AccountCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = encode_command(7, command)
    monkeypatch.setattr(scrubbing, "_known", None)
    monkeypatch.setattr(scrubbing, "_known_forms", set())
    decode_command(sent)
    assert scrub("they said: key-123456") == "they said: ***"


def test_every_command_is_carried_out_here() -> None:
    tried = {kind for kind in get_args(AccountCommand) if kind.__name__ in globals()}
    assert tried == set(get_args(AccountCommand))


# ---- what is said


async def test_venues_and_their_modes(desk: AccountDesk) -> None:
    venues = msgspec.convert(await desk.do(ListVenues()), list[VenueAbilities])
    assert venues == list(ABILITIES.values())
    assert {venue.venue: modes_of(venue) for venue in venues} == {
        "sim": (TradingMode.SIMULATED,),
        "kraken": (PAPER, TESTNET, LIVE),
        "alpaca": (PAPER, LIVE, DATA),
        "polygon": (PAPER, DATA),
    }


async def test_accounts_are_told_in_full_but_for_their_keys(tmp_path: Path) -> None:
    play = AccountConfig(
        "play", "kraken", PAPER, {"USD": Decimal(5)}, True, 20.0, FeesConfig(Decimal("0.001"), Decimal("0.002"))
    )
    desk = AccountDesk(tmp_path, configured=[play])
    await desk.start()
    await desk.do(AddAccount("kraken", TESTNET, "main", "Main", KEYS))
    await desk.do(UpdateCredentials("main", OTHERS, LIVE))
    await until(lambda: desk.store.accounts["main"].state is VenueState.CONNECTED)
    answer = await desk.do(ListAccounts())
    assert not [value for value in (*KEYS.values(), *OTHERS.values()) if value in str(answer)]
    told = await details(desk)
    assert told["main"] == AccountDetails(
        "main", "Main", "kraken", TESTNET, True, True, (PAPER, TESTNET, LIVE), (TESTNET, LIVE), VenueState.CONNECTED,
        "", None,
    )  # fmt: skip
    assert told["main"].name == "Main"
    assert told["play"].paper == PaperOptions(
        (Balance("USD", Decimal(5)),), True, 20.0, Decimal("0.001"), Decimal("0.002")
    )
    assert (told["play"].is_editable, told["play"].keys_for, told["play"].name) == (False, (), "play")
    reads = len(desk.secrets.reads)
    await details(desk)
    assert len(desk.secrets.reads) == reads, "the keyring is not asked each time"
    await desk.do(UpdateCredentials("main", KEYS, LIVE))
    desk.secrets.broken = "away"
    assert (await details(desk))["main"].keys_for == ()
    await desk.close()


async def test_where_keys_are_kept(desk: AccountDesk) -> None:
    state = msgspec.convert(await desk.do(SecretsStatus()), SecretsState)
    assert state == SecretsState("store in memory", True, False, False, "a test wants it")


async def test_where_no_keys_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = AccountDesk(tmp_path)

    def refuse() -> Any:
        raise SecretsUnavailable("there is no folder /run/secrets: mount the keys there")

    monkeypatch.setattr(desk.registry.secrets, "_choose", refuse)
    await desk.start()
    state = msgspec.convert(await desk.do(SecretsStatus()), SecretsState)
    assert (state.title, state.is_writable) == ("nowhere", False)
    assert state.reason == "there is no folder /run/secrets: mount the keys there"
    await desk.close()


# ---- what people type


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (AddAccount("mtgox", LIVE), "there is no venue 'mtgox'; there are: sim, kraken"),
        (AddAccount("kraken", DATA), "accounts on Kraken can be paper, testnet, live, not data"),
        (AddAccount("polygon", LIVE), "accounts on Polygon.io can be paper, data, not live"),
        (AddAccount("kraken", TESTNET), "type in API key and Private key: Kraken lets nobody in without"),
        (AddAccount("kraken", TESTNET, credentials={"key": "k-123456", "secret": " \n"}), "type in Private key"),
        (
            AddAccount("kraken", TESTNET, credentials={**KEYS, "pin": "pin-123456"}),
            "no such 1 fields of keys; it has key, secret",
        ),
        (AddAccount("kraken", TESTNET, credentials={**KEYS, "key": "x" * 20_000}), "more than 16384 characters"),
        (AddAccount("kraken", PAPER, credentials=KEYS), "a paper account on Kraken needs no keys: give none"),
        (AddAccount("kraken", PAPER, "-x"), "this account cannot be"),
        (AddAccount("kraken", PAPER, "a b"), "this account cannot be"),
        (AddAccount("kraken", PAPER, label="a\nb"), "a label has up to 64 letters on a line"),
        (AddAccount("kraken", PAPER, label="x" * 65), "a label has up to 64 letters"),
        (AddAccount("kraken", PAPER, paper=PaperOptions(())), "must name at least one currency"),
        (AddAccount("kraken", PAPER, paper=PaperOptions((Balance("USD", Decimal(-1)),))), "must not be below zero"),
        (AddAccount("kraken", PAPER, paper=PaperOptions(maker_fee=Decimal("0.1"))), "give both fees, or neither"),
        (AddAccount("kraken", PAPER, paper=PaperOptions(latency_ms=-1)), "this account cannot be"),
        (AddAccount("kraken", LIVE, "m", "M", KEYS), "type the account's name, 'M', to confirm it"),
        (UpdateCredentials("nobody", KEYS), "there is no account 'nobody'"),
        (SetAccountEnabled("nobody", enabled=True), "there is no account 'nobody'"),
        (RemoveAccount("nobody"), "there is no account 'nobody'"),
        (SwitchAccount("nobody", LIVE), "there is no account 'nobody'"),
    ],
    ids=str,
)
async def test_what_cannot_be_is_said(desk: AccountDesk, command: AccountCommand, said: str) -> None:
    with pytest.raises(KocError) as caught:
        await desk.do(command)
    assert said in str(caught.value)
    assert desk.secrets.kept == {}
    assert not desk.path.exists()


async def test_blanks_around_keys_are_taken_off(desk: AccountDesk) -> None:
    await desk.do(AddAccount("kraken", TESTNET, "main", credentials={"key": "  k-123456\n", "secret": "\ts-123456 "}))
    assert desk.secrets.kept == {("main", TESTNET): {"key": "k-123456", "secret": "s-123456"}}


async def test_paper_options_are_kept(desk: AccountDesk) -> None:
    options = PaperOptions((Balance("BTC", Decimal("0.5")),), True, 12.5, Decimal("-0.0001"), Decimal("0.001"))
    await desk.do(AddAccount("kraken", PAPER, "play", paper=options))
    (kept,) = AccountsFile(desk.path).read().accounts
    assert (kept.balances, kept.allow_short, kept.latency_ms) == ({"BTC": Decimal("0.5")}, True, 12.5)
    assert kept.fees == FeesConfig(Decimal("-0.0001"), Decimal("0.001"))


async def test_two_accounts_are_never_called_the_same(desk: AccountDesk) -> None:
    await desk.do(AddAccount("kraken", PAPER, "one", "First"))
    await desk.do(AddAccount("kraken", PAPER, "two"))
    for label in ("First", "one"):
        with pytest.raises(ConfigError, match="another account is called"):
            await desk.do(RenameAccount("two", label))
    await desk.do(RenameAccount("one", "First"))
    await desk.do(RenameAccount("one", ""))


async def test_there_is_an_end_to_accounts(desk: AccountDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_commands, "MOST_ACCOUNTS", 1)
    await desk.do(AddAccount("kraken", PAPER))
    with pytest.raises(ConfigError, match="1 accounts are the most"):
        await desk.do(AddAccount("kraken", PAPER))


# ---- trying keys


async def report(desk: AccountDesk, command: TestConnection) -> ConnectionReport:
    return msgspec.convert(await desk.do(command), ConnectionReport)


async def test_keys_are_tried_before_they_are_kept(desk: AccountDesk) -> None:
    desk.factory.report = ConnectionReport("", can_read=True, can_trade=True, can_withdraw=True, warnings=("withdraw",))
    assert await report(desk, TestConnection("kraken", LIVE, KEYS)) == desk.factory.report
    assert desk.factory.tested == [("test", LIVE, KEYS)]
    assert desk.guarded
    assert desk.secrets.kept == {}
    assert desk.store.accounts == {}


async def test_kept_keys_are_tried_in_their_own_mode(desk: AccountDesk) -> None:
    await desk.do(AddAccount("kraken", TESTNET, "main", credentials=KEYS))
    assert (await report(desk, TestConnection("kraken", TESTNET, account_id="main"))).problem == ""
    assert desk.factory.tested == [("main", TESTNET, KEYS)]
    refused = await report(desk, TestConnection("kraken", LIVE, account_id="main"))
    assert refused.problem == "keys for live mode are not kept (store in memory): type them in"
    await report(desk, TestConnection("kraken", LIVE, OTHERS, account_id="main"))
    assert desk.factory.tested[-1] == ("main", LIVE, OTHERS)


async def test_a_test_that_cannot_be_is_a_sentence(desk: AccountDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "type in API key" in (await report(desk, TestConnection("kraken", LIVE))).problem
    assert "there is no venue" in (await report(desk, TestConnection("mtgox", LIVE, KEYS))).problem
    monkeypatch.setattr(account_commands, "CHECK_TIMEOUT_S", 0.01)
    desk.factory.hold = asyncio.Event()
    assert "did not answer within" in (await report(desk, TestConnection("kraken", LIVE, KEYS))).problem


async def test_where_keys_are_not_mounted_there_are_no_files_of_them(desk: AccountDesk) -> None:
    answer = msgspec.convert(await desk.do(ListKeyFiles("kraken", LIVE)), KeyFiles)
    assert answer == KeyFiles("kraken-live")
    with pytest.raises(ConfigError, match="no account 'mine'"):
        await desk.do(TestConnection("kraken", LIVE, account_id="mine"))


# ---- unlocking


@pytest.mark.expected_warnings("account main cannot be used: the store is locked")
async def test_accounts_wait_for_the_passphrase(tmp_path: Path) -> None:
    before = AccountDesk(tmp_path)
    await before.start()
    await before.do(AddAccount("kraken", TESTNET, "main", credentials=KEYS))
    await before.close()
    secrets = MemoryStore(passphrase="correct horse")
    secrets.kept = before.secrets.kept
    desk = AccountDesk(tmp_path, secrets)
    await desk.start()
    shown = desk.store.accounts["main"]
    assert (shown.state, shown.reason) == (VenueState.DISCONNECTED, "the store is locked: type its passphrase")
    assert (await details(desk))["main"].keys_for == ()
    with pytest.raises(SecretsUnavailable, match="not the passphrase"):
        await desk.do(UnlockSecrets("wrong horse"))
    state = msgspec.convert(await desk.do(UnlockSecrets("correct horse")), SecretsState)
    assert not state.is_locked
    await until(lambda: desk.store.accounts["main"].state is VenueState.CONNECTED, what="the account is open")
    assert (await details(desk))["main"].keys_for == (TESTNET,)
    await desk.do(UnlockSecrets("whatever, it is open"))
    await desk.close()
