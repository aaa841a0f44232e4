"""Keys that are mounted as files: forms name them, say which are missing, and have no field to type a key into."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from koc_qt.domain.state import AccountSnapshot, TradingMode, VenueState
from koc_qt.link.account_messages import AddAccount, ListKeyFiles, SwitchAccount, TestConnection, UpdateCredentials
from koc_qt.ui.account_form.form import AccountForm
from koc_qt.ui.account_form.key_files import KeyFilesBox
from koc_qt.ui.account_form.keys import KeysDialog
from koc_qt.ui.account_form.switch import SwitchDialog
from tests.fakes.accounts import MOUNTED, START_NS
from tests.fakes.desk import FakeBench

LIVE, TESTNET = TradingMode.LIVE, TradingMode.TESTNET
LACKS = "it is not mounted"


@pytest.fixture
def container(fake: FakeBench) -> FakeBench:
    """Give a bench whose engine runs in a container."""
    fake.engine.accounts.secrets = MOUNTED
    fake.window.resize(900, 700)
    fake.window.show()
    return fake


@pytest.fixture
def form(container: FakeBench, qtbot: QtBot) -> Iterator[AccountForm]:
    found = AccountForm(container.bench, container.window)
    found.open()
    qtbot.waitUntil(lambda: found.abilities is not None and found.secrets.state is not None)
    yield found
    found.close()


def rows(files: KeyFilesBox) -> dict[str, str]:
    return {name.text(): state.text() for name, state in files.rows if name.isVisible()}


def choose(form: AccountForm, venue: str, mode: TradingMode) -> None:
    form.venue.choose(venue)
    form.venue.activated.emit(form.venue.currentIndex())
    form.mode.choose(mode)


def test_files_are_named_and_an_account_is_added_with_them(
    form: AccountForm, container: FakeBench, qtbot: QtBot
) -> None:
    choose(form, "binance", TESTNET)
    names = ["binance-testnet_testnet_key", "binance-testnet_testnet_secret"]
    qtbot.waitUntil(lambda: rows(form.files) == dict.fromkeys(names, LACKS))
    assert form.files.words.text() == "Keys are read from files in /run/secrets. None is typed here."
    assert not form.credentials.fields
    assert not form.secrets.isVisible()
    assert form.problem.text() == f"Mount {names[0]} and {names[1]} in /run/secrets, and look again"
    assert not form.yes_button.isEnabled()
    assert not form.test_button.isEnabled()

    form.files.id.setFocus()
    form.files.id.selectAll()
    qtbot.keyClicks(form.files.id, "mine")
    assert form.problem.text() == "Looking which files of keys are there…"
    qtbot.waitUntil(lambda: list(rows(form.files)) == ["mine_testnet_key", "mine_testnet_secret"])
    assert container.sent(ListKeyFiles)[-1] == ListKeyFiles("binance", TESTNET, "mine")
    container.engine.accounts.mounted = {"mine_testnet_key", "mine_testnet_secret"}
    qtbot.mouseClick(form.files.again_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(form.yes_button.isEnabled)
    assert set(rows(form.files).values()) == {"it is there"}
    qtbot.mouseClick(form.test_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: form.report.isVisible() and not form.is_busy)
    assert container.sent(TestConnection) == [TestConnection("binance", TESTNET, {}, "mine")]
    form.agree()
    qtbot.waitUntil(lambda: not form.isVisible())
    assert container.sent(AddAccount) == [AddAccount("binance", TESTNET, "mine", "Binance testnet")]


def test_another_venue_or_mode_has_other_files(form: AccountForm, container: FakeBench, qtbot: QtBot) -> None:
    choose(form, "kucoin", LIVE)
    qtbot.waitUntil(lambda: len(rows(form.files)) == 3)
    choose(form, "binance", LIVE)
    qtbot.waitUntil(lambda: list(rows(form.files)) == ["binance-live_live_key", "binance-live_live_secret"])
    form.mode.choose(TradingMode.PAPER)
    assert not form.files.isVisible()
    assert form.yes_button.isEnabled()
    form.files.id.setText("mine")
    form.files.id.textEdited.emit("mine")
    form.mode.choose(LIVE)
    qtbot.waitUntil(lambda: list(rows(form.files)) == ["mine_live_key", "mine_live_secret"])
    assert form.files.id.text() == "mine", "what a person typed stays"


def test_what_cannot_be_asked_is_said_and_asked_again(form: AccountForm, container: FakeBench, qtbot: QtBot) -> None:
    container.engine.accounts.refusals[ListKeyFiles] = "accounts on Binance cannot be called so"
    choose(form, "binance", LIVE)
    qtbot.waitUntil(lambda: form.problem.text() == "Accounts on Binance cannot be called so")
    assert not rows(form.files)
    container.client.lose("gone")
    container.engine.accounts.refusals.clear()
    container.client.connect()
    qtbot.waitUntil(lambda: len(rows(form.files)) == 2)


def account(mode: TradingMode = TESTNET) -> AccountSnapshot:
    return AccountSnapshot("mine", "binance", mode, VenueState.CONNECTED, (), START_NS, "Mine", has_keys=True)


def test_replaced_files_are_read_on_request(container: FakeBench, qtbot: QtBot) -> None:
    container.engine.accounts.show(account())
    container.engine.accounts.mounted = {"mine_testnet_key"}
    dialog = KeysDialog(container.bench, account(), container.window)
    dialog.open()
    qtbot.waitUntil(lambda: rows(dialog.files) == {"mine_testnet_key": "it is there", "mine_testnet_secret": LACKS})
    assert not dialog.files.id.isVisible()
    assert not dialog.credentials.fields
    assert "are files, which are read whenever the account is opened" in dialog.kept.text()
    container.engine.accounts.mounted.add("mine_testnet_secret")
    qtbot.mouseClick(dialog.files.again_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(dialog.yes_button.isEnabled)
    assert dialog.yes_button.text() == "Use these files"
    dialog.mode.choose(LIVE)
    qtbot.waitUntil(lambda: list(rows(dialog.files)) == ["mine_live_key", "mine_live_secret"])
    container.engine.accounts.mounted |= {"mine_live_key", "mine_live_secret"}
    qtbot.mouseClick(dialog.files.again_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: dialog.problem.text() == "These files are read when the account is switched to live mode")
    dialog.mode.choose(TESTNET)
    qtbot.waitUntil(dialog.yes_button.isEnabled)
    dialog.agree()
    qtbot.waitUntil(lambda: not dialog.isVisible())
    assert container.sent(UpdateCredentials) == [UpdateCredentials("mine", {}, TESTNET)]
    assert container.texts == ["The keys of Mine were read anew."]


def test_switching_needs_the_files_of_the_other_mode(container: FakeBench, qtbot: QtBot) -> None:
    container.engine.accounts.show(account())
    dialog = SwitchDialog(container.bench, account(), container.window)
    dialog.open()
    qtbot.waitUntil(lambda: dialog.details is not None and not dialog.is_busy)
    dialog.mode.choose(LIVE)
    qtbot.waitUntil(lambda: rows(dialog.files) == dict.fromkeys(("mine_live_key", "mine_live_secret"), LACKS))
    assert dialog.keys_words.text().startswith("No keys are mounted for this mode yet.")
    assert not dialog.credentials.fields
    dialog.confirmation.field.setText("Mine")
    assert not dialog.yes_button.isEnabled()
    container.engine.accounts.mounted = {"mine_live_key", "mine_live_secret"}
    qtbot.mouseClick(dialog.files.again_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(dialog.yes_button.isEnabled)
    dialog.agree()
    qtbot.waitUntil(lambda: not dialog.isVisible())
    assert container.sent(SwitchAccount) == [SwitchAccount("mine", LIVE, "Mine")]
    assert container.sent(UpdateCredentials) == []
