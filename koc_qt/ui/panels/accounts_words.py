"""What is said of an account: what it does, why it cannot be used, and what the person can do about that."""

from __future__ import annotations

import math
from dataclasses import dataclass

from koc_qt.domain.accounts import AccountLimits
from koc_qt.domain.risk import RiskLimits
from koc_qt.domain.state import AccountActivity, AccountSnapshot, TradingMode, VenueSnapshot, VenueState
from koc_qt.domain.venues import VenueAbilities
from koc_qt.link.wording import limit_words, risk_words
from koc_qt.ui.account_form.report import fee_words
from koc_qt.ui.formats import duration, price, quantity
from koc_qt.ui.modes import needs_keys

REMEDIES = {"enable": "Switch it on", "keys": "Keys…", "test": "Test connection"}  # what a button says, by its action
NEARLY = 0.8  # of a quota; queries make way for orders from there on
MOST_POSITIONS = 4  # named in a card; its tooltip has the others
_BREAKERS = {
    "open": "Breaker open: requests are held back until the venue has recovered",
    "half-open": "Breaker half-open: one request is being tried",
}
_ACTIVITIES = {
    AccountActivity.IDLE: ("Idle", "neutral"),
    AccountActivity.ORDER_SUBMITTED: ("Order submitted", "info"),
    AccountActivity.IN_POSITION: ("In position", "profit"),
    AccountActivity.RATE_LIMITED: ("Recalculating", "warning"),
    AccountActivity.HALTED: ("Halted", "danger"),
}
_ACTIVITY_TIPS = {
    AccountActivity.IDLE: "No order of ours is open, and nothing is held",
    AccountActivity.ORDER_SUBMITTED: "Orders of ours are open",
    AccountActivity.IN_POSITION: "Something is held, and no order of ours is open",
    AccountActivity.RATE_LIMITED: "After a rate block: its venue wants to be left alone for a while",
    AccountActivity.HALTED: "The kill switch is engaged: no order is taken",
}


@dataclass(frozen=True)
class Trouble:
    """What is wrong with an account. `remedy` names what helps (see AccountActions), empty for nothing from here."""

    text: str
    tone: str
    remedy: str = ""


def activity_words(account: AccountSnapshot, held_s: float) -> tuple[str, str, str]:
    """Say what an account is doing, in which look, and what that means; `held_s` is left of a rate block."""
    words, pill = _ACTIVITIES[account.activity]
    if account.activity is AccountActivity.RATE_LIMITED and held_s > 0:
        left_s = math.ceil(held_s)
        words = f"{words}: {duration(left_s) if left_s >= 10 else f'{left_s} s'}"
    return words, pill, _ACTIVITY_TIPS[account.activity]


def trouble(account: AccountSnapshot, abilities: VenueAbilities | None, venue: VenueSnapshot | None) -> Trouble | None:
    """Say why an account cannot be used, or not well, and what to do; None where all is well."""
    if not account.enabled:
        return Trouble("Switched off: the engine leaves it alone. Its keys stay where they are.", "muted", "enable")
    title = abilities.title if abilities is not None else account.venue
    reason = f"{account.reason[:1].upper()}{account.reason[1:]}" if account.reason else ""
    if account.state is VenueState.DISCONNECTED:
        if abilities is not None and needs_keys(abilities, account.mode) and not account.has_keys:
            return Trouble(reason or f"No keys are kept for {account.mode} mode: type them in.", "danger", "keys")
        return Trouble(reason or "Not connected: see what a test of its connection says.", "danger", "test")
    lines = [reason] if reason else []
    if account.activity is AccountActivity.RATE_LIMITED:
        lines.append(f"After a rate block {title} is left alone for a while; then cancels go first, and orders next.")
    lines += _market(title, venue)
    if account.foreign_orders:
        lines.append(foreign_words(account.foreign_orders))
    if not lines:
        return None
    is_bad = account.state is not VenueState.CONNECTED or bool(reason) or len(lines) > bool(account.foreign_orders)
    return Trouble("\n".join(lines), "warning" if is_bad else "muted")


def foreign_words(count: int) -> str:
    """Say that others trade on the account."""
    if count == 1:
        return "1 open order at the venue is not ours: it is left alone, and may hold some of the money."
    return f"{count} open orders at the venue are not ours: they are left alone, and may hold some of the money."


def _market(title: str, venue: VenueSnapshot | None) -> list[str]:
    if venue is None:
        return [f"No market data of {title}"]
    lines = []
    if venue.state is not VenueState.CONNECTED:
        lines.append(f"Market data {venue.state.value}" + (f": {venue.reason}" if venue.reason else ""))
    if venue.breaker != "closed":
        lines.append(_BREAKERS.get(venue.breaker, f"Breaker {venue.breaker}"))
    return lines


def holding_words(account: AccountSnapshot, most: int = MOST_POSITIONS) -> str:
    """Name what the venue calls positions; empty where there are none."""
    held = [each for each in account.positions if each.quantity]
    words = [
        f"{each.symbol} {quantity(each.quantity)}" + (f" at {price(each.average_price)}" if each.average_price else "")
        for each in held[:most]
    ]
    more = len(held) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "") if words else ""


def terms_words(account: AccountSnapshot, abilities: VenueAbilities | None) -> str:
    """Say what trading there costs, and what there is not; empty while the fees are not known."""
    fees = fee_words(account.maker_fee, account.taker_fee)
    if not fees:
        return ""
    is_real = account.mode in (TradingMode.TESTNET, TradingMode.LIVE)
    lacks_short = is_real and abilities is not None and not abilities.shorting
    return f"Fees: {fees}{' · no short selling' if lacks_short else ''}"


_QUOTA_TIP = (
    "How much of what the venue takes is used up now; some requests count for more than one. Before a limit is "
    "reached, market data waits first, then questions, then orders; cancels go out to the last."
)
_RISK_TIP = (
    "What the engine lets each strategy do, and you by hand, whatever the account; in the quote currency of what is "
    "traded. Set under 'risk' in koc.yaml."
)
_MOST_RISKS = 3  # on a card; its tip has them all
_WITHDRAW_TIP = "Nothing here needs a key that may withdraw: make one that may not."


def limits_words(account: AccountSnapshot, limits: AccountLimits | None) -> tuple[str, str, str]:
    """Say what an account's venue lets it do, in which tone, and what that means; empty where nothing is known."""
    if limits is None or not account.enabled:
        return "", "muted", ""
    is_near = any(each.used >= each.allowed * NEARLY for each in limits.quotas)
    tips = [_QUOTA_TIP] if limits.quotas else []
    if limits.can_withdraw:
        tips.append(_WITHDRAW_TIP)
    return _unbroken(limit_words(limits)), "warning" if is_near or limits.can_withdraw else "muted", "\n\n".join(tips)


def risk_words_of(account: AccountSnapshot, risk: RiskLimits | None) -> tuple[str, str]:
    """Say what the engine lets strategies do on an account, and all of it in a tip; empty for one without orders."""
    if risk is None or account.mode is TradingMode.DATA or not account.enabled:
        return "", ""
    words = risk_words(risk)
    most = " · ".join(words.split(" · ")[:_MOST_RISKS])
    return _unbroken(f"Risk, each strategy: {most}"), f"{words.capitalize()}\n\n{_RISK_TIP}"


def _unbroken(text: str) -> str:
    """Let a line end between phrases alone."""
    phrases = [", ".join(part.replace(" ", "\xa0") for part in each.split(", ")) for each in text.split(" · ")]
    return "\xa0· ".join(phrases).replace("strategy:\xa0", "strategy: ")
