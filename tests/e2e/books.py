"""What must hold of a profile's orders, fills, positions and money, whatever was killed when."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Order
from koc_qt.ports.journal import JournalState
from tests.conditions import wait_until
from tests.e2e.processes import EngineProcess, Profile, Status

UNRESOLVED = {"new", "submitted", "unknown"}
START_CASH = Decimal(100_000)  # what the configured accounts begin with, in USDT


def check_books(profile: Profile) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Hold what `koc orders` and `koc fills` say against each other, and give it: each fill once and in its order."""
    orders, fills = profile.ask("orders"), profile.ask("fills")
    assert max(Counter(order["client_order_id"] for order in orders).values(), default=1) == 1
    assert max(Counter((fill["account_id"], fill["fill_id"]) for fill in fills).values(), default=1) == 1
    filled: dict[str, Decimal] = {}
    ids: dict[str, list[str]] = {}
    for fill in fills:
        key = fill["client_order_id"]
        filled[key] = filled.get(key, Decimal(0)) + Decimal(fill["quantity"])
        ids.setdefault(key, []).append(fill["fill_id"])
    for order in orders:
        key = order["client_order_id"]
        assert Decimal(order["filled_quantity"]) == filled.pop(key, Decimal(0)), order
        assert sorted(order["fill_ids"]) == sorted(ids.get(key, [])), order
        assert Decimal(order["filled_quantity"]) <= Decimal(order["quantity"]), order
        assert (order["status"] == "filled") == (Decimal(order["remaining"]) == 0), order
    assert filled == {}, "fills of orders that are not there"
    return orders, fills


def check_grown(before: JournalState, after: JournalState) -> None:
    """Hold that nothing that was on the disk before a crash is lost, changed or taken back after it."""
    orders = {order.client_order_id: order for order in after.orders}
    for old in before.orders:
        new = orders[old.client_order_id]
        assert new.request == old.request
        assert new.fill_ids[: len(old.fill_ids)] == old.fill_ids
        if old.status.is_terminal:
            assert new == old
    assert after.fills[: len(before.fills)] == before.fills


def open_orders(profile: Profile) -> list[Order]:
    """Give the journal's open orders."""
    return [order for order in profile.journal().orders if order.is_open]


def balances(status: Status, account_id: str) -> dict[str, Decimal]:
    """Give what is in an account."""
    (account,) = [each for each in status["accounts"] if each["id"] == account_id]
    return {each["currency"]: Decimal(each["total"]) for each in account["balances"]}


def expected_balances(fills: tuple[Fill, ...], account_id: str) -> dict[str, Decimal]:
    """Give what must be in an account after its fills, all on BTC/USDT."""
    mine = [fill for fill in fills if fill.account_id == account_id]
    paid = sum((_signed(fill) * fill.price + fill.fee for fill in mine), Decimal(0))
    return {"BTC": sum((_signed(fill) for fill in mine), Decimal(0)), "USDT": START_CASH - paid}


def check_positions(status: Status, fills: tuple[Fill, ...]) -> None:
    """Hold every position's quantity and fees against the fills that made it; all on one symbol and account each."""
    assert status["positions"]
    for position in status["positions"]:
        mine = [fill for fill in fills if fill.strategy_id == position["strategy_id"]]
        assert Decimal(position["quantity"]) == sum((_signed(fill) for fill in mine), Decimal(0)), position
        assert Decimal(position["fees"]) == sum((fill.fee for fill in mine), Decimal(0)), position


def halt_and_count(home: Profile, engine: EngineProcess, account_id: str) -> None:
    """Engage the kill switch, and hold positions and balances of an engine that has come to rest against its fills."""
    assert home.koc("kill", "--reason", "time to count").returncode == 0
    try:
        wait_until(lambda: not open_orders(home), timeout_s=20.0, what="every order to end")
    except AssertionError as error:
        raise AssertionError(f"{error}: {open_orders(home)}") from None
    after = home.journal()
    counted = engine.wait_for_status(lambda s: s["engine"]["trades"] == len(after.fills), "every fill to be counted")
    check_positions(counted, after.fills)
    money = expected_balances(after.fills, account_id)
    engine.wait_for_status(lambda s: _is_in(s, account_id, money), f"balances that follow from the fills: {money}")
    counts = {each["id"]: each["orders"] for each in counted["strategies"]}
    assert counts == {key: sum(order.strategy_id == key for order in after.orders) for key in counts}


def _is_in(status: Status, account_id: str, money: dict[str, Decimal]) -> bool:
    there = balances(status, account_id)
    return all(there.get(currency, Decimal(0)) == amount for currency, amount in money.items())


def _signed(fill: Fill) -> Decimal:
    return fill.quantity if fill.side is Side.BUY else -fill.quantity
