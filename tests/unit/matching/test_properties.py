"""What holds whatever orders come and whatever the market does."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from koc_qt.domain.market import Bar, Book, BookLevel, Quote, Side, Trade
from koc_qt.domain.matching import QueueModel
from koc_qt.domain.orders import Liquidity, OrderAmended, OrderFilled, OrderStatus, TimeInForce
from tests.unit.matching.desk import BTC, BUY, D, Desk, order

KEYS = [f"o{number}" for number in range(12)]
ticks = st.integers(9_500, 10_500).map(lambda cents: Decimal(cents) / 100)
sizes = st.integers(0, 4_000).map(lambda lots: Decimal(lots) / 1000)
lots = st.integers(1, 4_000).map(lambda lots: Decimal(lots) / 1000)
sides = st.sampled_from(Side)


@st.composite
def orders(draw):
    key, side, quantity = draw(st.sampled_from(KEYS)), draw(sides), draw(lots)
    limit = draw(st.none() | ticks)
    stop = draw(st.none() | st.none() | ticks)
    tif = draw(st.sampled_from(TimeInForce))
    post_only = limit is not None and stop is None and tif is TimeInForce.GTC and draw(st.booleans())
    return order(
        key, side, quantity, limit, stop=stop, tif=tif, post_only=post_only, reduce_only=draw(st.integers(0, 4)) == 0
    )


@st.composite
def quotes(draw):
    bid = draw(ticks)
    return Quote(BTC, 0, bid, draw(sizes), bid + draw(st.integers(1, 50)) / Decimal(100), draw(sizes))


@st.composite
def books(draw):
    mid = draw(ticks)
    steps = st.lists(st.tuples(st.integers(1, 100), sizes), max_size=4)

    def side(sign):
        price, levels = mid, []
        for step, size in draw(steps):
            price += sign * Decimal(step) / 100
            levels.append(BookLevel(price, size))
        return tuple(levels)

    return Book(BTC, 0, side(-1), side(+1))


trades = st.builds(lambda price, size, side: Trade(BTC, 0, price, size, side, "t"), ticks, lots, sides)


@st.composite
def bars(draw):
    low, a, b, high = sorted(float(draw(ticks)) for _ in range(4))
    opening, close = draw(st.permutations((a, b)))
    return Bar(BTC, "1m", 0, opening, high, low, close, float(draw(sizes)) * 10)


cancels = st.sampled_from(KEYS)
amends = st.tuples(st.sampled_from(KEYS), lots, st.none() | ticks)
tick_steps = st.lists(st.one_of(orders(), orders(), cancels, amends, quotes(), books(), trades), max_size=40)
bar_steps = st.lists(st.one_of(orders(), cancels, amends, bars(), bars()), max_size=40)
steps_of_either = st.one_of(tick_steps, bar_steps)
models = st.fixed_dictionaries(
    {
        "queue": st.sampled_from(QueueModel),
        "slippage_ticks": st.integers(0, 3),
        "latency_ns": st.sampled_from([0, 0, 2]),
        "latency_jitter_ns": st.sampled_from([0, 0, 3]),
        "bar_volume_fraction": st.sampled_from([None, D("0.1"), D(1)]),
    }
)
accounts = st.sampled_from([(10_000, 100, False), (150, 1, False), (500, 1, True), (1_000, -3, True), (0, 0, True)])


class Run:
    """Plays steps to a desk, one nanosecond each, and checks after each what must always hold."""

    def __init__(self, steps, model, account, seed=7):
        usdt, btc, allow_short = account
        self.start = {"USDT": Fraction(usdt), "BTC": Fraction(btc)}
        self.allow_short = allow_short
        self.desk = Desk(usdt=usdt, btc=btc, allow_short=allow_short, rng=random.Random(seed), **model)
        self.steps = 0
        self.sent = {}
        for step in steps:
            self.play(step)
        for key in KEYS:
            self.play(key)
        self.desk.note(self.desk.engine.advance(10**9))
        self.check()

    def play(self, step):
        self.steps += 1
        desk, now_ns = self.desk, self.steps
        if isinstance(step, str):
            if step in desk.orders:
                desk.cancel(step, now_ns)
        elif isinstance(step, tuple):
            key, quantity, price = step
            if key in desk.orders:
                desk.amend(key, quantity, price, now_ns)
        elif isinstance(step, (Quote, Book, Trade)):
            desk.feed(type(step)(**{**fields(step), "time_ns": now_ns}))
        elif isinstance(step, Bar):
            desk.feed(Bar(**{**fields(step), "open_time_ns": now_ns}))
        elif step.client_order_id not in desk.orders:
            self.sent[step.client_order_id] = step
            desk.send(step, now_ns)
        self.check()

    @property
    def limits(self):
        """Give the limit of each fill's order, as it was when it was filled, by the fill's id."""
        now, at_fill = {key: known.request.price for key, known in self.sent.items()}, {}
        for event in self.desk.events:
            if isinstance(event, OrderAmended):
                now[event.client_order_id] = event.price
            elif isinstance(event, OrderFilled):
                at_fill[event.fill.fill_id] = now[event.client_order_id]
        return at_fill

    @property
    def fills(self):
        return [event.fill for event in self.desk.events if isinstance(event, OrderFilled)]

    def check(self):
        desk = self.desk
        held = dict(self.start)
        limits = self.limits
        for fill in self.fills:
            held["BTC"] += fill.side.sign * Fraction(fill.quantity)
            held["USDT"] -= fill.side.sign * Fraction(fill.price) * Fraction(fill.quantity) + Fraction(fill.fee)
            limit = limits[fill.fill_id]
            assert limit is None or (fill.price <= limit if fill.side is BUY else fill.price >= limit)
        for balance in desk.engine.balances:
            assert Fraction(balance.total) == held.get(balance.currency, 0)  # by fills and fees alone, exactly
            assert balance.locked >= 0
            if not self.allow_short:
                assert balance.total >= balance.locked
            if not desk.engine.open_orders:
                assert balance.locked == 0
        for report in desk.engine.open_orders:
            known = desk.orders[report.client_order_id]
            assert report.status is known.status
            assert (report.quantity, report.price) == (known.request.quantity, known.request.price)
            assert {fill.fill_id for fill in report.fills} == set(known.fill_ids)


def fields(value):
    return {name: getattr(value, name) for name in value.__struct_fields__}


@given(steps_of_either, models, accounts)
@settings(max_examples=300)
def test_money_locks_and_limits_hold_after_every_step(steps, model, account):
    """Desk plays every event through the real state machine, so overfills and fills of ended orders raise there."""
    run = Run(steps, model, account)
    assert run.desk.engine.open_orders == ()
    for known in run.desk.orders.values():
        assert known.status.is_terminal
        assert known.filled_quantity <= known.request.quantity


@given(steps_of_either, models, accounts)
def test_the_promises_of_each_order_kind(steps, model, account):
    run = Run(steps, model, account)
    for known in run.desk.orders.values():
        request = known.request
        fills = [fill for fill in run.fills if fill.client_order_id == known.client_order_id]
        if request.time_in_force is TimeInForce.FOK:
            assert known.filled_quantity in (0, request.quantity)
        if request.post_only:
            assert all(fill.liquidity is Liquidity.MAKER for fill in fills)
        if request.time_in_force is not TimeInForce.GTC and request.stop_price is None:
            assert all(fill.liquidity is Liquidity.TAKER for fill in fills)
        events = [event for event in run.desk.events if event.client_order_id == known.client_order_id]
        if known.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED):
            ends = [at for at, event in enumerate(events) if type(event).__name__[5:].lower() == known.status.value]
            assert not any(isinstance(event, OrderFilled) for event in events[ends[0] :])


@given(tick_steps, models, accounts)
def test_ioc_and_fok_never_stay_where_a_ladder_is_known(steps, model, account):
    run = Run([], model, account)
    run.play(Quote(BTC, 0, D(99), D(1), D(101), D(1)))
    for step in steps:
        run.play(step)
        for report in run.desk.engine.open_orders:
            request = run.desk.orders[report.client_order_id].request
            assert request.time_in_force is TimeInForce.GTC or report.status is OrderStatus.ACCEPTED
            assert request.time_in_force is TimeInForce.GTC or request.stop_price is not None


@given(steps_of_either, models, accounts)
def test_the_same_seed_gives_the_same_events(steps, model, account):
    assert Run(steps, model, account).desk.events == Run(steps, model, account).desk.events


@given(books(), st.lists(orders(), max_size=8, unique_by=lambda sent: sent.client_order_id), models)
def test_takers_never_take_more_of_a_level_than_it_shows(shown, sent, model):
    run = Run([shown, *sent, shown], {**model, "slippage_ticks": 0}, (10_000, 100, False))
    taken: dict[tuple[Side, Decimal], Decimal] = {}
    for fill in run.fills:
        if fill.liquidity is Liquidity.TAKER:
            level = (fill.side, fill.price)
            taken[level] = taken.get(level, D(0)) + fill.quantity
    for (side, price), quantity in taken.items():
        levels = shown.asks if side is BUY else shown.bids
        assert quantity <= sum(level.quantity for level in levels if level.price == price)


@given(trades, st.lists(orders(), max_size=8, unique_by=lambda sent: sent.client_order_id), st.sampled_from(QueueModel))
def test_resting_orders_never_share_more_than_the_trade(traded, sent, queue):
    run = Run([], {"queue": queue}, (10_000, 100, False))
    run.play(Quote(BTC, 0, D(99), D(1), D(101), D(1)))
    for one in sent:
        run.play(one)
    before = len(run.fills)
    run.play(traded)
    made = [fill for fill in run.fills[before:] if fill.liquidity is Liquidity.MAKER]
    assert sum(fill.quantity for fill in made) <= traded.quantity


@given(bars(), st.lists(orders(), max_size=8, unique_by=lambda sent: sent.client_order_id))
def test_a_bar_gives_no_price_that_it_did_not_have_and_no_more_than_its_share(shown, sent):
    run = Run([], {}, (10_000, 100, False))
    run.play(Bar(BTC, "1m", 0, 100.0, 100.0, 100.0, 100.0, 0.0))
    for one in sent:
        run.play(one)
    run.play(shown)
    assert sum(fill.quantity for fill in run.fills) <= D(shown.volume) / 10
    for fill in run.fills:
        if fill.liquidity is Liquidity.TAKER:
            assert D(shown.low) <= fill.price <= D(shown.high)
        else:  # a maker's price may be worse for it than the bar's, never better
            assert fill.price >= D(shown.low) if fill.side is BUY else fill.price <= D(shown.high)


@given(steps_of_either, models, accounts, st.integers(0, 40))
def test_a_restart_at_any_moment_keeps_the_money(steps, model, account, cut):
    run = Run([], {**model, "latency_ns": 0, "latency_jitter_ns": 0}, account)
    for step in steps[:cut]:
        run.play(step)
    usdt, btc, allow_short = account
    again = Desk(usdt=usdt, btc=btc, allow_short=allow_short)
    again.orders = dict(run.desk.orders)
    again.note(again.engine.restore(run.desk.orders.values(), run.fills))
    for currency in ("USDT", "BTC"):
        assert again.total(currency) == run.desk.total(currency)
    still_open = {report.client_order_id for report in again.engine.open_orders}
    before = {report.client_order_id: report for report in run.desk.engine.open_orders}
    assert still_open <= before.keys()
    for report in again.engine.open_orders:
        assert report.fills == before[report.client_order_id].fills
        again.cancel(report.client_order_id, 10**9)
    assert again.locked("USDT") == again.locked("BTC") == 0
