"""The form that adds an account: what it asks for, what it says, and that keys leave no trace in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLabel, QLineEdit, QPlainTextEdit, QPushButton
from pytestqt.qtbot import QtBot

from koc_qt.domain.accounts import PaperOptions, SecretsState
from koc_qt.domain.state import Balance, TradingMode
from koc_qt.domain.venues import ConnectionReport
from koc_qt.link.account_messages import AddAccount, ListVenues, TestConnection, UnlockSecrets
from koc_qt.ui.account_form.form import AccountForm
from koc_qt.ui.account_form.report import WITHDRAW
from koc_qt.ui.account_form.secret_fields import SecretLine, SecretText, cleaned
from koc_qt.ui.theme import ThemeChoice
from tests.fakes.accounts import GOOD_REPORT, KUCOIN, LOCKED, PASSPHRASE
from tests.fakes.desk import FakeBench

KEY, SECRET = "canary-key-1f2e3d", "canary-secret-9a8b7c"
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----"
NOWHERE = SecretsState(
    "nowhere", is_writable=False, is_locked=False, is_new=False,
    reason="there is no folder /run/secrets: mount the keys there",
)  # fmt: skip


@pytest.fixture
def form(fake: FakeBench, qtbot: QtBot) -> Iterator[AccountForm]:
    """Give the form, its venues known, with Binance chosen on paper."""
    fake.window.resize(900, 700)
    fake.window.show()
    found = AccountForm(fake.bench, fake.window)
    found.open()
    qtbot.waitUntil(lambda: found.abilities is not None and found.secrets.state is not None)
    yield found
    found.close()


def choose(form: AccountForm, venue: str, mode: TradingMode) -> None:
    form.venue.choose(venue)
    form.venue.activated.emit(form.venue.currentIndex())
    form.mode.choose(mode)


def type_keys(form: AccountForm) -> None:
    for name, value in (("key", KEY), ("secret", SECRET), ("passphrase", "canary-phrase")):
        if name in form.credentials.fields:
            form.credentials.fields[name].editor.setText(value)


def shown_texts(form: AccountForm) -> str:
    """Give every text that is in the dialog's widgets."""
    labels = [label.text() for label in form.findChildren(QLabel)]
    lines = [line.text() for line in form.findChildren(QLineEdit)]
    blocks = [block.toPlainText() for block in form.findChildren(QPlainTextEdit)]
    return "\n".join([*labels, *lines, *blocks])


# ---- what is offered ------------------------------------------------------------------------------------------------


def test_venues_come_with_what_they_can_do(form: AccountForm, fake: FakeBench) -> None:
    assert not form.isModal()
    titles = [form.venue.itemText(row) for row in range(form.venue.count())]
    assert titles == [
        "Binance", "KuCoin", "Simulated market", "Polygon.io (Massive)  ·  data alone", "Yahoo Finance  ·  data alone",
    ]  # fmt: skip
    assert form.venue.value() == "binance"  # the first that can be tried without keys
    assert form.about.text().startswith("Takes market, limit, stop and stop-limit orders, post-only too. Streams")
    assert len(fake.sent(ListVenues)) == 1


@pytest.mark.parametrize(
    ("venue", "modes", "keyed"),
    [
        ("sim", ["simulated"], []),
        ("binance", ["paper", "testnet", "live"], ["testnet", "live"]),
        ("kucoin", ["paper", "live"], ["live"]),
        ("polygon", ["paper", "data"], ["paper", "data"]),
        ("yahoo", ["paper"], []),
    ],
)
def test_only_the_modes_and_fields_that_a_venue_has(
    form: AccountForm, venue: str, modes: list[str], keyed: list[str]
) -> None:
    form.venue.choose(venue)
    form.venue.activated.emit(form.venue.currentIndex())
    assert [mode.value for mode in form.mode.buttons] == modes
    for mode in list(form.mode.buttons):
        form.mode.choose(mode)
        assert bool(form.credentials.fields) is (mode.value in keyed)
        assert form.test_button.isVisible() is (mode.value in keyed)
        assert form.paper.isVisible() is (mode in (TradingMode.PAPER, TradingMode.SIMULATED))
        assert form.confirmation.isVisible() is (mode is TradingMode.LIVE)
    words = {mode: label.text() for mode, label in zip(form.mode.buttons, form.mode._words, strict=True)}
    assert {mode.value for mode, text in words.items() if "needs no keys" in text} == set(modes) - set(keyed)


def test_what_is_particular_about_a_venue_is_shown_on_request(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    kraken = msgspec.structs.replace(KUCOIN, venue="kraken", title="Kraken", notes=("a", "b", "c"), history_bars=720)
    alpaca = msgspec.structs.replace(KUCOIN, venue="alpaca", title="Alpaca", data_needs_key=True)
    fake.engine.accounts.abilities = (alpaca, kraken)
    fake.desk.venues.retry()
    qtbot.waitUntil(lambda: form.venue.value() == "kraken")  # paper at Alpaca needs keys
    assert form.about.text().endswith("Of each timeframe it has the newest 720 bars, and no older ones.")
    assert form.keys_words.text() == ""
    qtbot.mouseClick(form.more, Qt.MouseButton.LeftButton)
    assert form.about.text().endswith("a\nb\nc")
    form.mode.choose(TradingMode.LIVE)
    assert form.keys_words.text() == "a\nb"
    choose(form, "alpaca", TradingMode.LIVE)
    assert not form.more.isVisible()


def test_fields_are_the_venue_s_own(form: AccountForm) -> None:
    choose(form, "kucoin", TradingMode.LIVE)
    assert list(form.credentials.fields) == ["key", "secret", "passphrase"]
    choose(form, "binance", TradingMode.LIVE)
    editors = {name: type(field.editor) for name, field in form.credentials.fields.items()}
    assert editors == {"key": SecretLine, "secret": SecretText}


def test_venues_that_do_not_come_are_asked_for_again(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.refusals[ListVenues] = "the engine is busy"
    form = AccountForm(fake.bench, fake.window)
    form.open()
    qtbot.waitUntil(form.retry_button.isVisible)
    assert form.about.text() == "the engine is busy"
    assert not form.yes_button.isEnabled()
    fake.engine.accounts.refusals.clear()
    qtbot.mouseClick(form.retry_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: form.venue.count() == 5)
    assert not form.retry_button.isVisible()
    form.close()


# ---- paper ----------------------------------------------------------------------------------------------------------


def test_a_paper_account_is_two_clicks_away(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    assert form.label.text() == "Binance paper"
    with qtbot.waitSignal(form.added) as added:
        form.agree()
        form.agree()  # of a double click
    (command,) = fake.sent(AddAccount)
    assert command == AddAccount("binance", TradingMode.PAPER, label="Binance paper", paper=PaperOptions())
    assert added.args == ["binance-2"]
    assert not form.isVisible()
    assert fake.texts == ["Binance paper was added."]


def test_its_options(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    form.paper.rows[0][1].setText("25000.5")
    form.paper.add_row("0.5", "btc")
    form.paper.latency.setText("120")
    form.paper.maker.setText("-0.01")
    form.paper.taker.setText("0.1")
    form.paper.short.setChecked(True)
    form.agree()
    qtbot.waitUntil(lambda: len(fake.sent(AddAccount)) == 1)
    balances = (Balance("USDT", Decimal("25000.5")), Balance("BTC", Decimal("0.5")))
    paper = PaperOptions(balances, True, 120.0, Decimal("-0.0001"), Decimal("0.001"))
    assert fake.sent(AddAccount)[0].paper == paper


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("maker", "0.1", "Give both fees, or leave both empty"),
        ("taker", "x", "Taker fee: Not a number: write digits and a point, such as 1234.5"),
        ("latency", "1e9", "Latency: Not a number: write digits and a point, such as 1234.5"),
        ("latency", "100000", "Latency: at most 60,000 ms"),
        ("amount", "", "USDT to begin with: Not a number: write digits and a point, such as 1234.5"),
        ("amount", "1,234", "USDT to begin with: Write 1234 or 1.234: 1,234 can be read as either"),
        ("currency", "", "Name the currency that the account begins with, such as USDT"),
    ],
)
def test_what_cannot_be_is_said(form: AccountForm, field: str, text: str, words: str) -> None:
    fields = {"amount": form.paper.rows[0][1], "currency": form.paper.rows[0][2]}
    editor = fields.get(field) or getattr(form.paper, field)
    editor.setText(text)
    assert form.problem.text() == words
    assert not form.yes_button.isEnabled()


def test_currencies_are_added_dropped_and_never_there_twice(form: AccountForm) -> None:
    form.paper.add_row("1", "USDT")
    assert form.problem.text() == "USDT is there twice"
    form.paper._drop(form.paper.rows[1][0])
    assert form.problem.text() == ""
    form.paper._drop(form.paper.rows[0][0])
    assert form.problem.text() == "An account has to begin with some money"
    for number in range(30):
        if form.paper.more.isEnabled():
            form.paper.add_row("1", f"C{number}")
    assert len(form.paper.rows) == 20


def test_names(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    form.label.setText("paper")
    form.label.textEdited.emit("paper")
    assert form.problem.text() == "There is an account paper already: choose another name"
    choose(form, "binance", TradingMode.LIVE)
    assert form.label.text() == "paper"  # what the person typed stays
    form.label.clear()
    form.label.textEdited.emit("")
    assert form.problem.text() == "Give the account a name"
    choose(form, "kucoin", TradingMode.LIVE)
    assert form.label.text() == "KuCoin live"
    fake.engine.accounts.change("paper", label="KuCoin live")
    qtbot.waitUntil(lambda: fake.desk.replica.accounts["paper"].label == "KuCoin live")
    choose(form, "kucoin", TradingMode.LIVE)
    assert form.label.text() == "KuCoin live 2"


# ---- keys -----------------------------------------------------------------------------------------------------------


def test_a_live_account_needs_keys_and_its_name(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    choose(form, "binance", TradingMode.LIVE)
    assert form.problem.text() == "Type in the API key and secret key"
    type_keys(form)
    assert form.problem.text() == "Type the account's name to go live: Binance live"
    form.confirmation.field.setText("binance live")
    assert not form.yes_button.isEnabled()
    form.confirmation.field.setText("Binance live")
    assert form.yes_button.property("role") == "danger"
    form.agree()
    qtbot.waitUntil(lambda: not form.isVisible())
    (command,) = fake.sent(AddAccount)
    assert command.credentials == {"key": KEY, "secret": SECRET}
    assert command.confirmation == "Binance live"
    assert command.paper is None


def test_a_source_of_data(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    choose(form, "polygon", TradingMode.DATA)
    assert "source of market data alone" in form.about.text()
    type_keys(form)
    form.agree()
    qtbot.waitUntil(lambda: len(fake.sent(AddAccount)) == 1)
    assert fake.sent(AddAccount)[0].mode is TradingMode.DATA


@pytest.mark.parametrize(
    ("text", "is_multiline", "value", "note"),
    [
        ("abc", False, "abc", ""),
        ("  abc\t\n", False, "abc", "Blanks around it are left out."),
        ("\ufeffabc\u200b\u2028", False, "abc", "Blanks around it are left out."),
        ("   ", False, "", ""),
        ("a b", False, "a b", ""),
        (f"\n{PEM}\n\n", True, PEM, "Blanks around it are left out."),
        (PEM.replace("\n", "\\n") + "\\n", True, PEM, "Its \\n are taken as ends of lines."),
        ("x\\ny", True, "x\\ny", ""),
    ],
)
def test_what_slips_in_with_a_paste_is_left_out_and_said(text: str, is_multiline: bool, value: str, note: str) -> None:
    assert cleaned(text, is_multiline=is_multiline) == (value, note)


def test_keys_are_dots_until_they_are_revealed(form: AccountForm, qtbot: QtBot) -> None:
    choose(form, "binance", TradingMode.LIVE)
    form.resize(500, 900)
    type_keys(form)
    line, block = form.credentials.fields["key"], form.credentials.fields["secret"]
    assert isinstance(line.editor, SecretLine)
    assert line.editor.echoMode() is QLineEdit.EchoMode.Password
    assert KEY not in "\n".join(label.text() for label in form.findChildren(QLabel))
    hidden = block.editor.grab().toImage()
    line.eye.setChecked(True)
    block.eye.setChecked(True)
    assert line.plain.text() == KEY
    assert line.plain.textInteractionFlags() & Qt.TextInteractionFlag.TextSelectableByMouse == (
        Qt.TextInteractionFlag.NoTextInteraction
    )
    assert block.editor.grab().toImage() != hidden
    line.eye.setChecked(False)
    block.eye.setChecked(False)
    assert KEY not in line.plain.text()
    qtbot.waitUntil(lambda: block.editor.grab().toImage() == hidden)


def test_nothing_is_copied_out_of_them(form: AccountForm, qtbot: QtBot) -> None:
    choose(form, "binance", TradingMode.LIVE)
    type_keys(form)
    for field in form.credentials.fields.values():
        field.eye.setChecked(True)
        field.editor.selectAll()
        for key in (Qt.Key.Key_C, Qt.Key.Key_X):
            QGuiApplication.clipboard().setText("before")
            qtbot.keyClick(field.editor, key, Qt.KeyboardModifier.ControlModifier)
            clipboard = QGuiApplication.clipboard()
            assert "canary" not in clipboard.text()
            assert "canary" not in clipboard.text(clipboard.Mode.Selection)
        type_keys(form)


def test_they_leave_no_trace_once_the_form_is_closed(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    choose(form, "binance", TradingMode.LIVE)
    type_keys(form)
    for field in form.credentials.fields.values():
        field.eye.setChecked(True)
    assert "canary" in shown_texts(form)
    qtbot.keyClick(form, Qt.Key.Key_Escape)
    assert not form.isVisible()
    assert "canary" not in shown_texts(form)
    for field in form.credentials.fields.values():
        field.editor.undo()
        assert field.editor.text() == ""
    assert "canary" not in json.dumps(fake.texts)


@pytest.mark.parametrize("other", [("binance", TradingMode.TESTNET), ("kucoin", TradingMode.LIVE)])
def test_keys_of_one_mode_or_venue_are_not_carried_into_another(
    form: AccountForm, other: tuple[str, TradingMode]
) -> None:
    choose(form, "binance", TradingMode.LIVE)
    type_keys(form)
    choose(form, *other)
    assert form.credentials.values() == {}
    assert "canary" not in shown_texts(form)


# ---- testing --------------------------------------------------------------------------------------------------------


def test_a_test_tells_what_was_found(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    choose(form, "binance", TradingMode.TESTNET)
    assert not form.test_button.isEnabled()
    type_keys(form)
    qtbot.mouseClick(form.test_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(form.report.isVisible)
    (command,) = fake.sent(TestConnection)
    assert command == TestConnection("binance", TradingMode.TESTNET, {"key": KEY, "secret": SECRET})
    assert form.report.title.text() == "The connection works."
    rows = {name: row.text() for name, row in form.report.rows.items()}
    assert rows == {
        "Permissions": "Reading yes, trading yes, withdrawing no (read, spot trading)",
        "Clock": "The venue's is 12 ms ahead of ours",
        "Round trip": "48 ms",
        "Fees": "maker 0.1 %, taker 0.1 %",
        "Balances": "1,234.50 USDT, 0.25 BTC",
    }
    assert not form.report.withdraw.isVisible()
    form.credentials.fields["key"].editor.setText("other")
    assert not form.report.isVisible()  # it was about other keys


def test_keys_that_may_withdraw_are_warned_about(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.report = msgspec.structs.replace(
        GOOD_REPORT, can_withdraw=True, can_trade=False, clock_skew_ms=-5_000.0, warnings=("the key expires soon",)
    )
    choose(form, "binance", TradingMode.TESTNET)
    type_keys(form)
    form.test()
    qtbot.waitUntil(form.report.withdraw.isVisible)
    assert form.report.withdraw_words.text() == WITHDRAW
    assert form.report.warnings.text().splitlines() == [
        "The key expires soon",
        "These keys may not trade: allow it at the venue, or use the account for looking alone.",
        "The clocks differ by more than a second: set this machine's clock, or orders may be refused.",
    ]


def test_keys_that_do_not_work(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.report = ConnectionReport("the secret does not belong to the key: copy both again")
    choose(form, "binance", TradingMode.TESTNET)
    type_keys(form)
    form.test()
    qtbot.waitUntil(form.report.isVisible)
    assert form.report.title.text() == "The secret does not belong to the key: copy both again"
    assert [name for name, row in form.report.rows.items() if row.isVisible()] == []
    assert form.credentials.values() == {"key": KEY, "secret": SECRET}


def test_a_test_can_be_stopped(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.hold = asyncio.Event()
    choose(form, "binance", TradingMode.TESTNET)
    type_keys(form)
    form.test()
    qtbot.waitUntil(lambda: len(fake.sent(TestConnection)) == 1)
    assert form.bar.isVisible()
    assert not form.body.isEnabled()
    assert form.cancel_button.text() == "Stop waiting"
    qtbot.mouseClick(form.cancel_button, Qt.MouseButton.LeftButton)
    assert form.isVisible()
    assert form.body.isEnabled()
    assert form.credentials.values() == {"key": KEY, "secret": SECRET}
    form.test()
    qtbot.waitUntil(lambda: len(fake.sent(TestConnection)) == 2)
    form.close()
    assert not form.isVisible()


# ---- failures -------------------------------------------------------------------------------------------------------


def test_a_failure_is_said_in_place_and_nothing_typed_is_lost(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    choose(form, "binance", TradingMode.TESTNET)
    type_keys(form)
    fake.engine.accounts.refusals[AddAccount] = "the keyring refused: unlock it, and try again"
    form.agree()
    qtbot.waitUntil(lambda: form.problem.text() == "The keyring refused: unlock it, and try again")
    assert form.credentials.values() == {"key": KEY, "secret": SECRET}
    assert form.yes_button.isEnabled()
    fake.engine.accounts.refusals.clear()
    form.agree()
    qtbot.waitUntil(lambda: not form.isVisible())


def test_an_engine_that_goes_away_is_waited_for(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    fake.client.lose("it was stopped")
    assert form.problem.text() == "There is no engine: it was stopped"
    assert not form.yes_button.isEnabled()
    form.agree()
    fake.client.connect()
    qtbot.waitUntil(form.yes_button.isEnabled)
    assert fake.sent(AddAccount) == []


# ---- where keys are kept --------------------------------------------------------------------------------------------


def test_a_new_passphrase_is_chosen_twice_the_same(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.secrets = msgspec.structs.replace(LOCKED, is_new=True)
    form.secrets.ask()
    qtbot.waitUntil(lambda: form.secrets.state is not None and form.secrets.state.is_new)
    assert not form.secrets.isVisible()  # on paper nothing is kept
    choose(form, "binance", TradingMode.TESTNET)
    type_keys(form)
    assert form.secrets.isVisible()
    assert form.problem.text() == "Choose a passphrase for the keys first"
    form.secrets.passphrase.setText("long enough")
    form.secrets.again.setText("long enouhg")
    assert not form.secrets.unlock_button.isEnabled()
    assert form.secrets.answer.text() == "The two are not the same"
    form.secrets.again.setText("long enough")
    qtbot.mouseClick(form.secrets.unlock_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not form.secrets.isVisible())
    assert fake.sent(UnlockSecrets) == [UnlockSecrets("long enough")]
    assert form.problem.text() == ""
    assert "long enough" not in shown_texts(form)


def test_a_wrong_passphrase(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.secrets = LOCKED
    choose(form, "binance", TradingMode.TESTNET)
    form.secrets.ask()
    qtbot.waitUntil(form.secrets.isVisible)
    assert not form.secrets.again.isVisible()
    form.secrets.passphrase.setText("wrong one")
    qtbot.keyClick(form.secrets.passphrase, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "not the passphrase" in form.secrets.answer.text())
    assert form.secrets.passphrase.text() == ""
    assert form.isVisible()
    form.secrets.passphrase.setText(PASSPHRASE)
    form.secrets.unlock()
    qtbot.waitUntil(lambda: not form.secrets.isVisible())


def test_where_no_key_can_be_kept_it_says_what_to_do(form: AccountForm, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.secrets = NOWHERE
    choose(form, "binance", TradingMode.TESTNET)
    type_keys(form)
    form.secrets.ask()
    qtbot.waitUntil(form.secrets.isVisible)
    assert "see to it that this system has a keyring, or mount the folder of keys" in form.secrets.words.text()
    assert "there is no folder /run/secrets" in form.secrets.problem()
    assert not form.files.isVisible()
    assert not form.secrets.passphrase.isVisible()
    assert not form.yes_button.isEnabled()
    assert form.test_button.isEnabled()


@pytest.mark.parametrize("theme", [ThemeChoice.DARK, ThemeChoice.LIGHT])
def test_it_is_painted_in_any_size(form: AccountForm, fake: FakeBench, theme: ThemeChoice) -> None:
    fake.theme.set_choice(theme)
    form.label.setText("A name as long as it may be, which is sixty-four letters, no more!")
    choose(form, "kucoin", TradingMode.LIVE)
    for width, height in ((240, 200), (500, 700), (1200, 1000)):
        form.resize(width, height)
        assert not form.grab().isNull()


def test_a_dialog_comes_up_in_the_middle_of_the_window(fake: FakeBench, form: AccountForm) -> None:
    """Its venues are known already, so that it does not grow afterwards."""
    form.close()
    again = AccountForm(fake.bench, fake.window)
    again.open()
    off_px = again.frameGeometry().center().y() - fake.window.frameGeometry().center().y()
    again.close()
    assert abs(off_px) <= 40


def test_what_is_no_more_than_words_to_press_begins_where_other_words_do(form: AccountForm) -> None:
    flat = [each for each in form.body.findChildren(QPushButton) if each.property("role") == "flat"]
    assert {each.text() for each in flat} >= {"More about this venue", "Open the page where keys are made"}
    assert {each.property("face") for each in flat if each.text()} == {"line"}
