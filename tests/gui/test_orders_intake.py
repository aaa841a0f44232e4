"""Orders and fills on their way into the tables: few at once, thousands some a turn, a snapshot before all of them."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from pytestqt.qtbot import QtBot

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Liquidity, Order, OrderRequest, OrderStatus, OrderType
from koc_qt.link.messages import FillRecorded, OrderChanged
from koc_qt.link.replica import Replica
from koc_qt.ui.desk import Frame
from koc_qt.ui.panels.orders_columns import fill_columns, order_columns, position_columns
from koc_qt.ui.panels.orders_intake import AT_ONCE, SPARE, Intake
from koc_qt.ui.tables.model import RecordModel
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS

MANY = 5 * AT_ONCE
ETH = InstrumentId("sim", "ETH/USDT")


def order(number: int, status: OrderStatus = OrderStatus.ACCEPTED, instrument: InstrumentId = BTC) -> Order:
    request = OrderRequest(instrument, Side.BUY, OrderType.LIMIT, Decimal(1), Decimal(100))
    time_ns = START_NS + number
    return Order(f"order-{number}", "grid-1", "paper", request, time_ns, time_ns, status)


def fill(number: int) -> Fill:
    key = (f"fill-{number}", f"order-{number}", "grid-1", "paper")
    price, fee = Decimal(100), Decimal("0.01")
    return Fill(*key, BTC, Side.BUY, price, Decimal(1), fee, "USDT", Liquidity.TAKER, START_NS + number)


class Stage:
    """Four models that nobody looks at, fed from a replica."""

    def __init__(self, fake: FakeBench) -> None:
        columns = order_columns(lambda _: None)
        self.replica = Replica()
        self.open = RecordModel(columns, fake.theme, fake.window, limit=30_000)
        self.orders = RecordModel(columns, fake.theme, fake.window, limit=30_000)
        self.fills = RecordModel(fill_columns(lambda _: None), fake.theme, fake.window, limit=30_000)
        self.positions = RecordModel(position_columns(lambda _: None), fake.theme, fake.window)
        self.intake = Intake(self.replica, self.open, self.positions, self.fills, self.orders, fake.window)
        self.changes = 0
        self.intake.changed.connect(self._count)

    def _count(self) -> None:
        self.changes += 1

    def bring(self, *records: Order | Fill) -> None:
        """Have the replica know these, and a frame tell so."""
        frame = Frame()
        for record in records:
            if isinstance(record, Order):
                self.replica.apply(OrderChanged(record))
                frame.orders.add(record.client_order_id)
            else:
                self.replica.apply(FillRecorded(record))
                frame.fills.append(record)
        self.intake.take(frame)

    @property
    def totals(self) -> tuple[int, int, int]:
        return self.open.total, self.orders.total, self.fills.total


@pytest.fixture
def stage(fake: FakeBench) -> Stage:
    return Stage(fake)


def test_few_are_there_at_once(stage: Stage) -> None:
    stage.bring(order(1), order(2, OrderStatus.FILLED), fill(2))
    assert (stage.totals, stage.changes, stage.intake.is_busy) == ((1, 2, 1), 1, False)
    stage.bring(order(1, OrderStatus.CANCELED))
    assert (stage.totals, stage.changes) == ((0, 2, 1), 2)
    stage.intake.take(Frame())
    assert stage.changes == 2


def test_many_come_some_a_turn_and_as_they_are_by_then(stage: Stage, qtbot: QtBot) -> None:
    stage.bring(*(order(number) for number in range(MANY)), *(fill(number) for number in range(MANY)))
    assert stage.intake.is_busy
    assert stage.totals == (0, 0, 0)
    stage.bring(*(order(number, OrderStatus.FILLED) for number in range(MANY - 3, MANY)), fill(MANY))
    qtbot.waitUntil(lambda: not stage.intake.is_busy)
    assert (stage.totals, stage.changes) == ((MANY - 3, MANY, MANY + 1), 1)


def test_a_snapshot_makes_what_waits_moot(stage: Stage, qtbot: QtBot) -> None:
    stage.bring(*(order(number) for number in range(MANY)))
    assert stage.intake.is_busy
    stage.replica.orders.clear()
    stage.replica.open_orders.clear()
    stage.replica.apply(OrderChanged(order(1)))
    stage.intake.take_all()
    assert (stage.totals, stage.intake.is_busy) == ((1, 1, 0), False)
    stage.bring(order(2))
    assert stage.totals == (2, 2, 0)


def test_new_rules_have_what_they_are_about_written_anew(stage: Stage, qtbot: QtBot) -> None:
    stage.bring(*(order(number, instrument=ETH if number % 2 else BTC) for number in range(MANY)))
    qtbot.waitUntil(lambda: not stage.intake.is_busy and not stage.orders.is_busy)
    put: list[object] = []
    stage.orders.put = lambda key, record: put.append(key)  # type: ignore[method-assign]
    frame = Frame()
    frame.instruments.add(ETH)
    stage.intake.take(frame)
    qtbot.waitUntil(lambda: not stage.intake.is_busy)
    assert put == [f"order-{number}" for number in range(1, MANY, 2)]


def test_what_the_replica_has_let_go_of_goes(stage: Stage, qtbot: QtBot) -> None:
    stage.bring(*(order(number, OrderStatus.FILLED) for number in range(SPARE + 10)))
    qtbot.waitUntil(lambda: not stage.intake.is_busy)
    for number in range(SPARE + 10):
        del stage.replica.orders[f"order-{number}"]
    stage.bring(msgspec.structs.replace(order(9_999)))
    assert stage.totals == (1, 1, 0)
