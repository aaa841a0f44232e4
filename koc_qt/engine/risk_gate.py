"""The risk gate: what every order and every change must pass before anything of it is written or sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from decimal import Decimal

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Order, OrderRequest
from koc_qt.domain.risk import RiskContext, RiskLimits, check
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.ledger import Ledger
from koc_qt.engine.store import Store
from koc_qt.ports.clock import Clock

_MINUTE_NS = 60_000_000_000


class RiskGate:
    """Holds requests against the limits, with what the engine knows of prices, positions and orders."""

    def __init__(self, store: Store, ledger: Ledger, kill_switch: KillSwitch, limits: RiskLimits, clock: Clock) -> None:
        self._store = store
        self._ledger = ledger
        self._kill_switch = kill_switch
        self._limits = limits
        self._clock = clock
        self._sent_ns: dict[str, deque[int]] = {}  # monotonic, by strategy: orders and changes of the last minute

    def let_through(
        self,
        request: OrderRequest,
        strategy_id: str,
        account_id: str,
        others: Sequence[Order],
        newest: Mapping[str, Order],
        changed: Order | None = None,
    ) -> None:
        """Let a new order pass, or what `changed` is to become, and count it. Raises InvalidOrder and RiskRefused.

        `others` are the strategy's other open orders as the positions have them; `newest` has those that a venue has
        spoken of since, by client order id.
        """
        instrument = self._store.instrument(request.instrument)
        if instrument is None:
            raise InvalidOrder(f"{request.instrument} is not known: its venue is not connected, or has no such symbol")
        pending = {Side.BUY: Decimal(0), Side.SELL: Decimal(0)}
        for order in others:
            if order.request.instrument == request.instrument:
                now = newest.get(order.client_order_id, order)  # a change may have begun since
                pending[order.request.side] += max(order.most_remaining, now.most_remaining)
        context = RiskContext(
            instrument=instrument,
            reference_price=self._store.mark(request.instrument),
            position_quantity=self._ledger.position(strategy_id, account_id, request.instrument).quantity,
            open_buy_quantity=pending[Side.BUY],
            open_sell_quantity=pending[Side.SELL],
            open_orders=len(others),
            orders_last_minute=self._last_minute(strategy_id),
            daily_pnl=self._ledger.daily_pnl(strategy_id),
            kill_switch=self._kill_switch.engaged,
            kill_reason=self._kill_switch.reason,
            filled_quantity=Decimal(0) if changed is None else changed.filled_quantity,
        )
        check(request, context, self._limits)
        self._sent_ns.setdefault(strategy_id, deque()).append(self._clock.monotonic_ns())

    def _last_minute(self, strategy_id: str) -> int:
        sent_ns = self._sent_ns.get(strategy_id, deque())
        since_ns = self._clock.monotonic_ns() - _MINUTE_NS
        while sent_ns and sent_ns[0] < since_ns:
            sent_ns.popleft()
        return len(sent_ns)
