from __future__ import annotations

import math

import pytest

from koc_qt.domain.bars import BarBuilder, merge, resample, validate_bars
from koc_qt.domain.errors import BadBars, BadTimeframe
from tests.unit.domain.examples import BTC, ETH, MINUTE_NS, START_NS, D, bar, trade

M = MINUTE_NS
T = START_NS


# ---- from trades ---------------------------------------------------------------------------------------------------


def test_trades_of_a_minute_make_its_bar_once_the_next_minute_trades():
    builder = BarBuilder(BTC, "1m")
    assert builder.forming is None
    for n, price in enumerate(["100", "103", "98", "101"]):
        assert builder.add(trade(T + n, price, "0.1")) == ()
    expected = bar(T, open=100.0, high=103.0, low=98.0, close=101.0, volume=0.4)
    assert builder.forming == expected
    assert builder.add(trade(T + M, "102", "7")) == (expected,)
    assert builder.forming == bar(T + M, open=102.0, high=102.0, low=102.0, close=102.0, volume=7.0)


def test_a_minute_without_trades_makes_no_bar():
    builder = BarBuilder(BTC, "1m")
    builder.add(trade(T))
    (closed,) = builder.add(trade(T + 5 * M))
    assert closed.open_time_ns == T
    assert builder.forming is not None
    assert builder.forming.open_time_ns == T + 5 * M


def test_the_market_s_clock_closes_a_bar_at_its_end():
    builder = BarBuilder(BTC, "1m")
    assert builder.close_until(T + M) == ()
    builder.add(trade(T + 7))
    assert builder.close_until(T + M - 1) == ()
    (closed,) = builder.close_until(T + M)
    assert closed.open_time_ns == T
    assert builder.forming is None
    assert builder.close_until(T + 9 * M) == ()
    assert builder.add(trade(T + M)) == ()  # the first of the next minute
    assert builder.late == 0


def test_a_trade_that_comes_too_late_is_counted_and_left_out():
    builder = BarBuilder(BTC, "1m")
    builder.add(trade(T + M))
    assert builder.add(trade(T + M - 1, "1")) == ()
    (closed,) = builder.close_until(T + 2 * M)
    assert builder.add(trade(T + 2 * M - 1, "1")) == ()
    assert builder.late == 2
    assert builder.forming is None
    assert closed == bar(T + M, open=100.0, high=100.0, low=100.0, close=100.0, volume=1.0)


def test_an_older_trade_of_the_forming_bar_is_merged_in_the_order_of_arrival():
    builder = BarBuilder(BTC, "1m")
    builder.add(trade(T + 30, "100"))
    builder.add(trade(T + 10, "99"))
    assert builder.forming == bar(T, open=100.0, high=100.0, low=99.0, close=99.0, volume=2.0)
    assert builder.late == 0


def test_volume_is_summed_exactly():
    builder = BarBuilder(BTC, "1m")
    builder.add(trade(T, quantity="10000000000000000000000000000000000000000"))
    for n in range(10):
        builder.add(trade(T + n, quantity="0.1"))
    assert builder._volume == D("10000000000000000000000000000000000000001")
    tenths = BarBuilder(BTC, "1m")
    for n in range(10):
        tenths.add(trade(T + n, quantity="0.1"))
    assert tenths.forming is not None
    assert tenths.forming.volume == 1.0  # ten floats of 0.1 make 0.9999999999999999


def test_a_trade_of_another_instrument_is_refused():
    builder = BarBuilder(BTC, "1m")
    with pytest.raises(ValueError, match="a trade of sim:ETH/USDT was fed to the bars of sim:BTC/USDT"):
        builder.add(trade(T, instrument=ETH))


def test_an_equal_instrument_need_not_be_the_same_object():
    builder = BarBuilder(BTC.__class__("sim", "BTC/USDT"), "1m")
    builder.add(trade(T))
    assert builder.forming is not None


def test_a_bad_timeframe_is_refused_at_once():
    with pytest.raises(BadTimeframe):
        BarBuilder(BTC, "1x")


# ---- validation ----------------------------------------------------------------------------------------------------


def test_good_bars_pass_gaps_included():
    validate_bars([], "1m")
    validate_bars([bar(T), bar(T + M), bar(T + 9 * M, volume=0.0)], "1m")
    validate_bars([bar(T, open=9.0, high=9.0, low=9.0, close=9.0)], "1m")


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (bar(T + M, "5m"), "row 1, opening at 2019-10-11 00:01:00: it is a bar of 5m"),
        (
            bar(T + M, open=math.nan),
            "row 1, .*open nan, high 12.0, low 9.0, close 11.0, volume 5.0 are not all",
        ),
        (bar(T + M, high=math.inf), "high inf"),
        (bar(T + M, volume=math.nan), "volume nan are not all numbers"),
        (bar(T + M, low=0.0), "row 1, .*: its low 0.0 is not above zero"),
        (bar(T + M, open=12.5), "open 12.5 and close 11.0 are not between low 9.0 and high 12.0"),
        (bar(T + M, open=8.5), "open 8.5 and close 11.0 are not between"),
        (bar(T + M, close=12.5), "open 10.0 and close 12.5 are not between"),
        (bar(T + M, close=8.5), "open 10.0 and close 8.5 are not between"),
        (bar(T + M, low=13.0), "are not between low 13.0 and high 12.0"),
        (bar(T + M, volume=-0.1), "its volume -0.1 is below zero"),
        (
            bar(T + M + 1),
            r"opening at 2019-10-11 00:01:00\.000000001: bars of 1m open at 2019-10-11 00:01:00 and so",
        ),
        (bar(T + M, instrument=ETH), "sim:ETH/USDT 1m, row 1, .*: the rows before it are of sim:BTC/USDT"),
        (bar(T), "row 1, .*: the row before it opens at the same time"),
        (bar(T - M), "row 1, .*: the row before it opens later, at 2019-10-11 00:00:00"),
        (bar(10**30 * 6 + 1), r"row 1, opening at 6000000000000000000000000000001 ns: bars of 1m open at"),
    ],
)
def test_a_bad_bar_is_refused_with_its_row(bad, text):
    with pytest.raises(BadBars, match=text):
        validate_bars([bar(T), bad, bar(T + 2 * M)], "1m")


def test_the_first_row_is_row_0():
    with pytest.raises(BadBars, match="row 0, opening at 2019-10-11 00:00:00: its volume"):
        validate_bars([bar(T, volume=-1.0)], "1m")


def test_bars_of_no_timeframe_are_refused():
    with pytest.raises(BadTimeframe):
        validate_bars([], "1x")


# ---- longer bars ---------------------------------------------------------------------------------------------------


def test_bars_are_joined_into_longer_ones():
    minutes = [
        bar(T, open=10.0, high=11.0, low=9.5, close=10.5, volume=0.1),
        bar(T + 2 * M, open=10.6, high=14.0, low=10.0, close=13.0, volume=0.2),
        bar(T + 4 * M, open=13.0, high=13.5, low=8.0, close=9.0, volume=0.7),
        bar(T + 10 * M, open=9.0, high=9.0, low=9.0, close=9.0, volume=1.0),
        bar(T + 14 * M, open=9.0, high=9.1, low=9.0, close=9.1, volume=1.0),
    ]
    assert resample(minutes, "5m") == [
        bar(T, "5m", open=10.0, high=14.0, low=8.0, close=9.0, volume=1.0),
        bar(T + 10 * M, "5m", open=9.0, high=9.1, low=9.0, close=9.1, volume=2.0),
    ]


def test_a_group_that_may_still_grow_is_left_out_unless_the_caller_knows_better():
    minutes = [bar(T + n * M) for n in range(8)]
    opens = [longer.open_time_ns for longer in resample(minutes, "5m")]
    assert opens == [T]
    assert len(resample(minutes, "5m", until_ns=T + 10 * M - 1)) == 1
    assert len(resample(minutes, "5m", until_ns=T + 10 * M)) == 2
    assert resample(minutes, "5m", until_ns=T + 4 * M) == []
    assert resample(minutes[:4], "5m") == []


def test_the_same_timeframe_gives_the_same_bars():
    minutes = [bar(T), bar(T + M)]
    assert resample(minutes, "1m") == minutes
    assert resample([], "5m") == []


@pytest.mark.parametrize("timeframe", ["30s", "7m"])
def test_bars_are_not_made_of_parts_of_others(timeframe):
    with pytest.raises(BadTimeframe, match=f"bars of {timeframe} cannot be made of bars of 5m: choose a"):
        resample([bar(T, "5m")], timeframe)


# ---- history and live ----------------------------------------------------------------------------------------------


def test_history_and_live_bars_are_merged_without_gap_or_double():
    history = [bar(T), bar(T + M, close=10.1), bar(T + 2 * M)]
    live = [bar(T + M, close=10.9), bar(T + 2 * M), bar(T + 3 * M)]
    assert merge(history, live) == [bar(T), bar(T + M, close=10.9), bar(T + 2 * M), bar(T + 3 * M)]
    assert merge(live, history)[1].close == 10.1
    assert [b.open_time_ns for b in merge([bar(T), bar(T + 2 * M)], [bar(T + M)])] == [T, T + M, T + 2 * M]
    assert merge(history, []) == history
    assert merge([], live) == live
    assert merge([], []) == []


@pytest.mark.parametrize("other", [bar(T, "5m"), bar(T, instrument=ETH)])
def test_bars_of_different_series_are_not_merged(other):
    with pytest.raises(BadBars, match=r"bars of sim:BTC/USDT 1m and sim:.* cannot be merged"):
        merge([bar(T)], [other])
