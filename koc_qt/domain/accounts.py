"""Accounts as people see and change them: settings, what is known of their keys, and where keys are kept.

None of it holds a key: those travel to the engine in commands alone (link/messages.py), and never back.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from koc_qt.domain.state import Balance, TradingMode, VenueState
from koc_qt.domain.venues import Quota, VenueAbilities


class PaperOptions(msgspec.Struct, frozen=True):
    """How an account is filled that trades in a simulated market or on paper.

    It begins with `balances`; `latency_ms` is how long an order is on its way; fees are fractions of the notional, the
    venue's own where they are None, a rebate when negative.
    """

    balances: tuple[Balance, ...] = (Balance("USDT", Decimal(100_000)),)
    allow_short: bool = False
    latency_ms: float = 5.0
    maker_fee: Decimal | None = None
    taker_fee: Decimal | None = None


class AccountDetails(msgspec.Struct, frozen=True):
    """All there is to know of an account but its keys and what is in it.

    `is_editable` is False for one that koc.yaml describes: that file is its owner's, and only keys can be changed here.
    `modes` are those it can be switched to, the present one included; `keys_for` those for which keys are kept.
    `reason` says why it cannot be used, with what to do; empty where all is well.
    """

    account_id: str
    label: str
    venue: str
    mode: TradingMode
    enabled: bool
    is_editable: bool
    modes: tuple[TradingMode, ...]
    keys_for: tuple[TradingMode, ...]
    state: VenueState
    reason: str
    paper: PaperOptions | None

    @property
    def name(self) -> str:
        """What people call it, and type to go live: the label, or the id where there is none."""
        return self.label or self.account_id


class AccountLimits(msgspec.Struct, frozen=True):
    """What the venue of an account lets it do, as far as is known; nothing while it is not connected.

    `can_withdraw` says whether its key could, None where the venue does not say; `others` are phrases.
    """

    account_id: str
    quotas: tuple[Quota, ...] = ()
    can_withdraw: bool | None = None
    others: tuple[str, ...] = ()


class SecretsState(msgspec.Struct, frozen=True):
    """Where keys are kept. `reason` says why there, in a sentence.

    `is_locked` asks for a passphrase; with `is_new` too, the person chooses one now: nothing is kept yet. `folder` is
    where keys are mounted as files, which are only read; empty where they are kept otherwise.
    """

    title: str
    is_writable: bool
    is_locked: bool
    is_new: bool
    reason: str
    folder: str = ""


class KeyFile(msgspec.Struct, frozen=True):
    """A file with one field of an account's keys. `problem` says what is wrong with it; empty where it can be used."""

    field: str
    name: str
    problem: str = ""


class KeyFiles(msgspec.Struct, frozen=True):
    """The files that an account needs in `folder`; none where it needs no keys, or keys are not mounted."""

    account_id: str
    folder: str = ""
    files: tuple[KeyFile, ...] = ()


def modes_of(abilities: VenueAbilities) -> tuple[TradingMode, ...]:
    """Give the modes that accounts on a venue can be in, the harmless first."""
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
    """Whether an account on a venue needs keys in a mode; on paper, for market data alone."""
    if mode is TradingMode.PAPER:
        return abilities.data_needs_key
    return mode is not TradingMode.SIMULATED
