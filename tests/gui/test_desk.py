"""The desk on a fake engine: batches, commands, errors; and the streams that it keeps up."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec
import pytest
from pytestqt.qtbot import QtBot

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.link.client import LinkState
from koc_qt.link.history import History
from koc_qt.link.messages import (
    BarChanged,
    CancelOrder,
    FillRecorded,
    LogRecorded,
    NoticeGiven,
    OrderChanged,
    Subscribe,
    Unsubscribe,
)
from koc_qt.ui import turns
from koc_qt.ui.desk import Desk, Frame, Level
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS


def frames_of(desk: Desk) -> list[Frame]:
    frames: list[Frame] = []
    desk.framed.connect(frames.append)
    return frames


def bar(open_time_ns: int, close: float) -> Bar:
    return Bar(BTC, "1m", open_time_ns, 1.0, 9.0, 1.0, close, 1.0)


def test_the_snapshot_comes_as_one_frame(fake: FakeBench, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not fake.desk._timer.isActive())
    frames = frames_of(fake.desk)
    fake.client.lose()
    fake.client.connect()
    qtbot.waitUntil(lambda: bool(frames))
    assert [frame.snapshot for frame in frames] == [True]
    assert fake.desk.replica.accounts.keys() == {"paper"}
    assert fake.desk.is_connected


def test_what_happens_within_a_frame_comes_together(fake: FakeBench, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not fake.desk._timer.isActive())  # what came with the connection has been handed out
    frames = frames_of(fake.desk)
    order = fake.engine.place()
    fake.engine.fill(order.client_order_id)
    for number in range(100):
        fake.engine.quote(number + 1)
    for close in (2.0, 3.0):
        fake.engine.publish(BarChanged(bar(START_NS, close), closed=False))
    fake.engine.publish(BarChanged(bar(START_NS, 4.0), closed=True))
    fake.engine.publish(BarChanged(bar(START_NS + 60, 5.0), closed=False))
    qtbot.waitUntil(lambda: bool(frames))
    (frame,) = frames
    assert frame.orders == {order.client_order_id}
    assert [fill.client_order_id for fill in frame.fills] == [order.client_order_id]
    assert frame.quotes == {BTC}
    assert fake.desk.replica.quotes[BTC].bid == 100
    assert [(each.bar.close, each.closed) for each in frame.bars[BTC, "1m"]] == [(4.0, True), (5.0, False)]


def test_a_frame_waits_for_a_turn_that_has_time_and_comes_where_none_has(
    fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    qtbot.waitUntil(lambda: not fake.desk._timer.isActive())
    frames, asked = frames_of(fake.desk), list[bool]()
    monkeypatch.setattr(turns, "_began_ns", 0)  # of the clock: long ago
    waits = fake.desk._patience.waits

    def asking() -> bool:
        asked.append(waits())
        return asked[-1]

    monkeypatch.setattr(fake.desk._patience, "waits", asking)
    fake.engine.quote(1)
    qtbot.waitUntil(lambda: bool(frames))
    assert asked == [*[True] * turns.MOST_WAITS, False]


def test_log_lines_are_kept(fake: FakeBench, qtbot: QtBot) -> None:
    frames = frames_of(fake.desk)
    fake.engine.publish(LogRecorded(1, "INFO", "engine", "hello"))
    qtbot.waitUntil(lambda: any(frame.logs for frame in frames))
    assert [line.text for line in fake.desk.logs] == ["hello"]


def test_an_order_to_the_engine_that_fails_is_said(fake: FakeBench, qtbot: QtBot) -> None:
    fake.desk.send(CancelOrder("K99"))
    qtbot.waitUntil(lambda: bool(fake.notices))
    assert fake.notices[0].level is Level.ERROR
    assert "K99" in fake.texts[0]


def test_a_lost_engine_refuses_commands_with_a_reason(fake: FakeBench, qtbot: QtBot) -> None:
    fake.client.lose("gone")
    assert (fake.desk.link_state, fake.desk.link_reason) == (LinkState.LOST, "gone")
    fake.desk.send(CancelOrder("K1"))
    qtbot.waitUntil(lambda: bool(fake.notices))
    assert "no connection" in fake.texts[0]


def test_closing_ends_what_runs(fake: FakeBench, qtbot: QtBot) -> None:
    begun, ended = [], []

    async def endless() -> None:
        begun.append(True)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    fake.desk.start(endless())
    qtbot.waitUntil(lambda: bool(begun))
    closing = asyncio.get_running_loop().create_task(fake.desk.close())
    qtbot.waitUntil(closing.done)
    assert ended == [True]


def test_a_market_is_subscribed_once_for_all_who_watch(fake: FakeBench, qtbot: QtBot) -> None:
    streams = fake.bench.streams
    one, two, three = streams.watch(BTC, "1m"), streams.watch(BTC, "1m"), streams.watch(BTC)
    qtbot.waitUntil(lambda: streams.is_flowing(BTC, "1m"))
    assert fake.sent(Subscribe) == [Subscribe(BTC, ("1m",))]
    one.close()
    one.close()
    five = streams.watch(BTC, "5m")
    qtbot.waitUntil(lambda: streams.is_flowing(BTC, "5m"))
    assert fake.sent(Subscribe)[-1] == Subscribe(BTC, ("1m", "5m"))
    two.close()
    three.close()
    five.close()
    qtbot.waitUntil(lambda: bool(fake.sent(Unsubscribe)))
    assert not streams.is_flowing(BTC)


def test_streams_begin_again_with_each_connection(fake: FakeBench, qtbot: QtBot) -> None:
    streams, heard = fake.bench.streams, list[InstrumentId]()
    streams.subscribed.connect(heard.append)
    watch = streams.watch(BTC, "1m")
    qtbot.waitUntil(lambda: heard == [BTC])
    fake.client.lose()
    fake.client.connect()
    qtbot.waitUntil(lambda: heard == [BTC, BTC])
    watch.close()


def test_a_market_that_is_not_there_says_why(fake: FakeBench, qtbot: QtBot) -> None:
    streams, other = fake.bench.streams, InstrumentId("sim", "NO/PE")
    refused: list[InstrumentId] = []
    streams.refused.connect(refused.append)
    watch = streams.watch(other, "1m")
    qtbot.waitUntil(lambda: refused == [other])
    assert "NO/PE" in streams.troubles[other]
    watch.close()
    assert other not in streams.troubles


def test_history_comes_as_changes_of_orders_and_fills(fake: FakeBench, qtbot: QtBot) -> None:
    """Older records are told of once, and only where they were taken over."""
    fake.engine.recent = 1
    for _ in range(3):
        fake.engine.fill(fake.engine.place().client_order_id)
    frames = frames_of(fake.desk)
    qtbot.waitUntil(lambda: bool(frames))
    history = History(*fake.engine.history(), page=1)
    fake.engine.publish(msgspec.structs.replace(fake.engine.snapshot(), older=history.left))
    qtbot.waitUntil(lambda: len(frames) == 2)
    assert frames[1].snapshot
    assert list(fake.desk.replica.orders) == ["K00003"]
    late = msgspec.structs.replace(fake.engine.orders["K00001"], average_price=Decimal(7))
    fake.engine.publish(OrderChanged(late))
    fake.engine.publish(FillRecorded(fake.engine.fills["T00001"]))
    qtbot.waitUntil(lambda: len(frames) == 3)
    assert not frames[2].older
    while history.left:
        fake.engine.publish(history.next_page())
    qtbot.waitUntil(lambda: len(frames) == 4)
    assert (frames[3].snapshot, frames[3].older) == (False, True)
    assert frames[3].orders == {"K00002"}
    assert [fill.fill_id for fill in frames[3].fills] == ["T00002"]
    assert list(fake.desk.replica.orders) == ["K00001", "K00002", "K00003"]
    assert fake.desk.replica.orders["K00001"] == late
    assert fake.desk.replica.has_history


def test_what_the_engine_wants_said_is_said_once(fake: FakeBench) -> None:
    moved, other = "The keys of kraken-1 were moved into the keyring.", "Another."
    snapshot = msgspec.structs.replace(fake.engine.snapshot(), notices=(moved,))
    fake.engine.publish(snapshot)
    fake.engine.publish(NoticeGiven(moved))
    fake.engine.publish(snapshot)
    fake.engine.publish(NoticeGiven(other))
    assert [(notice.text, notice.level) for notice in fake.notices] == [(moved, Level.WARNING), (other, Level.WARNING)]
