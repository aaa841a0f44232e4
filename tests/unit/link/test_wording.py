"""Commands in people's words."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

from koc_qt.domain.accounts import AccountLimits
from koc_qt.domain.risk import RiskLimits
from koc_qt.domain.venues import Quota
from koc_qt.link.messages import CancelOrder, Command
from koc_qt.link.wording import ERRANDS, errand, limit_words, quota_words, risk_words


def test_every_command_can_be_said() -> None:
    names = {kind.__name__ for kind in get_args(Command)}
    assert len(names) > 20
    assert names - set(ERRANDS) == set()
    assert not [name for name, words in ERRANDS.items() if name in words]
    assert errand(CancelOrder("K1")) == "cancel the order"


def test_quotas_are_said_by_what_they_count() -> None:
    binance = (
        Quota("requests", 340, 6_000, 60.0),
        Quota("orders", 12, 100, 10.0),
        Quota("orders", 340, 200_000, 86_400.0),
    )
    assert quota_words(binance) == "Orders: 12 of 100 in 10 s, 340 of 200,000 a day · Requests: 340 of 6,000 a minute"
    spans = {1.0: "a second", 3_600.0: "an hour", 300.0: "in 5 minutes", 55.0: "in 55 s", 0.5: "in 0.5 s"}
    assert {seconds: quota_words([Quota("orders", 1, 2, seconds)]) for seconds in spans} == {
        seconds: f"Orders: 1 of 2 {words}" for seconds, words in spans.items()
    }
    assert quota_words(()) == ""


def test_what_a_venue_lets_an_account_do_is_said() -> None:
    quotas, others = (Quota("requests", 1, 30, 1.0),), ("buys up to 2 times its equity",)
    told = "Requests: 1 of 30 a second · buys up to 2 times its equity · the key cannot withdraw"
    assert limit_words(AccountLimits("a", quotas, False, others)) == told
    assert limit_words(AccountLimits("a", (), True)) == "The key may withdraw"
    assert limit_words(AccountLimits("a")) == ""


def test_what_the_engine_lets_a_strategy_do_is_said() -> None:
    told = (
        "50,000 an order · 100,000 a position · loss of 5,000 a day · 50 open orders · 300 orders a minute · "
        "5 % beyond the price"
    )
    assert risk_words(RiskLimits()) == told
    careful = RiskLimits(max_order_notional=Decimal("0.50"), price_collar=Decimal("0.0025"), allow_short=False)
    assert risk_words(careful).startswith("0.5 an order")
    assert risk_words(careful).endswith("0.25 % beyond the price · no short selling")
