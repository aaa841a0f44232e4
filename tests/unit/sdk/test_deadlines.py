"""When a session wants to hear of the time: the earlier of its timer and of what run() waits for."""

from __future__ import annotations

from koc_qt.sdk import Strategy
from koc_qt.sdk.script import Api, Data
from tests.unit.sdk.desk import SECOND_NS, START_NS, Desk


class Waiting(Strategy):
    async def run(self, api: Api, data: Data) -> None:
        await api.sleep(10)
        api.set_timer(3)
        await api.sleep(5)
        api.set_timer(7)
        await api.sleep(1)
        await data.bar()


def test_the_earlier_of_timer_and_wait_counts() -> None:
    desk = Desk(Waiting())
    seen: list[int | None] = [desk.session.next_deadline_ns]
    desk.session.start()
    for seconds in (0, 10, 5, 1):
        desk.advance(seconds)
        deadline_ns = desk.session.next_deadline_ns
        seen.append(None if deadline_ns is None else (deadline_ns - START_NS) // SECOND_NS)
    assert seen == [None, 10, 13, 16, 22]
