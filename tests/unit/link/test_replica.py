"""The replica agrees with the engine, whatever happens in whatever order."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.accounts import AccountLimits
from koc_qt.domain.backtests import BacktestSnapshot, BacktestSpec
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Book, Side, StreamState, Trade
from koc_qt.domain.risk import RiskLimits
from koc_qt.domain.state import DownloadSnapshot, JobState, StrategyState
from koc_qt.domain.trust import DriftReport, TrustSnapshot, TrustSpec, Verdict
from koc_qt.domain.venues import Quota
from koc_qt.link.account_messages import AccountLimitsChanged
from koc_qt.link.codec import UnreadableError, decode_command, decode_fact, encode_fact, number_fact
from koc_qt.link.history import History
from koc_qt.link.messages import (
    AccountChanged,
    AccountRemoved,
    BacktestChanged,
    BookChanged,
    DownloadChanged,
    EngineChanged,
    Fact,
    LogRecorded,
    PositionChanged,
    QuoteChanged,
    Resync,
    Snapshot,
    StrategyChanged,
    StreamChanged,
    TradePrinted,
    VenueChanged,
)
from koc_qt.link.replica import Replica
from koc_qt.link.session import Session, stream_of
from koc_qt.link.trust_messages import DriftMeasured, TrustChanged
from tests.fakes.link import BTC, START_NS, FakeEngine, strategy_snapshot


def test_every_fact_finds_its_place() -> None:
    engine = FakeEngine()
    engine.stream(StreamState.ENDED, "delisted")
    engine.downloads["d"] = DownloadSnapshot("d", BTC, "1m", 0, 1, JobState.DONE, "", 1.0, 9, START_NS)
    asked = BacktestSpec("/a.py", (BTC,), "1m", 0, 1)
    engine.backtests["b"] = BacktestSnapshot(
        "b", asked, JobState.RUNNING, "", "run", 0.5, 9, 1, 10_000.5, 2.5, START_NS, START_NS
    )
    check = TrustSnapshot(
        "t", TrustSpec(asked), JobState.RUNNING, "", "parity", 0.5, 9, Verdict.GREEN, {}, START_NS, START_NS
    )
    drift = DriftReport("sma-1", "sim", Verdict.GREEN, "", 0, 1, START_NS)
    snapshot = msgspec.structs.replace(engine.snapshot(), trust=(check,), drift=(drift,))
    facts: list[Fact] = [
        EngineChanged(snapshot.engine),
        *(VenueChanged(venue) for venue in snapshot.venues),
        *(AccountChanged(account) for account in snapshot.accounts),
        *(PositionChanged(position) for position in snapshot.positions),
        *(DownloadChanged(download) for download in snapshot.downloads),
        *(BacktestChanged(backtest) for backtest in snapshot.backtests),
        *(TrustChanged(trust) for trust in snapshot.trust),
        *(DriftMeasured(each) for each in snapshot.drift),
        *(StreamChanged(stream) for stream in snapshot.streams),
        StrategyChanged(strategy_snapshot()),
        StrategyChanged(strategy_snapshot(state=StrategyState.STOPPED)),
        BookChanged(Book(BTC, START_NS, (), ())),
        TradePrinted(Trade(BTC, START_NS, engine.quote(1).bid, engine.quote(1).bid, Side.BUY, "1")),
        QuoteChanged(engine.quote(5)),
        LogRecorded(START_NS, "INFO", "x", "y"),
    ]
    from_facts, from_snapshot = Replica(), Replica()
    for fact in facts * 2:
        from_facts.apply(fact)
    from_snapshot.apply(snapshot)
    engine_limits = AccountLimits("paper", (Quota("orders", 1, 2, 3.0),))
    from_facts.apply(AccountLimitsChanged(engine_limits))
    from_snapshot.apply(msgspec.structs.replace(snapshot, limits=(engine_limits,), risk=RiskLimits()))
    assert from_facts.limits == from_snapshot.limits == {"paper": engine_limits}
    assert from_snapshot.risk == RiskLimits()
    from_snapshot.apply(AccountRemoved("paper"))
    assert from_snapshot.limits == {}
    from_snapshot.apply(snapshot)
    for name in ("engine", "venues", "accounts", "positions", "downloads", "backtests", "trust", "drift", "streams"):
        assert getattr(from_facts, name) == getattr(from_snapshot, name)
    assert from_facts.strategies["sma-1"].state is StrategyState.STOPPED
    assert (len(from_facts.books), len(from_facts.trades)) == (1, 1)
    assert from_facts.quotes[BTC].bid == 5
    assert list(from_snapshot.instruments) == [BTC]


def test_the_oldest_make_way_but_no_open_order() -> None:
    replica, engine = Replica(limit=3), FakeEngine()
    engine.publish = replica.apply
    first = engine.place()
    for _ in range(5):
        engine.fill(engine.place().client_order_id)
    assert list(replica.orders) == [first.client_order_id, "K00005", "K00006"]
    assert replica.open_orders == {first.client_order_id: first}
    assert [fill_id for _, fill_id in replica.fills] == ["T00003", "T00004", "T00005"]
    for _ in range(5):
        engine.place()
    assert all(order.is_open for order in replica.orders.values())
    assert len(replica.orders) == 6
    assert list(replica.open_orders.items()) == list(replica.orders.items())
    replica.apply(FakeEngine().snapshot())
    assert not replica.open_orders


def told(engine: FakeEngine) -> tuple[bytes, History]:
    """Give what the server tells first, and later."""
    history = History(*engine.history(), page=2)
    return encode_fact(msgspec.structs.replace(engine.snapshot(), older=history.left)), history


def traded(engine: FakeEngine, count: int) -> None:
    """Trade a few times."""
    for _ in range(count):
        engine.fill(engine.place().client_order_id)


def test_history_takes_its_place_before_what_is_known() -> None:
    engine, replica = FakeEngine(recent=2), Replica()
    traded(engine, 3)
    resting = engine.place()
    traded(engine, 4)
    encoded, history = told(engine)
    replica.apply(decode_fact(number_fact(0, encoded)).fact)
    orders, fills = list(engine.orders), [("paper", key) for key in engine.fills]
    assert list(replica.orders) == [resting.client_order_id, *orders[-2:]]
    assert list(replica.fills) == fills[-2:]
    assert not replica.has_history
    late = msgspec.structs.replace(engine.orders["K00002"], average_price=Decimal(7))  # of which the pages do not know
    engine.publish = replica.apply
    engine._put(late)
    traded(engine, 1)
    live = list(engine.orders)[-1]
    pages = []
    while history.left:
        pages.append(history.next_page())
        replica.apply(pages[-1])
        assert replica.has_history == pages[-1].is_last
    assert [(len(page.orders), len(page.fills)) for page in pages] == [(2, 2), (2, 2), (1, 1)]
    assert replica.orders == engine.orders
    told_last = [resting.client_order_id, *orders[-2:], live]
    assert list(replica.orders) == [key for key in orders if key not in told_last] + told_last
    assert replica.orders["K00002"] is late
    assert list(replica.fills) == [("paper", key) for key in engine.fills]
    for page in pages:
        replica.apply(page)
    assert list(replica.fills) == [("paper", key) for key in engine.fills]


def test_history_for_which_there_is_no_room_is_left_out() -> None:
    engine, replica = FakeEngine(recent=2), Replica(limit=4)
    traded(engine, 9)
    encoded, history = told(engine)
    replica.apply(decode_fact(number_fact(0, encoded)).fact)
    while history.left:
        replica.apply(history.next_page())
    assert list(replica.orders) == ["K00006", "K00007", "K00008", "K00009"]
    assert [fill_id for _, fill_id in replica.fills] == ["T00006", "T00007", "T00008", "T00009"]
    assert replica.has_history


ACTIONS = st.lists(
    st.sampled_from(["place", "fill", "cancel", "quote", "send", "lose", "snapshot", "page"]), min_size=1, max_size=60
)


@given(ACTIONS, st.integers(1, 5), st.none() | st.integers(0, 3), st.integers(0, 9))
def test_a_client_that_follows_the_rules_is_always_right_in_the_end(
    actions: list[str], limit: int, recent: int | None, before: int
) -> None:
    """Any mix of changes, slow reading, overflow and lost messages ends in the engine's own state."""
    engine, replica, session = FakeEngine(recent=recent), Replica(), Session(b"id", "client", limit, 0.0)
    traded(engine, before)
    expected = 0

    def publish(fact: Fact) -> None:
        if (stream := stream_of(fact)) is not None:
            session.offer_newest(stream, encode_fact(fact))
            return
        session.offer(encode_fact(fact))
        if session.is_full:
            session.resync()

    def deliver(*, lost: bool = False) -> None:
        nonlocal expected
        body = session.next_body()
        session.sent()
        if not body:
            return
        sequence, fact = (envelope := decode_fact(body)).sequence, envelope.fact
        if sequence and (lost or sequence != expected):
            expected = expected if lost else 0
            return
        match fact:
            case Snapshot():
                expected = 1
            case Resync():
                expected = 0
            case _ if sequence:
                expected += 1
        replica.apply(fact)

    def drain() -> None:
        while not session.is_idle or session.has_history:
            session.offer_page()
            deliver()

    def ask() -> None:
        if not session._snapshot_waits:
            session.offer_snapshot(*told(engine))

    engine.publish = publish
    ask()
    for action in actions:
        open_orders = [order for order in engine.orders.values() if order.is_open]
        if action == "place":
            engine.place()
        elif action == "quote":
            engine.quote(len(actions))
        elif action in ("fill", "cancel") and open_orders:
            getattr(engine, action)(open_orders[0].client_order_id)
        elif action == "send":
            deliver()
        elif action == "lose":
            deliver(lost=True)
        elif action == "snapshot":
            ask()
        elif action == "page":
            session.offer_page()
    drain()
    engine.place()  # shows a gap, if there was one
    drain()
    if expected == 0:
        ask()
        drain()
    assert replica.orders == engine.orders
    assert replica.open_orders == {key: order for key, order in engine.orders.items() if order.is_open}
    assert list(replica.fills.values()) == list(engine.fills.values())
    assert replica.has_history


@given(st.binary(max_size=200))
def test_no_bytes_bring_the_decoders_down(body: bytes) -> None:
    for decode in (decode_command, decode_fact):
        with contextlib.suppress(UnreadableError):
            decode(body)


def test_a_fact_survives_the_wire() -> None:
    fact = StrategyChanged(strategy_snapshot(metrics={"x": 1.5}))
    envelope = decode_fact(number_fact(7, encode_fact(fact)))
    assert (envelope.sequence, envelope.fact) == (7, fact)
    other = InstrumentId("sim", "ETH/USDT")
    assert stream_of(QuoteChanged(msgspec.structs.replace(FakeEngine().quote(1), instrument=other))) == (
        "quote",
        other,
        "",
    )
    with pytest.raises(UnreadableError):
        decode_fact(b"")
