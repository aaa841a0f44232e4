"""Engines held against each other: what is equal, and how the first difference is explained."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.backtests import Provenance
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill
from koc_qt.domain.parity import (
    PAPER,
    Absence,
    Cause,
    Certificate,
    Comparison,
    EngineRun,
    certify,
    compare,
    engine_run,
    executions,
    pair,
)
from koc_qt.domain.trips import round_trips
from koc_qt.domain.trust import Placement, Verdict, utc_text, worst
from tests.unit.domain.examples import ETH, MINUTE_NS, START_NS, fill
from tests.unit.reports.examples import result

SECOND_NS = 1_000_000_000
Made = tuple[Any, ...]  # minute, side, price; quantity and fee where they are not 1 and 0.1


def fills(*made: Made, late_ns: int = 0, **fields: Any) -> tuple[Fill, ...]:
    found = []
    for number, (minute, side, price, *rest) in enumerate(made):
        quantity, fee = rest[0] if rest else "1", rest[1] if len(rest) > 1 else "0.1"
        values = {"client_order_id": f"o{number}"} | fields
        found.append(
            fill(
                f"f{number}", quantity, price, fee=Decimal(fee), side=Side(side),
                time_ns=START_NS + minute * MINUTE_NS + late_ns, **values,
            )
        )  # fmt: skip
    return tuple(found)


def run(source: str, made: tuple[Fill, ...], **fields: Any) -> EngineRun:
    return EngineRun(source, made, tuple(round_trips(made)), **fields)


FOUR: tuple[Made, ...] = ((1, "buy", "100"), (3, "sell", "101.5"), (7, "buy", "99"), (9, "sell", "98"))


def against(*made: Made, expected: tuple[Made, ...] = FOUR, source: str = "vectorbt", late_ns: int = 0) -> Comparison:
    found = run(source, fills(*made, late_ns=late_ns))
    return compare(run("replay", fills(*expected)), found, bar_ns=MINUTE_NS)


def first(comparison: Comparison) -> tuple[Cause, int, str]:
    assert comparison.first is not None
    assert comparison.first.sentence in comparison.sentence
    return comparison.first.cause, comparison.first.number, comparison.first.sentence


def test_engines_that_agree_get_a_green_certificate() -> None:
    proof = Provenance("d", "s", "t", "r", {"koc": "1"})
    runs = [run(name, fills(*FOUR), provenance=proof) for name in ("replay", "vectorbt")]
    absent = (Absence("backtrader", "it is not installed"),)
    certificate = certify(runs, absent, bar_ns=MINUTE_NS)
    assert certificate.verdict is Verdict.GREEN
    assert certificate.sentence == "vectorbt and replay made the same 4 fills."
    assert certificate.engines == ("replay", "vectorbt")
    assert certificate.absent == absent
    assert certificate.provenance == {"replay": proof, "vectorbt": proof}
    [comparison] = certificate.comparisons
    assert (comparison.fills, comparison.fills_expected, comparison.fills_equal) == (4, 4, 4)
    assert (comparison.trades, comparison.trades_expected, comparison.trades_equal) == (2, 2, 2)
    assert (comparison.largest, comparison.first) == (0.0, None)
    assert msgspec.json.decode(msgspec.json.encode(certificate), type=Certificate) == certificate


def test_where_an_engine_broke_off_nothing_is_green() -> None:
    runs = [run(name, fills(*FOUR)) for name in ("replay", "vectorbt")]
    broken = Absence("backtrader", "its result cannot be trusted", is_failure=True)
    certificate = certify(runs, (broken, Absence(PAPER, "there is none")), bar_ns=MINUTE_NS)
    assert certificate.verdict is Verdict.AMBER
    assert certificate.sentence == (
        "vectorbt and replay made the same 4 fills. backtrader broke off: its result cannot be trusted."
    )
    assert [each.sentence for each in certificate.absent] == [
        "backtrader broke off: its result cannot be trusted",
        "paper took no part: there is none",
    ]
    assert certify(runs[:1], (broken,), bar_ns=MINUTE_NS).verdict is Verdict.AMBER


def test_one_engine_alone_proves_nothing_and_one_twice_is_a_mistake() -> None:
    alone = certify([run("replay", fills(*FOUR))], bar_ns=MINUTE_NS)
    assert (alone.verdict, alone.sentence) == (Verdict.NONE, "Nothing was compared: only replay took part.")
    assert certify([], bar_ns=MINUTE_NS).sentence == "Nothing was compared: no engine took part."
    with pytest.raises(ValueError, match="replay, replay"):
        certify([run("replay", ())] * 2, bar_ns=MINUTE_NS)


def test_a_session_has_a_run_of_its_own() -> None:
    session = against((1, "buy", "100.5"), source=PAPER, expected=FOUR[:1])
    certificate = certify([run("replay", fills(*FOUR))], bar_ns=MINUTE_NS, session=session)
    assert certificate.engines == ("replay", PAPER)
    assert certificate.comparisons == (session,)
    assert (certificate.verdict, certificate.sentence) == (Verdict.AMBER, session.sentence)


def test_engines_that_did_nothing_prove_nothing() -> None:
    certificate = certify([run("replay", ()), run("vectorbt", ())], bar_ns=MINUTE_NS)
    assert (certificate.verdict, certificate.sentence) == (
        Verdict.NONE,
        "vectorbt and replay made no fill: there is nothing to compare.",
    )


def test_the_worst_engine_decides_and_is_named() -> None:
    cheap = run("vectorbt", fills(*FOUR[:3], (9, "sell", "98.5")))
    short = run("backtrader", fills(*FOUR[:2]))
    certificate = certify([run("replay", fills(*FOUR)), cheap, short], bar_ns=MINUTE_NS)
    assert certificate.verdict is Verdict.RED
    assert certificate.sentence == certificate.comparisons[1].sentence
    assert [each.verdict for each in certificate.comparisons] == [Verdict.AMBER, Verdict.RED]


def test_a_price_is_explained_and_is_no_other_decision() -> None:
    found = against(*FOUR[:2], (7, "buy", "99.5"), FOUR[3])
    assert found.verdict is Verdict.AMBER
    assert first(found) == (
        Cause.PRICE,
        3,
        "Fill 3 at 2019-10-11 00:07:00 UTC: its price is 99 in replay and 99.5 in vectorbt (other price).",
    )
    assert found.first is not None
    assert (found.first.records, found.first.field, found.first.expected, found.first.found) == (
        "fills", "price", "99", "99.5",
    )  # fmt: skip
    assert found.first.time_ns == START_NS + 7 * MINUTE_NS
    assert (found.fills_equal, found.trades_equal) == (3, 1)
    assert found.largest == pytest.approx(0.5 / 99.5)


@pytest.mark.parametrize(
    ("made", "cause", "verdict"),
    [
        ((3, "sell", "101.5", "0.5"), Cause.SIZE, Verdict.AMBER),
        ((3, "sell", "101.5", "1", "0.2"), Cause.FEE, Verdict.AMBER),
        ((4, "sell", "101.5"), Cause.BAR, Verdict.RED),
        ((3, "buy", "101.5"), Cause.SIDE, Verdict.RED),
    ],
)
def test_what_else_can_differ(made: Made, cause: Cause, verdict: Verdict) -> None:
    found = against(FOUR[0], made, *FOUR[2:])
    assert (found.verdict, first(found)[:2]) == (verdict, (cause, 2))


def test_a_trade_that_one_lacks_is_called_missing_and_not_a_row_of_others() -> None:
    found = against(FOUR[0], *FOUR[2:])
    assert found.verdict is Verdict.RED
    assert first(found) == (
        Cause.MISSING,
        2,
        "Fill 2 at 2019-10-11 00:03:00 UTC: replay has sold 1 BTC/USDT at 101.5, vectorbt has nothing there.",
    )
    assert found.fills_equal == 3
    more = against(FOUR[0], (2, "buy", "100"), *FOUR[1:])
    assert first(more) == (
        Cause.EXTRA,
        2,
        "Fill 2 at 2019-10-11 00:02:00 UTC: vectorbt has bought 1 BTC/USDT at 100, replay has nothing there.",
    )
    assert first(against(*FOUR[:3])) == (
        Cause.MISSING,
        4,
        "Fill 4 at 2019-10-11 00:09:00 UTC: replay has sold 1 BTC/USDT at 98, vectorbt has nothing there.",
    )
    assert first(against(*FOUR, (11, "buy", "97")))[:2] == (Cause.EXTRA, 5)


def test_a_trade_that_is_missing_later_is_not_hidden_by_a_price_before() -> None:
    found = against((1, "buy", "100.5"), *FOUR[1:3])
    assert found.verdict is Verdict.RED
    assert first(found)[:2] == (Cause.PRICE, 1)
    assert found.sentence.endswith(
        "Their decisions differ first here: Fill 4 at 2019-10-11 00:09:00 UTC: replay has sold 1 BTC/USDT at 98, "
        "vectorbt has nothing there."
    )


def test_symbols_may_take_turns_at_one_time() -> None:
    one, two = fills(*FOUR[:2]), fills(*FOUR[:2], instrument=ETH)
    mixed = (one[0], two[0], one[1], two[1])
    other = (two[0], one[0], two[1], one[1])
    assert compare(run("replay", mixed), run("vectorbt", other), bar_ns=MINUTE_NS).verdict is Verdict.GREEN


def test_another_instrument_is_another_decision() -> None:
    expected, found = run("replay", fills(*FOUR[:1])), run("vectorbt", fills(*FOUR[:1], instrument=ETH))
    assert first(compare(expected, found, bar_ns=MINUTE_NS))[:2] == (Cause.SIDE, 1)


def test_numbers_are_equal_to_a_billionth() -> None:
    assert against((1, "buy", "100.00000001"), *FOUR[1:]).verdict is Verdict.GREEN
    assert against((1, "buy", "100.000001"), *FOUR[1:]).verdict is Verdict.AMBER


@pytest.mark.parametrize(("price", "other"), [("0.0000000002", "0.0000000003"), ("0.000000012", "0.0000000121")])
def test_prices_far_below_one_are_told_apart(price: str, other: str) -> None:
    expected: Made = (1, "buy", price)
    assert against(expected, expected=(expected,)).verdict is Verdict.GREEN
    found = against((1, "buy", other), expected=(expected,))
    assert found.verdict is Verdict.AMBER
    assert first(found)[0] is Cause.PRICE
    assert found.fills_equal == 0


def test_dust_is_told_apart() -> None:
    expected: Made = (1, "buy", "30000", "0.0000000001", "0.0000000001")
    assert against((1, "buy", "30000", "0.0000000002", "0.0000000001"), expected=(expected,)).verdict is Verdict.AMBER
    assert against((1, "buy", "30000", "0.0000000001", "0"), expected=(expected,)).verdict is Verdict.AMBER


def test_trades_are_compared_where_fills_are_equal() -> None:
    made = fills(*FOUR)
    trades = tuple(round_trips(made))
    other = (trades[0], msgspec.structs.replace(trades[1], exit_ns=None, exit_price=None))
    found = compare(run("replay", made), EngineRun("vectorbt", made, other), bar_ns=MINUTE_NS)
    assert found.verdict is Verdict.RED
    assert first(found) == (
        Cause.BAR,
        2,
        "Trade 2 at 2019-10-11 00:07:00 UTC: its exit time is 2019-10-11 00:09:00 UTC in replay and open in vectorbt "
        "(other bar).",
    )
    assert found.trades_equal == 1


def test_other_bars_and_fills_that_are_not_listed_are_said() -> None:
    proof = Provenance("data", "s", "t", "r", {})
    other = msgspec.structs.replace(proof, data="other data")
    expected = run("replay", fills(*FOUR), provenance=proof)
    found = compare(expected, run("vectorbt", fills(*FOUR), provenance=other), bar_ns=MINUTE_NS)
    assert (found.verdict, found.sentence) == (
        Verdict.AMBER,
        "vectorbt and replay made the same 4 fills. They did not run on the same bars.",
    )
    long, longer = (run(name, fills(*FOUR), fill_count=count) for name, count in (("replay", 9), ("vectorbt", 10)))
    assert compare(long, longer, bar_ns=MINUTE_NS).sentence == (
        "vectorbt and replay made 10 and 9 fills, of which the first 4 are equal."
    )
    assert compare(long, longer, bar_ns=MINUTE_NS).verdict is Verdict.RED
    same = msgspec.structs.replace(longer, fill_count=9)
    assert compare(long, same, bar_ns=MINUTE_NS).sentence == (
        "vectorbt and replay made the same 9 fills; the first 4 were compared."
    )


@pytest.mark.parametrize(
    ("changes", "later"),
    [
        ({}, ""),
        ({"final_equity": 10_500.000001}, ""),
        ({"final_equity": 10_500.01}, "the final equity is 10500 in replay and 10500.01 in vectorbt"),
        ({"fees": 12.5001}, "the fees are 12.5 in replay and 12.5001 in vectorbt"),
        ({"fees": float("nan")}, "the fees are 12.5 in replay and nan in vectorbt"),
    ],
)
def test_fills_beyond_those_that_are_kept_are_held_against_each_other_by_what_they_came_to(
    changes: dict[str, float | None], later: str
) -> None:
    statistics = {"fills": 9.0, "final_equity": 10_500.0, "net_profit": 500.0, "fees": 12.5}
    made = msgspec.structs.replace(result(), fills=list(fills(*FOUR)), trades=round_trips(fills(*FOUR)))
    one, two = (
        engine_run(name, msgspec.structs.replace(made, statistics=values))
        for name, values in (("replay", statistics), ("vectorbt", statistics | changes))
    )
    assert (one.fill_count, len(one.fills), one.provenance) == (9, 4, made.provenance)
    found = compare(one, two, bar_ns=MINUTE_NS)
    if later:
        sentence = f"The first 4 fills of vectorbt and replay are equal, and later ones are not: {later}."
        assert (found.verdict, found.sentence) == (Verdict.RED, sentence)
    else:
        sentence = "vectorbt and replay made the same 9 fills; the first 4 were compared, and what all of them came to."
        assert (found.verdict, found.sentence) == (Verdict.GREEN, sentence)


def test_a_result_without_a_count_has_the_fills_that_are_listed() -> None:
    assert engine_run("replay", msgspec.structs.replace(result(), statistics={})).fill_count == len(result().fills)


def test_a_paper_session_is_compared_by_the_bar_and_the_order() -> None:
    found = against(*FOUR, source=PAPER, late_ns=59 * SECOND_NS)
    assert found.verdict is Verdict.GREEN
    late = against(*FOUR, source=PAPER, late_ns=60 * SECOND_NS)
    assert (late.verdict, first(late)[0]) == (Verdict.RED, Cause.BAR)
    halves = fills((1, "buy", "99", "0.5", "0.05"), (1, "buy", "101", "0.5", "0.05"), late_ns=7)
    merged = tuple(msgspec.structs.replace(each, client_order_id="halves") for each in halves)
    paper = run(PAPER, (*merged, *fills(*FOUR[1:])))
    assert compare(run("replay", fills(*FOUR)), paper, bar_ns=MINUTE_NS).verdict is Verdict.GREEN
    [one, *_] = executions(paper.fills, merged=True)
    assert (one.price, one.quantity, one.fee, one.time_ns) == (100.0, 1.0, 0.1, START_NS + MINUTE_NS + 7)


def test_executions_are_paired_within_a_slack_and_by_instrument() -> None:
    expected = executions(fills(*FOUR), merged=False)
    found = executions(
        (*fills((2, "buy", "100"), (9, "sell", "98")), *fills((4, "sell", "7"), instrument=ETH)), merged=False
    )
    pairs = pair(expected, sorted(found, key=lambda each: each.time_ns), MINUTE_NS)
    minutes = [
        tuple(None if each is None else (each.time_ns - START_NS) // MINUTE_NS for each in both) for both in pairs
    ]
    assert minutes == [(1, 2), (3, None), (None, 4), (7, None), (9, 9)]
    assert pair([], expected[:1], 0) == [(None, expected[0])]
    assert pair(expected[1:2], expected[:2], 0) == [(None, expected[0]), (expected[1], expected[1])]


minutes = st.lists(st.integers(0, 50), max_size=12).map(sorted)


@given(minutes, minutes)
def test_no_execution_is_lost_or_doubled(left: list[int], right: list[int]) -> None:
    one, two = (executions(fills(*((each, "buy", "5") for each in times)), merged=False) for times in (left, right))
    pairs = pair(one, two, 2 * MINUTE_NS)
    assert [each for each, _ in pairs if each is not None] == one
    assert [each for _, each in pairs if each is not None] == two
    assert all(abs(a.time_ns - b.time_ns) <= 2 * MINUTE_NS for a, b in pairs if a is not None and b is not None)


def test_verdicts_and_times() -> None:
    assert worst([Verdict.GREEN, Verdict.RED, Verdict.AMBER]) is Verdict.RED
    assert worst([Verdict.NONE, Verdict.GREEN]) is Verdict.GREEN
    assert worst([]) is Verdict.NONE
    assert utc_text(START_NS) == "2019-10-11 00:00:00 UTC"
    assert utc_text(10**30) == f"{10**30} ns"
    assert Placement(1, None, "buy").line is None
