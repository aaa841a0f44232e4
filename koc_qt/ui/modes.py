"""The modes of accounts in people's words, which of them a venue has, and which need keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from koc_qt.domain.state import AccountSnapshot, TradingMode
from koc_qt.domain.venues import VenueAbilities

MODES = (TradingMode.LIVE, TradingMode.TESTNET, TradingMode.PAPER, TradingMode.SIMULATED)  # most serious first
WHAT = {
    TradingMode.SIMULATED: "Orders trade in a simulated market",
    TradingMode.PAPER: "Orders trade on paper, at the prices of a real market",
    TradingMode.TESTNET: "Orders go to the venue's test network: no real money",
    TradingMode.LIVE: "Orders go to the venue, with real money",
    TradingMode.DATA: "A source of market data: it takes no orders",
}


def mode_word(mode: TradingMode) -> str:
    """Write a mode for people."""
    return mode.value.capitalize()


def mode_pill(mode: TradingMode) -> str:
    """Give the look of that word."""
    return "neutral" if mode is TradingMode.DATA else mode.value


def modes_of(abilities: VenueAbilities) -> tuple[TradingMode, ...]:
    """Give the modes that an account there can have, the harmless first, as the engine does."""
    if not abilities.credentials and not abilities.paper:
        return (TradingMode.SIMULATED,)
    offered = {
        TradingMode.PAPER: abilities.paper,
        TradingMode.TESTNET: abilities.testnet,
        TradingMode.LIVE: abilities.trading,
        TradingMode.DATA: abilities.data_needs_key,
    }
    return tuple(mode for mode, is_offered in offered.items() if is_offered)


def needs_keys(abilities: VenueAbilities, mode: TradingMode) -> bool:
    """Whether an account in this mode can do nothing without keys; on paper they are for market data alone."""
    if mode is TradingMode.PAPER:
        return abilities.data_needs_key
    return mode is not TradingMode.SIMULATED


def takes_orders(account: AccountSnapshot) -> bool:
    """Whether an account is there to trade with, connected or not."""
    return account.enabled and account.mode is not TradingMode.DATA


def names_of(accounts: Iterable[AccountSnapshot]) -> dict[str, str]:
    """Give by id what people call these accounts, with the id where two are called the same."""
    known = {each.account_id: account_name(each) for each in accounts}
    count = Counter(known.values())
    return {key: name if count[name] == 1 or name == key else f"{name} ({key})" for key, name in known.items()}


def account_name(account: AccountSnapshot) -> str:
    """Give what people call an account."""
    return account.label or account.account_id
