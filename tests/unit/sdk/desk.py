"""A context that keeps what a strategy sends, and fills orders when a test says so; positions and cash add up."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Quote, Side, Trade
from koc_qt.domain.orders import Fill, Liquidity, Order, OrderRequest, OrderStatus
from koc_qt.sdk.channel import PositionState
from koc_qt.sdk.session import Session
from koc_qt.sdk.strategy import Strategy

START_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
BTC_ID = InstrumentId("sim", "BTC/USDT")
OTHER_ID = InstrumentId("sim2", "BTC/USDT")
FEE = Decimal("0.001")


def instrument(key: InstrumentId = BTC_ID) -> Instrument:
    base, quote = key.symbol.split("/")
    return Instrument(
        key, base, quote, Decimal("0.01"), Decimal("0.00001"),
        min_notional=Decimal(5), maker_fee=FEE, taker_fee=FEE,
    )  # fmt: skip


BTC, OTHER = instrument(BTC_ID), instrument(OTHER_ID)


def bar(close: float, index: int = 0, key: InstrumentId = BTC_ID, timeframe: str = "1m") -> Bar:
    return Bar(key, timeframe, START_NS + index * MINUTE_NS, close, close, close, close, 1.0)


def quote(bid: str | float, ask: str | float, index: int = 0, key: InstrumentId = BTC_ID) -> Quote:
    size = Decimal(10)
    return Quote(key, START_NS + index * SECOND_NS, Decimal(str(bid)), size, Decimal(str(ask)), size)


def trade(price: str, key: InstrumentId = BTC_ID) -> Trade:
    return Trade(key, START_NS, Decimal(price), Decimal(1), Side.BUY, "t1")


class Desk:
    """Implements sdk.context.Context; time moves when told to."""

    def __init__(
        self,
        strategy: Strategy,
        *,
        instruments: Sequence[Instrument] = (BTC,),
        timeframe: str = "1m",
        positions: Sequence[PositionState] = (),
        open_orders: Sequence[Order] = (),
        seed: int = 1,
    ) -> None:
        self.now_ns = START_NS
        self.submitted: list[tuple[int, OrderRequest]] = []
        self.cancels: list[str] = []
        self.amends: list[tuple[str, Decimal, Decimal | None]] = []
        self.questions: list[tuple[int, InstrumentId, str, int]] = []
        self.lines: list[tuple[str, str]] = []
        self.metrics: dict[str, float] = {}
        self.cash = {"USDT": Decimal(100_000)}
        self.orders: dict[int, Order] = {}
        self.holdings = {position.instrument: position for position in positions}
        self._fills = 0
        self.strategy = strategy
        self.session = Session(
            strategy, self, instruments=instruments, timeframe=timeframe, cash=self.cash, positions=positions,
            open_orders=open_orders, seed=seed,
        )  # fmt: skip

    # ---- Context

    @property
    def time_ns(self) -> int:
        return self.now_ns

    def submit(self, request_id: int, request: OrderRequest) -> None:
        self.submitted.append((request_id, request))

    def cancel(self, client_order_id: str) -> None:
        self.cancels.append(client_order_id)

    def amend(self, client_order_id: str, quantity: Decimal, price: Decimal | None) -> None:
        self.amends.append((client_order_id, quantity, price))

    def request_history(self, request_id: int, instrument: InstrumentId, timeframe: str, count: int) -> None:
        self.questions.append((request_id, instrument, timeframe, count))

    def log(self, level: str, text: str) -> None:
        self.lines.append((level, text))

    def metric(self, name: str, value: float) -> None:
        self.metrics[name] = value

    # ---- the engine's side

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
        self.session.on_time(self.now_ns)

    def update(self, request_id: int, status: OrderStatus, **changes: Any) -> Order:
        request = dict(self.submitted)[request_id]
        order = self.orders.get(request_id) or Order(f"koc-{request_id}", "s", "a", request, self.now_ns, self.now_ns)
        fields = {name: getattr(order, name) for name in order.__struct_fields__} | {"status": status} | changes
        order = self.orders[request_id] = Order(**fields)
        self.session.on_order_update(request_id, order)
        return order

    def fill(self, request_id: int, price: Decimal, quantity: Decimal | None = None) -> Fill:
        """Fill an order at a price, whole unless told otherwise: the fill first, then the order."""
        request = dict(self.submitted)[request_id]
        before = self.orders[request_id].filled_quantity if request_id in self.orders else Decimal(0)
        quantity = request.quantity - before if quantity is None else quantity
        self._fills += 1
        fill = Fill(
            f"f{self._fills}", f"koc-{request_id}", "s", "a", request.instrument, request.side, price, quantity,
            price * quantity * FEE, "USDT", Liquidity.TAKER, self.now_ns,
        )  # fmt: skip
        self.session.on_fill(request_id, fill, self._hold(fill), self._pay(fill))
        done = before + quantity == request.quantity
        self.update(
            request_id,
            OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED,
            filled_quantity=before + quantity,
            average_price=price,
        )
        return fill

    def _hold(self, fill: Fill) -> PositionState:
        held = self.session.holding(fill.instrument)
        signed = fill.quantity * fill.side.sign
        total = held.quantity + signed
        average = held.average_price
        realised = held.realised_pnl
        if held.quantity * signed >= 0:
            average = ((average or Decimal(0)) * held.quantity + fill.price * signed) / total
        else:
            assert abs(signed) <= abs(held.quantity), "this desk does not turn positions over"
            assert average is not None
            realised += (fill.price - average) * -signed
        state = PositionState(fill.instrument, total, average if total else None, realised, held.fees + fill.fee)
        self.holdings[fill.instrument] = state
        return state

    def _pay(self, fill: Fill) -> dict[str, Decimal]:
        self.cash = {"USDT": self.cash["USDT"] - fill.price * fill.quantity * fill.side.sign - fill.fee}
        return self.cash

    @property
    def waiting(self) -> list[tuple[int, OrderRequest]]:
        """Orders that are not closed."""
        return [
            (request_id, request)
            for request_id, request in self.submitted
            if request_id not in self.orders or self.orders[request_id].is_open
        ]
