"""What can be done to an account from its card: the menu, the dialogs behind it, the commands, the locked keys."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit, QMenu
from pytestqt.qtbot import QtBot

from koc_qt.domain.state import AccountActivity, AccountSnapshot, Balance, TradingMode, VenuePosition, VenueState
from koc_qt.link.account_messages import (
    ListAccounts,
    RemoveAccount,
    RenameAccount,
    SecretsStatus,
    SetAccountEnabled,
    TestConnection,
    UnlockSecrets,
    UpdateCredentials,
)
from koc_qt.ui.account_form.keys import KeysDialog
from koc_qt.ui.account_form.small import ConfirmDialog, RenameDialog, TestDialog
from koc_qt.ui.account_form.switch import SwitchDialog
from koc_qt.ui.panels.accounts import AccountsPanel
from koc_qt.ui.panels.accounts_card import AccountCard
from koc_qt.ui.panels.accounts_words import activity_words, holding_words, terms_words, trouble
from tests.fakes.accounts import BINANCE, KUCOIN, LOCKED, PASSPHRASE, START_NS, paper_account
from tests.fakes.desk import FakeBench

D = Decimal
NAME = "Binance main"


def live(**changes: Any) -> AccountSnapshot:
    plain = AccountSnapshot(
        "bn", "binance", TradingMode.LIVE, VenueState.CONNECTED, (Balance("USDT", D(5)),), START_NS, NAME, has_keys=True
    )
    return msgspec.structs.replace(plain, **changes)


@pytest.fixture
def panel(fake: FakeBench, qtbot: QtBot) -> AccountsPanel:
    fake.engine.accounts.show(live())
    panel = AccountsPanel(fake.bench, fake.window)
    fake.window.resize(340, 700)
    panel.resize(340, 700)
    fake.window.show()
    panel.show()
    qtbot.waitUntil(lambda: "bn" in panel.cards and bool(fake.desk.venues.known))
    return panel


@pytest.fixture
def card(panel: AccountsPanel) -> AccountCard:
    return panel.cards["bn"]


def dialog_of(panel: AccountsPanel, kind: Any) -> Any:
    (found,) = [each for each in panel.account_actions.dialogs.values() if isinstance(each, kind)]
    return found


def entries(menu: QMenu) -> list[str]:
    return [action.objectName() for action in menu.actions()]


# ---- the menu -------------------------------------------------------------------------------------------------------


def test_the_menu_has_what_can_be_done(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    actions = panel.account_actions
    assert entries(actions.menu(live())) == ["test", "switch", "keys", "rename", "disable", "remove"]
    assert entries(actions.menu(live(enabled=False)))[-2:] == ["enable", "remove"]
    assert entries(actions.menu(paper_account())) == ["test", "rename", "disable", "remove"]  # nothing but simulated
    fake.client.lose()
    assert not any(action.isEnabled() for action in actions.menu(live()).actions())


def test_the_menu_opens_from_the_button_and_the_context_menu(panel: AccountsPanel, card: AccountCard) -> None:
    for open_ in (card.more.click, lambda: card.menu_wanted.emit(QPoint(5, 5))):
        open_()
        QTest.qWait(0)
        menu = QApplication.activePopupWidget()
        assert isinstance(menu, QMenu)
        menu.hide()


def test_one_dialog_of_a_kind_and_it_goes_with_its_account(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    panel.account_actions.run("rename", "bn")
    panel.account_actions.run("rename", "bn")
    panel.account_actions.run("rename", "gone")
    assert len(panel.account_actions.dialogs) == 1
    assert not dialog_of(panel, RenameDialog).isModal()
    panel.account_actions.run("switch", "bn")
    qtbot.waitUntil(lambda: not dialog_of(panel, SwitchDialog).is_busy)
    fake.engine.accounts.snapshots.pop("bn")
    fake.client.connect()
    qtbot.waitUntil(lambda: not panel.account_actions.dialogs)


def test_rename(panel: AccountsPanel, card: AccountCard, fake: FakeBench, qtbot: QtBot) -> None:
    panel.account_actions.run("rename", "bn")
    dialog = dialog_of(panel, RenameDialog)
    dialog.label.setText("paper")
    assert dialog.problem.text() == "Another account is called paper: choose another name"
    dialog.label.setText("  ")
    assert not dialog.yes_button.isEnabled()
    dialog.label.setText(" Second ")
    fake.engine.accounts.refusals[RenameAccount] = "account 'bn' is described in koc.yaml: change it there"
    dialog.agree()
    qtbot.waitUntil(lambda: "koc.yaml" in dialog.problem.text())
    fake.engine.accounts.refusals.clear()
    dialog.agree()
    qtbot.waitUntil(lambda: card.name.text() == "Second")
    assert fake.sent(RenameAccount)[-1] == RenameAccount("bn", "Second")
    assert not panel.account_actions.dialogs


def test_a_test_of_the_connection_begins_at_once(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    panel.account_actions.run("test", "bn")
    dialog = dialog_of(panel, TestDialog)
    qtbot.waitUntil(dialog.report.isVisible)
    assert fake.sent(TestConnection) == [TestConnection("binance", TradingMode.LIVE, {}, "bn")]
    qtbot.mouseClick(dialog.yes_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(fake.sent(TestConnection)) == 2 and not dialog.is_busy)
    fake.engine.accounts.refusals[TestConnection] = "binance is not there"
    dialog.agree()
    qtbot.waitUntil(lambda: dialog.problem.text() == "Binance is not there")
    assert not dialog.report.isVisible()
    assert dialog.cancel_button.text() == "Close"


def test_other_keys(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.keys["bn", TradingMode.LIVE] = {"key": "old", "secret": "old"}
    panel.account_actions.run("keys", "bn")
    dialog = dialog_of(panel, KeysDialog)
    qtbot.waitUntil(lambda: not dialog.is_busy)
    assert dialog.mode.mode is TradingMode.LIVE
    assert dialog.kept.text().startswith("Keys for live mode are kept. These take their place.")
    dialog.mode.choose(TradingMode.TESTNET)
    assert dialog.kept.text() == "No keys for testnet mode are kept yet."
    dialog.credentials.fields["key"].editor.setText("canary-key ")
    dialog.mode.choose(TradingMode.LIVE)
    assert dialog.credentials.values() == {}
    dialog.credentials.fields["key"].editor.setText("canary-key ")
    dialog.credentials.fields["secret"].editor.setText("canary-secret")
    dialog.test()
    qtbot.waitUntil(dialog.report.isVisible)
    keys = {"key": "canary-key", "secret": "canary-secret"}
    assert fake.sent(TestConnection) == [TestConnection("binance", TradingMode.LIVE, keys, "bn")]
    dialog.agree()
    qtbot.waitUntil(lambda: not panel.account_actions.dialogs)
    assert fake.sent(UpdateCredentials) == [UpdateCredentials("bn", keys, TradingMode.LIVE)]
    assert fake.engine.accounts.keys["bn", TradingMode.LIVE] == keys


def test_keys_that_cannot_be_looked_for_are_looked_for_again(
    panel: AccountsPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    fake.engine.accounts.refusals[ListAccounts] = "the keyring does not answer"
    panel.account_actions.run("keys", "bn")
    dialog = dialog_of(panel, KeysDialog)
    qtbot.waitUntil(lambda: dialog.yes_button.text() == "Try again")
    assert dialog.problem.text() == "The keyring does not answer"
    fake.engine.accounts.refusals.clear()
    qtbot.mouseClick(dialog.yes_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: bool(dialog.credentials.fields))
    assert dialog.yes_button.text() == "Keep these keys"
    assert fake.sent(UpdateCredentials) == []


# ---- on, off, away --------------------------------------------------------------------------------------------------


def test_an_idle_account_is_switched_off_and_on_without_a_question(
    panel: AccountsPanel, card: AccountCard, fake: FakeBench, qtbot: QtBot
) -> None:
    panel.account_actions.run("disable", "bn")
    qtbot.waitUntil(lambda: card.state.text() == "Binance · switched off")
    assert fake.sent(SetAccountEnabled) == [SetAccountEnabled("bn", False, stop=False)]
    assert card.mode.property("pill") == "live"
    assert (card.remedy.text(), card.remedy.isVisible()) == ("Switch it on", True)
    qtbot.mouseClick(card.remedy, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: card.state.text() == "Binance · connected")
    assert fake.texts == [f"{NAME} is switched off.", f"{NAME} is switched on."]


@pytest.mark.parametrize(
    ("name", "command"),
    [("disable", SetAccountEnabled("bn", False, stop=True)), ("remove", RemoveAccount("bn", stop=True))],
)
def test_what_runs_on_it_is_named_before_it_is_ended(
    panel: AccountsPanel, fake: FakeBench, qtbot: QtBot, name: str, command: Any
) -> None:
    fake.engine.place(account_id="bn")
    qtbot.waitUntil(lambda: bool(fake.desk.replica.open_orders))
    panel.account_actions.run(name, "bn")
    dialog = dialog_of(panel, ConfirmDialog)
    assert "1 open order is cancelled, and looked up at the venue" in "".join(
        label.text() for label in dialog.body.findChildren(type(dialog.problem))
    )
    assert dialog.focusWidget() is dialog.cancel_button
    fake.engine.accounts.refusals[type(command)] = "the venue does not answer: try again"
    dialog.agree()
    qtbot.waitUntil(lambda: dialog.problem.text() == "The venue does not answer: try again")
    fake.engine.accounts.refusals.clear()
    dialog.agree()
    qtbot.waitUntil(lambda: not panel.account_actions.dialogs)
    assert fake.sent(type(command)) == [command, command]


def test_remove_says_what_stays(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    panel.account_actions.run("remove", "bn")
    dialog = dialog_of(panel, ConfirmDialog)
    text = "".join(label.text() for label in dialog.body.findChildren(type(dialog.problem)))
    assert "at the venue they go on to work until you delete them there" in text
    dialog.agree()
    qtbot.waitUntil(lambda: list(panel.cards) == ["paper"])
    assert fake.sent(RemoveAccount) == [RemoveAccount("bn", stop=False)]


# ---- commands, hint, locked keys ------------------------------------------------------------------------------------


def test_commands_are_about_the_account_that_was_clicked(
    panel: AccountsPanel, card: AccountCard, fake: FakeBench, qtbot: QtBot
) -> None:
    actions = fake.bench.actions
    qtbot.mouseClick(card, Qt.MouseButton.LeftButton)
    actions.run("accounts.test")
    assert list(panel.account_actions.dialogs) == [("test", "bn")]
    actions.run("accounts.add")
    assert ("add", "") in panel.account_actions.dialogs
    fake.client.lose()
    assert not actions["accounts.add"].isEnabled()
    panel.retire()
    assert not panel.account_actions.dialogs
    assert "accounts.add" not in actions


def test_the_hint_is_for_people_without_keys(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert not panel.hint.isVisible()
    fake.engine.accounts.change("bn", has_keys=False)
    qtbot.waitUntil(panel.hint.isVisible)
    assert panel.state() == {}
    qtbot.mouseClick(panel.hint_cross, Qt.MouseButton.LeftButton)
    assert not panel.hint.isVisible()
    assert panel.state() == {"hint": False}
    panel.restore({"hint": 1})
    assert panel.hint.isVisible()
    panel.restore({"hint": False})
    assert not panel.hint.isVisible()


def test_locked_keys_are_asked_about_once_an_account_waits_for_its_own(
    panel: AccountsPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    fake.engine.accounts.secrets = LOCKED
    assert fake.sent(SecretsStatus) == []  # a keyring may ask its owner: not without need
    fake.engine.accounts.change("bn", state=VenueState.DISCONNECTED, reason="the keys are locked", has_keys=False)
    qtbot.waitUntil(panel.secrets.isVisible)
    assert panel.secrets.words.text().startswith("The keys are locked.")
    panel.secrets.passphrase.setText(PASSPHRASE)
    assert panel.secrets.passphrase.echoMode() is QLineEdit.EchoMode.Password
    qtbot.mouseClick(panel.secrets.unlock_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not panel.secrets.isVisible())
    assert fake.sent(UnlockSecrets) == [UnlockSecrets(PASSPHRASE)]
    assert panel.secrets.passphrase.text() == ""
    assert len(fake.sent(SecretsStatus)) == 1
    assert PASSPHRASE not in str(panel.state())


# ---- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activity", "held_s", "words", "pill"),
    [
        (AccountActivity.IDLE, 0.0, "Idle", "neutral"),
        (AccountActivity.ORDER_SUBMITTED, 0.0, "Order submitted", "info"),
        (AccountActivity.IN_POSITION, 0.0, "In position", "profit"),
        (AccountActivity.RATE_LIMITED, 4.2, "Recalculating: 5 s", "warning"),
        (AccountActivity.RATE_LIMITED, 125.0, "Recalculating: 2 m 5 s", "warning"),
        (AccountActivity.RATE_LIMITED, -1.0, "Recalculating", "warning"),
        (AccountActivity.HALTED, 0.0, "Halted", "danger"),
    ],
)
def test_what_it_does(activity: AccountActivity, held_s: float, words: str, pill: str) -> None:
    assert activity_words(live(activity=activity), held_s)[:2] == (words, pill)


def test_a_rate_block_is_counted_down(
    panel: AccountsPanel, card: AccountCard, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.engine.accounts.change("bn", activity=AccountActivity.RATE_LIMITED, held_s=9.0)
    qtbot.waitUntil(lambda: card.activity.text() == "Recalculating: 9 s")
    assert panel._ticking.isActive()
    card._told_s -= 5
    panel._tick()
    assert card.activity.text() == "Recalculating: 4 s"
    card._told_s -= 5
    panel._ticking.stop()
    panel._tick()
    assert card.activity.text() == "Recalculating"
    assert not panel._ticking.isActive()


def test_what_is_wrong_and_what_helps() -> None:
    off = trouble(live(enabled=False), BINANCE, None)
    assert off is not None
    assert off.remedy == "enable"
    keyless = trouble(live(state=VenueState.DISCONNECTED, has_keys=False, reason="keys are not kept"), BINANCE, None)
    assert keyless is not None
    assert (keyless.text, keyless.remedy, keyless.tone) == ("Keys are not kept", "keys", "danger")
    away = trouble(live(state=VenueState.DISCONNECTED), BINANCE, None)
    assert away is not None
    assert (away.text, away.remedy) == ("Not connected: see what a test of its connection says.", "test")
    foreign = trouble(live(foreign_orders=2), None, None)
    assert foreign is not None
    assert "2 open orders at the venue are not ours: they are left alone" in foreign.text


def test_positions_and_fees() -> None:
    held = tuple(VenuePosition(f"S{n}/USDT", D(n), D("1.5") if n % 2 else None) for n in range(7))
    account = live(positions=held, maker_fee=D("0.001"), taker_fee=D("0.00075"))
    assert holding_words(account) == "S1/USDT 1 at 1.5, S2/USDT 2, S3/USDT 3 at 1.5, S4/USDT 4 and 2 more"
    assert holding_words(live()) == ""
    assert terms_words(account, KUCOIN) == "Fees: maker 0.1 %, taker 0.075 % · no short selling"
    assert terms_words(live(), KUCOIN) == ""
