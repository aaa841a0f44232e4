"""What is asked of the simulated Binance, by REST or over the WebSocket API, and the words in which it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from tests.wire.binance import RefusalError
from tests.wire.core.accounts import ApiKey, User
from tests.wire.core.orders import RefusedError, Why

_REFUSED = {
    Why.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    Why.CLOSED: (-1013, "Market is closed."),
    Why.TICK: (-1013, "Filter failure: PRICE_FILTER"),
    Why.LOT: (-1013, "Filter failure: LOT_SIZE"),
    Why.TOO_SMALL: (-1013, "Filter failure: LOT_SIZE"),
    Why.TOO_LARGE: (-1013, "Filter failure: LOT_SIZE"),
    Why.NOTIONAL: (-1013, "Filter failure: NOTIONAL"),
    Why.FUNDS: (-2010, "Account has insufficient balance for requested action."),
    Why.DUPLICATE: (-2010, "Duplicate order sent."),
    Why.WOULD_TAKE: (-2010, "Order would immediately match and take."),
    Why.UNKNOWN_ORDER: (-2013, "Order does not exist."),
    Why.NOT_OPEN: (-2011, "Unknown order sent."),
    Why.BAD_AMEND: (-2038, "Order amend (quantity increase) is not supported."),
    Why.INVALID: (-1013, "Invalid quantity."),
}
PUBLIC = ""


class LimitedError(Exception):
    """Too many requests, or orders: come back later."""

    def __init__(self, code: int, msg: str, retry_after_s: float, *, banned: bool = False) -> None:
        super().__init__(msg)
        self.code, self.retry_after_s, self.banned = code, retry_after_s, banned


class DataError(RefusalError):
    """A refusal that tells more than code and message."""

    def __init__(self, code: int, msg: str, data: Any) -> None:
        super().__init__(code, msg)
        self.data = data


@dataclass
class Ask:
    """What is asked, by REST or over the WebSocket API, and of whom it was found to be."""

    params: Mapping[str, str]
    ip: str
    test_network: bool
    user: User | None = None
    key: ApiKey | None = None

    @property
    def owner(self) -> User:
        """Whose signed request this is."""
        assert self.user is not None
        return self.user

    def need(self, name: str) -> str:
        """Give a parameter that must be there."""
        if not self.params.get(name):
            raise RefusalError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return self.params[name]

    def whole(self, name: str) -> int | None:
        """Give a whole number."""
        text = self.params.get(name)
        if text is None or text.isdigit():
            return None if text is None else int(text)
        raise RefusalError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")

    def limit(self, default: int, most: int) -> int:
        """Give the number of rows asked for."""
        limit = self.whole("limit")
        return default if limit is None else max(1, min(limit, most))

    def amount(self, name: str) -> Decimal | None:
        """Give a decimal of at most eight places."""
        text = self.params.get(name)
        if text is None:
            return None
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal(-1)
        if not value.is_finite() or value < 0 or not re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,20})?", text):
            legal = "^([0-9]{1,20})(\\.[0-9]{1,20})?$"
            raise RefusalError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")
        if value != value.quantize(Decimal("1e-8")):
            raise RefusalError(-1111, f"Parameter '{name}' has too much precision.")
        return value


@dataclass(frozen=True)
class Endpoint:
    """Who answers, what it weighs, and what the key must be allowed (nothing: anybody may ask)."""

    answer: Callable[[Ask], Any]
    weight: int | Callable[[Ask], int]
    needs: str = PUBLIC
    is_order: bool = False

    def weigh(self, ask: Ask) -> int:
        """Give what this request weighs."""
        return self.weight if isinstance(self.weight, int) else self.weight(ask)


def depth_weight(ask: Ask) -> int:
    """Give the weight of a book: the deeper, the heavier."""
    return next((weight for most, weight in ((100, 5), (500, 25), (1000, 50)) if ask.limit(100, 5000) <= most), 250)


def open_orders_weight(ask: Ask) -> int:
    """Give the weight of open orders: of all symbols they are heavy."""
    return 6 if ask.params.get("symbol") else 80


def answered(endpoint: Endpoint, ask: Ask) -> Any:
    """Answer in the venue's words whatever the exchange says."""
    try:
        return endpoint.answer(ask)
    except RefusedError as refused:
        raise RefusalError(*_REFUSED.get(refused.why, (-2010, str(refused)))) from refused
