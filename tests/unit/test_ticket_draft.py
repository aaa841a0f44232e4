"""The order ticket's arithmetic, held against the engine's own rules and against what was typed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import OrderRequest, OrderType, TimeInForce
from koc_qt.domain.risk import RiskContext, RiskLimits, check
from koc_qt.domain.state import AccountSnapshot, Balance, TradingMode, VenueState
from koc_qt.ui.panels.ticket_draft import Entry, describe, examine, money, share_text, stepped
from koc_qt.ui.panels.ticket_numbers import BadNumber, read_amount

D = Decimal
BTC = InstrumentId("sim", "BTC/USDT")
BOUNDLESS = RiskLimits(D("1e60"), D("1e60"), 50, 300, D("1e40"), D("1e60"))

steps = st.sampled_from([D("0.01"), D("0.5"), D("0.00001"), D(1), D(10), D("0.25")])
typed = st.one_of(
    st.decimals(min_value=0, max_value=D("1e6"), places=3).map(str),
    st.decimals(min_value=0, max_value=D("1e20"), places=6).map(str),
    st.integers(0, 10**9).map(str),
    st.text(alphabet="0123456789., -+eE_'\u00a0\u0663\uff11", max_size=14),
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Give any ticket on any market."""
    rules = Instrument(
        BTC,
        "BTC",
        "USDT",
        draw(steps),
        draw(steps),
        min_quantity=draw(st.sampled_from([D(0), D("0.003"), D(3)])),
        max_quantity=draw(st.sampled_from([None, D(1000), D("99.999")])),
        min_notional=draw(st.sampled_from([D(0), D(5), D("1000.1")])),
        taker_fee=draw(st.sampled_from([D(0), D("0.001"), D("-0.0001")])),
    )
    bid = draw(st.none() | st.decimals(min_value=D("0.01"), max_value=D("1e6"), places=2))
    return Entry(
        rules,
        draw(st.sampled_from(Side)),
        draw(st.sampled_from(OrderType)),
        draw(typed),
        draw(typed),
        draw(typed),
        draw(st.booleans()),
        draw(st.sampled_from(TimeInForce)),
        draw(st.booleans()),
        draw(st.booleans()),
        bid,
        bid + 1 if bid is not None else None,
    )


def refusal(request: OrderRequest, rules: Instrument, reference: Decimal) -> str:
    """Say what the engine would hold against an order by the instrument's rules; empty for nothing."""
    context = RiskContext(rules, reference, D(0), D(0), D(0), 0, 0, D(0))
    try:
        check(request, context, BOUNDLESS)
    except InvalidOrder as error:
        return str(error)
    return ""


@given(entries())
def test_what_the_ticket_lets_pass_the_engine_takes(entry: Entry) -> None:
    draft = examine(entry)
    if draft.request is None:
        assert draft.problems or draft.missing
        return
    request = draft.request
    reference = entry.ask if entry.side is Side.BUY else entry.bid
    if reference is not None:
        request = OrderRequest(
            **{**{name: getattr(request, name) for name in request.__struct_fields__}, "reduce_only": False}
        )
        assert refusal(request, entry.rules, reference) == ""
    assert describe(request, entry.rules).startswith(entry.side.capitalize())
    money(draft.notional, entry.rules)
    money(draft.fee, entry.rules, 2)


@given(entries())
def test_what_the_ticket_refuses_the_engine_would_refuse_too(entry: Entry) -> None:
    draft = examine(entry)
    reference = entry.ask if entry.side is Side.BUY else entry.bid
    if draft.request is not None or entry.is_amount or reference is None:
        return
    try:
        request = OrderRequest(
            BTC,
            entry.side,
            entry.type,
            read_amount(entry.quantity),
            read_amount(entry.price) if entry.type in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None,
            read_amount(entry.stop_price) if entry.type in (OrderType.STOP, OrderType.STOP_LIMIT) else None,
            entry.time_in_force if entry.type in (OrderType.LIMIT, OrderType.STOP_LIMIT) else TimeInForce.GTC,
            entry.post_only and entry.type is OrderType.LIMIT,
        )
    except (BadNumber, InvalidOrder):
        return  # refused by anyone
    assert refusal(request, entry.rules, reference) != ""


@given(entries(), st.sampled_from([25, 50, 75, 100]), st.decimals(min_value=0, max_value=D("1e12"), places=8))
def test_a_share_is_never_more_than_there_is(entry: Entry, percent: int, held: Decimal) -> None:
    balances = (Balance("BTC", held + 1, D(1)), Balance("USDT", held + 1, D(1)))
    account = AccountSnapshot("a", "sim", TradingMode.PAPER, VenueState.CONNECTED, balances, 0)
    draft = examine(entry)
    try:
        text = share_text(entry, draft, percent, account)
    except BadNumber:
        return
    value = read_amount(text)
    if entry.side is Side.SELL and not entry.is_amount:
        assert value <= held * percent / 100
        assert value % entry.rules.lot_size == 0
    if entry.side is Side.BUY and entry.is_amount:
        assert value <= held * percent / 100 or draft.fee_rate < 0


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        value = read_amount(text)
    except BadNumber:
        return
    assert 0 < value < D("1e18")


@given(st.decimals(min_value=D("0.000001"), max_value=D("1e17"), places=6))
def test_a_number_as_the_program_shows_it_is_read_back_exactly(value: Decimal) -> None:
    assert read_amount(f"{value:f}") == value
    assert read_amount(f"{value:,f}".replace(",", "\u202f")) == value
    assert read_amount(f"{value:,f}") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" 0.5 ", "0.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("007", "7"),
        ("1,234.5", "1234.5"),
        ("1,234,567", "1234567"),
        ("10 000", "10000"),
        ("10\u202f000.25", "10000.25"),
    ],
)
def test_what_is_taken(text: str, value: str) -> None:
    assert read_amount(text) == D(value)


@pytest.mark.parametrize(
    "text",
    ["", "1 0", "1,2,3", "1.234,5", "1.2.3", "1_000", "+5", "0x10", "1e3", "inf", "1,234", "12,34.5", "1'000", "0,001"],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(BadNumber):
        read_amount(text)


def test_a_step_stays_on_the_grid_and_above_zero() -> None:
    rules = Instrument(BTC, "BTC", "USDT", D("0.50"), D(1))
    assert stepped(rules, "100.3", 1) == "101.0"
    assert stepped(rules, "0.5", -1) == "0.5"
    assert stepped(rules, "soon", 1) == "soon"
