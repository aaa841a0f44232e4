"""Switching an account's mode: what happens is said before, going live is confirmed, failures stay in place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from koc_qt.domain.state import AccountSnapshot, Balance, StrategySpec, TradingMode, VenueState
from koc_qt.link.account_messages import ListAccounts, SwitchAccount, UpdateCredentials
from koc_qt.ui.account_form.dialog import STOPPED
from koc_qt.ui.account_form.switch import SwitchDialog
from koc_qt.ui.theme import ThemeChoice
from tests.fakes.accounts import KEYRING, LOCKED, START_NS
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, strategy_snapshot

NAME = "Binance main"
ACCOUNT = AccountSnapshot(
    "bn",
    "binance",
    TradingMode.PAPER,
    VenueState.CONNECTED,
    (Balance("USDT", Decimal(5)),),
    START_NS,
    NAME,
)


def opened(fake: FakeBench, qtbot: QtBot) -> SwitchDialog:
    fake.window.resize(900, 700)
    fake.window.show()
    dialog = SwitchDialog(fake.bench, fake.engine.accounts.snapshots["bn"], fake.window)
    dialog.open()
    qtbot.waitUntil(lambda: not dialog.is_busy and bool(fake.desk.venues.known))
    return dialog


@pytest.fixture
def dialog(fake: FakeBench, qtbot: QtBot) -> Iterator[SwitchDialog]:
    fake.engine.accounts.show(ACCOUNT)
    found = opened(fake, qtbot)
    yield found
    found.close()


def type_keys(dialog: SwitchDialog) -> None:
    dialog.credentials.fields["key"].editor.setText("canary-key")
    dialog.credentials.fields["secret"].editor.setText("canary-secret")


def test_it_offers_the_other_modes_and_says_what_happens(dialog: SwitchDialog, fake: FakeBench, qtbot: QtBot) -> None:
    assert not dialog.isModal()
    assert dialog.now.text() == f"{NAME} is in paper mode now."
    assert list(dialog.mode.buttons) == [TradingMode.TESTNET, TradingMode.LIVE]
    assert "Nothing runs on it now" in dialog.what.text()
    spec = StrategySpec("sma-9", "/s.py", "bn", (BTC,), "1m")
    fake.engine.show(strategy_snapshot("sma-9", spec=spec))
    fake.engine.place(account_id="bn")
    fake.engine.place(account_id="bn")
    qtbot.waitUntil(lambda: "2 open orders are cancelled" in dialog.what.text())
    assert dialog.what.text().startswith("1. sma-9 is stopped; 2 open orders are cancelled, and looked up at the venue")
    assert "It is opened in testnet mode, with the keys of that mode alone" in dialog.what.text()


def test_going_live_takes_its_keys_and_its_name(dialog: SwitchDialog, fake: FakeBench, qtbot: QtBot) -> None:
    dialog.mode.choose(TradingMode.LIVE)
    assert dialog.confirmation.isVisible()
    assert dialog.yes_button.property("role") == "danger"
    assert dialog.problem.text() == "Type in the API key and secret key"
    type_keys(dialog)
    for text in ("", "bn", "binance main", NAME + "x"):
        dialog.confirmation.field.setText(text)
        assert not dialog.yes_button.isEnabled()
        dialog.agree()
    dialog.confirmation.field.setText(NAME)
    qtbot.mouseClick(dialog.yes_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not dialog.isVisible())
    assert fake.sent(UpdateCredentials) == [
        UpdateCredentials("bn", {"key": "canary-key", "secret": "canary-secret"}, TradingMode.LIVE)
    ]
    assert fake.sent(SwitchAccount) == [SwitchAccount("bn", TradingMode.LIVE, NAME)]
    assert fake.engine.accounts.snapshots["bn"].mode is TradingMode.LIVE
    assert fake.texts == [f"{NAME} is in live mode now."]
    assert dialog.credentials.values() == {}


def test_kept_keys_are_not_asked_for(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.show(ACCOUNT)
    fake.engine.accounts.keys["bn", TradingMode.TESTNET] = {"key": "k", "secret": "s"}
    dialog = opened(fake, qtbot)
    assert not dialog.credentials.fields
    assert not dialog.keys_title.isVisible()
    dialog.mode.choose(TradingMode.LIVE)  # for which there are none
    assert dialog.credentials.fields
    type_keys(dialog)
    dialog.mode.choose(TradingMode.TESTNET)
    dialog.mode.choose(TradingMode.LIVE)
    assert dialog.credentials.values() == {}  # they were not carried along
    dialog.mode.choose(TradingMode.TESTNET)
    dialog.agree()
    qtbot.waitUntil(lambda: not dialog.isVisible())
    assert fake.sent(UpdateCredentials) == []
    assert fake.sent(SwitchAccount) == [SwitchAccount("bn", TradingMode.TESTNET, "")]


def test_back_to_paper_needs_no_keys(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.show(msgspec.structs.replace(ACCOUNT, mode=TradingMode.LIVE, has_keys=True))
    dialog = opened(fake, qtbot)
    dialog.mode.choose(TradingMode.PAPER)
    assert not dialog.confirmation.isVisible()
    assert dialog.yes_button.property("role") == "primary"
    dialog.agree()
    qtbot.waitUntil(lambda: not dialog.isVisible())
    assert fake.engine.accounts.snapshots["bn"].mode is TradingMode.PAPER


def test_what_the_engine_does_is_said_step_by_step(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.show(msgspec.structs.replace(ACCOUNT, mode=TradingMode.LIVE))
    dialog = opened(fake, qtbot)
    fake.engine.accounts.hold = asyncio.Event()
    dialog.agree()
    qtbot.waitUntil(lambda: len(fake.sent(SwitchAccount)) == 1)
    assert dialog.bar.isVisible()
    for reason in ("strategies on it are being stopped", "its orders are being cancelled"):
        fake.engine.accounts.change("bn", reason=reason)
        qtbot.waitUntil(lambda reason=reason: dialog.problem.text() == reason[:1].upper() + reason[1:])
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    assert dialog.isVisible()
    assert dialog.problem.text() == STOPPED
    assert not dialog.is_busy
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    assert not dialog.isVisible()


def test_a_failure_stays_in_place(dialog: SwitchDialog, fake: FakeBench, qtbot: QtBot) -> None:
    type_keys(dialog)
    fake.engine.accounts.refusals[UpdateCredentials] = "the keyring is locked: unlock it"
    dialog.agree()
    qtbot.waitUntil(lambda: dialog.problem.text() == "The keyring is locked: unlock it")
    assert dialog.credentials.values() == {"key": "canary-key", "secret": "canary-secret"}
    fake.engine.accounts.refusals = {SwitchAccount: "2 orders cannot be found at the venue: look there"}
    dialog.agree()
    qtbot.waitUntil(lambda: dialog.problem.text() == "2 orders cannot be found at the venue: look there")
    assert not dialog.credentials.fields  # they are kept by now
    assert dialog.yes_button.isEnabled()
    fake.engine.accounts.refusals.clear()
    dialog.agree()
    qtbot.waitUntil(lambda: not dialog.isVisible())
    assert len(fake.sent(UpdateCredentials)) == 1 + 1


def test_one_that_was_switched_but_not_opened(dialog: SwitchDialog, fake: FakeBench, qtbot: QtBot) -> None:
    type_keys(dialog)
    hold = fake.engine.accounts.hold = asyncio.Event()
    dialog.agree()
    qtbot.waitUntil(lambda: len(fake.sent(SwitchAccount)) == 1)
    fake.engine.accounts.change("bn", mode=TradingMode.TESTNET, state=VenueState.DISCONNECTED)
    qtbot.waitUntil(lambda: fake.desk.replica.accounts["bn"].mode is TradingMode.TESTNET)
    fake.engine.accounts.snapshots.pop("bn")  # so that the engine fails at it
    hold.set()
    qtbot.waitUntil(lambda: not dialog.is_busy)
    assert dialog.now.text() == f"{NAME} is in testnet mode now."
    assert TradingMode.TESTNET not in dialog.mode.buttons


def test_one_that_koc_yaml_describes(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.show(ACCOUNT)
    fake.engine.accounts.edited_elsewhere.add("bn")
    dialog = opened(fake, qtbot)
    assert dialog.problem.text().startswith("This account is described in koc.yaml: change its mode there")
    assert not dialog.yes_button.isEnabled()
    assert not dialog.mode.buttons
    dialog.close()


def test_details_that_do_not_come_are_asked_for_again(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.show(ACCOUNT)
    fake.engine.accounts.refusals[ListAccounts] = "the engine is busy"
    dialog = opened(fake, qtbot)
    assert dialog.problem.text() == "The engine is busy"
    assert dialog.yes_button.text() == "Try again"
    fake.engine.accounts.refusals.clear()
    qtbot.mouseClick(dialog.yes_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: bool(dialog.mode.buttons))
    assert fake.sent(SwitchAccount) == []
    assert dialog.yes_button.text() == "Switch to testnet"
    dialog.close()


def test_locked_keys_are_unlocked_on_the_way(dialog: SwitchDialog, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.secrets = LOCKED
    dialog.secrets.ask()
    qtbot.waitUntil(dialog.secrets.isVisible)
    type_keys(dialog)
    assert dialog.problem.text() == "Unlock the keys first"
    fake.engine.accounts.secrets = KEYRING
    dialog.secrets.ask()
    qtbot.waitUntil(lambda: dialog.problem.text() == "")
    assert dialog.yes_button.isEnabled()


@pytest.mark.parametrize("theme", [ThemeChoice.DARK, ThemeChoice.LIGHT])
def test_it_is_painted(dialog: SwitchDialog, fake: FakeBench, theme: ThemeChoice) -> None:
    fake.theme.set_choice(theme)
    dialog.mode.choose(TradingMode.LIVE)
    for width, height in ((240, 160), (480, 700)):
        dialog.resize(width, height)
        assert not dialog.grab().isNull()
