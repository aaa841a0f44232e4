"""A person without any account adds one that is live, in the real window, and brings it back to paper."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from koc_qt.domain.state import TradingMode
from tests.e2e.exchange_process import Venue, venue
from tests.e2e.processes import Profile
from tests.e2e.window import WindowProcess, window

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are killed as POSIX does it"),
]

NAME = "Würfel ☃"  # what has to be typed to go live
PASSPHRASE = "canary horse battery staple"
FORM = "panel('accounts').account_actions.dialogs['add', '']"
SWITCH = "panel('accounts').account_actions.dialogs['switch', 'binance-live']"
ACCOUNT = "replica.accounts['binance-live']"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Venue]:
    with venue(tmp_path / "venue") as place:
        place.start()
        yield place


def fill_in(shown: WindowProcess, keys: dict[str, str], form: str = FORM) -> None:
    """Type the keys, with blanks as a paste brings them along."""
    for name, value in keys.items():
        shown.ask(f"{form}.credentials.fields[{name!r}].editor.setText({' ' + value + ' '!r})")


def test_from_no_account_to_live_and_back(home: Profile, place: Venue) -> None:
    home.environment |= {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}  # none of the machine's own
    home.configure({"venues": {"binance": place.settings}})
    keys = place.keys[TradingMode.LIVE]
    with window(home) as shown:
        shown.until("desk.is_connected and panel('accounts') is not None")
        assert not shown.ask("window.live_frame.isVisible()")
        shown.ask("run('accounts.add')")
        shown.until(f"{FORM}.isVisible() and {FORM}.venue.findData('binance') >= 0")
        shown.ask(f"[{FORM}.venue.choose('binance'), {FORM}.venue.activated.emit(0)]")
        shown.ask(f"{FORM}.mode.choose('live')")
        shown.ask(f"[{FORM}.label.setText({NAME!r}), {FORM}.label.textEdited.emit({NAME!r})]")
        fill_in(shown, keys)

        shown.until(f"{FORM}.secrets.isVisible()")  # no keyring here, so that a passphrase is chosen
        for field in ("passphrase", "again"):
            shown.ask(f"{FORM}.secrets.{field}.setText({PASSPHRASE!r})")
        shown.ask("click('Choose it')")
        shown.until(f"not {FORM}.secrets.isVisible()")
        shown.ask("click('Test connection')")
        shown.until(f"{FORM}.report.isVisible() and not {FORM}.is_busy", timeout_s=60)
        assert shown.ask(f"{FORM}.report.title.text()") == "The connection works."
        assert "ms" in shown.ask(f"{FORM}.report.rows['Round trip'].text()")

        assert not shown.ask(f"{FORM}.yes_button.isEnabled()")
        shown.ask(f"{FORM}.confirmation.field.setText({NAME!r})")
        shown.ask("click('Add the account')")
        shown.until(f"{ACCOUNT}.state == 'connected'", timeout_s=60)
        shown.until("window.live_frame.isVisible()")
        assert shown.ask("[window.header.live.text(), window.header.live.toolTip()]") == [
            "LIVE",
            f"Orders trade with real money: {NAME}",
        ]
        shown.until("panel('accounts').cards['binance-live'].state.text() == 'Binance · connected'")

        shown.ask("panel('accounts').account_actions.run('switch', 'binance-live')")
        shown.until(f"'paper' in {SWITCH}.mode.buttons and not {SWITCH}.is_busy")
        shown.ask(f"{SWITCH}.mode.choose('paper')")
        shown.ask(f"{SWITCH}.agree()")
        shown.until(f"{ACCOUNT}.mode == 'paper' and {ACCOUNT}.state == 'connected'", timeout_s=60)
        shown.until("not window.live_frame.isVisible() and not window.header.live.isVisible()")
        shown.until("not panel('accounts').account_actions.dialogs")
        assert shown.close() == 0
    left = [path for path in home.output_folder.rglob("*") if path.is_file() and "venue" not in path.parts]
    assert any(path.name == "window.json" for path in left)
    for path in left:
        found = [value for value in (*keys.values(), PASSPHRASE) if value.encode() in path.read_bytes()]
        assert not found, path
