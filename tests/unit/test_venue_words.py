"""How abilities of venues are said to whoever chooses one."""

from __future__ import annotations

import pytest

from koc_qt.ui.account_form.venue_words import venue_words
from koc_qt.wiring.venues import Abilities

ALL = "Takes market, limit, stop and stop-limit orders"
BOOK = "Streams trades, quotes and book."
DATA = "A source of market data alone: orders are filled on paper, at its prices. Streams trades and quotes."
WHOLE = "Its 1-minute bars reach back to the beginning."
NEWEST = "Of each timeframe it has the newest 720 bars, and no older ones."


@pytest.mark.parametrize(
    ("venue", "words"),
    [
        ("binance", f"{ALL}, post-only too. {BOOK} {WHOLE}"),
        ("kraken", f"{ALL}, post-only too, changes working ones. {BOOK} {NEWEST}"),
        ("coinbase", f"Takes market, limit and stop-limit orders, post-only too, changes working ones. {BOOK} {WHOLE}"),
        ("kucoin", f"{ALL}, post-only too. {BOOK} {WHOLE}"),
        ("bitfinex", f"{ALL}, post-only too, changes working ones. {BOOK} {WHOLE}"),
        ("alpaca", f"{ALL}, changes working ones, sells short. Streams trades and quotes. {WHOLE}"),
        ("polygon", f"{DATA} Its 1-minute bars reach back 2 years."),
        ("yahoo", f"{DATA} Its 1-minute bars reach back 30 days."),
        ("sim", f"{ALL}, post-only and reduce-only too, changes working ones, sells short. {BOOK} {WHOLE}"),
    ],
)
def test_what_a_venue_can_do_is_said(venue: str, words: str) -> None:
    assert venue_words(Abilities()[venue]) == words
