"""What the link carries, in people's words: what a command asks of the engine, and what accounts are limited to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import groupby

from koc_qt.domain.accounts import AccountLimits
from koc_qt.domain.risk import RiskLimits
from koc_qt.domain.venues import Quota
from koc_qt.link.messages import Command

# By the name of the command's class. Each goes on from "the engine was asked to": for sentences about one that was not
# sent, or not answered.
ERRANDS: Mapping[str, str] = {
    "Hello": "let this program in",
    "RequestSnapshot": "send everything again",
    "SubmitOrder": "place the order",
    "CancelOrder": "cancel the order",
    "AmendOrder": "change the order",
    "CancelAllOrders": "cancel all orders",
    "DescribeStrategy": "read the strategy file",
    "StoreStrategy": "keep the strategy file",
    "StartStrategy": "start the strategy",
    "StopStrategy": "stop the strategy",
    "EngageKillSwitch": "engage the kill switch",
    "ReleaseKillSwitch": "release the kill switch",
    "Subscribe": "send live prices",
    "Unsubscribe": "send live prices no more",
    "FetchBars": "send bars",
    "ListInstruments": "list its symbols",
    "ListSeries": "list its stored bars",
    "ReadLog": "send its log",
    "StartDownload": "download bars",
    "StopDownload": "stop the download",
    "StartBacktest": "start the back-test",
    "StopBacktest": "stop the back-test",
    "FetchBacktest": "send the back-test's result",
    "FetchBacktestPage": "send the back-test's trades",
    "NoteBacktest": "keep the note",
    "DeleteBacktest": "delete the back-test",
    "ListBacktests": "list its back-tests",
    "StartTrust": "start the checks",
    "StopTrust": "stop the checks",
    "FetchTrust": "send what the checks found",
    "CheckDrift": "measure the drift",
    "StartStudy": "start the optimisation",
    "StopStudy": "stop the optimisation",
    "ResumeStudy": "go on with the optimisation",
    "DeleteStudy": "delete the optimisation",
    "FetchTrials": "send the optimisation's trials",
    "ListVenues": "list its venues",
    "ListAccounts": "list its accounts",
    "AddAccount": "add the account",
    "UpdateCredentials": "keep the account's keys",
    "RenameAccount": "rename the account",
    "SetAccountEnabled": "open or close the account",
    "RemoveAccount": "remove the account",
    "SwitchAccount": "switch the account",
    "TestConnection": "test the connection",
    "UnlockSecrets": "unlock the keys",
    "SecretsStatus": "say where keys are kept",
    "ListKeyFiles": "say which files of keys it needs",
    "Shutdown": "stop",
}


def errand(command: Command) -> str:
    """Say what a command asks, to go on from "the engine was asked to"."""
    return ERRANDS[type(command).__name__]


_SPANS = {1: "a second", 60: "a minute", 3_600: "an hour", 86_400: "a day"}


def quota_words(quotas: Sequence[Quota]) -> str:
    """Say how much of what a venue takes is used up: "Orders: 12 of 100 in 10 s · Requests: 340 of 6,000 a minute"."""
    kinds = groupby(sorted(quotas, key=lambda each: each.what), lambda each: each.what)
    return " · ".join(f"{what.capitalize()}: {', '.join(map(_quota, several))}" for what, several in kinds)


def limit_words(limits: AccountLimits) -> str:
    """Say what an account's venue lets it do; empty where nothing is known of that."""
    parts = [quota_words(limits.quotas), *limits.others]
    if limits.can_withdraw is not None:
        parts.append("the key may withdraw" if limits.can_withdraw else "the key cannot withdraw")
    text = " · ".join(filter(None, parts))
    return text[:1].upper() + text[1:]


def risk_words(risk: RiskLimits) -> str:
    """Say what the engine lets each strategy do; money is in the quote currency of what is traded."""
    parts = [
        f"{_amount(risk.max_order_notional)} an order",
        f"{_amount(risk.max_position_notional)} a position",
        f"loss of {_amount(risk.max_daily_loss)} a day",
        f"{risk.max_open_orders:,} open orders",
        f"{risk.max_orders_per_minute:,} orders a minute",
        f"{_amount(risk.price_collar * 100)} % beyond the price",
    ]
    return " · ".join(parts if risk.allow_short else [*parts, "no short selling"])


def _quota(quota: Quota) -> str:
    seconds = quota.seconds
    span = _SPANS.get(round(seconds)) if seconds.is_integer() else None
    if span is None:
        span = f"in {seconds / 60:g} minutes" if seconds >= 120 and not seconds % 60 else f"in {seconds:g} s"
    return f"{quota.used:,} of {quota.allowed:,} {span}"


def _amount(value: Decimal) -> str:
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
