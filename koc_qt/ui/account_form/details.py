"""What the engine knows of an account besides its snapshot, for dialogs that need it."""

from __future__ import annotations

import msgspec

from koc_qt.domain.accounts import AccountDetails
from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.state import AccountSnapshot
from koc_qt.link.account_messages import ListAccounts
from koc_qt.ui.desk import Desk
from koc_qt.ui.start_form.rules import is_active

DETAILS_TIMEOUT_S = 70.0  # the engine looks which keys are kept, and a keyring may ask its owner


async def fetch_details(desk: Desk) -> dict[str, AccountDetails]:
    """Ask for the details of every account, by id. Raises KocError."""
    answer = await desk.request(ListAccounts(), timeout_s=DETAILS_TIMEOUT_S)
    try:
        return {each.account_id: each for each in msgspec.convert(answer, list[AccountDetails])}
    except msgspec.ValidationError as error:
        raise LinkError(f"the engine's list of accounts cannot be read: {error}") from error


async def fetch_one(desk: Desk, account_id: str) -> AccountDetails:
    """Ask for the details of one account. Raises KocError, also where it is gone."""
    found = (await fetch_details(desk)).get(account_id)
    if found is None:
        raise KocError(f"there is no account {account_id} any more")
    return found


def what_runs(desk: Desk, account: AccountSnapshot) -> tuple[list[str], int]:
    """Give the strategies that run on an account, and how many orders of ours are open on it."""
    replica = desk.replica
    running = [
        key
        for key, each in replica.strategies.items()
        if each.spec.account_id == account.account_id and is_active(each)
    ]
    orders = sum(order.account_id == account.account_id for order in replica.open_orders.values())
    return running, orders


def ending_words(running: list[str], orders: int) -> str:
    """Say what becomes of what runs on an account that is closed; empty where nothing does."""
    parts = []
    if running:
        some = ", ".join(running[:3]) + (f" and {len(running) - 3} more" if len(running) > 3 else "")
        parts.append(f"{some} {'is' if len(running) == 1 else 'are'} stopped")
    if orders:
        count = "1 open order is" if orders == 1 else f"{orders} open orders are"
        parts.append(f"{count} cancelled, and looked up at the venue until it is certain")
    return "; ".join(parts)
