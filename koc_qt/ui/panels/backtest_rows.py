"""What a result shows of its trades and statistics, in words and columns."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

import msgspec

from koc_qt.domain.backtests import BacktestResult, RoundTrip
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.performance import STATISTICS, Unit
from koc_qt.ui import formats
from koc_qt.ui.tables.columns import Column, tone_of_sign

Rules = Callable[[InstrumentId], Instrument | None]
_TOO_SMALL = Decimal("1e-8")


class TripRow(msgspec.Struct, frozen=True, gc=False):
    """A trade and its number, from 1. The garbage collector, which 10,000 of them would call, looks at none."""

    number: int
    trip: RoundTrip

    @property
    def share(self) -> float | None:
        """What was made of what was put in, as a fraction."""
        stake = self.trip.entry_price * abs(self.trip.quantity)
        return self.trip.pnl / stake if stake > 0 else None


def trip_columns(rules: Rules, moment: Callable[[int], str]) -> tuple[Column[TripRow], ...]:
    """Give the columns of the list of trades; `rules` knows how many decimals a market has, `moment` writes times."""

    def price(instrument: InstrumentId, value: float | None) -> str:
        known = rules(instrument)
        return formats.DASH if value is None else formats.price(exact(value), known.tick_size if known else None)

    return (
        Column("number", "#", lambda row: str(row.number), lambda row: row.number, right=True, width=4),
        Column("symbol", "Symbol", lambda row: str(row.trip.instrument), width=14),
        Column(
            "side",
            "Side",
            lambda row: "Long" if row.trip.quantity > 0 else "Short",
            tone=lambda row: "profit" if row.trip.quantity > 0 else "loss",
            width=6,
        ),
        Column(
            "entry",
            "Entry",
            lambda row: moment(row.trip.entry_ns),
            lambda row: row.trip.entry_ns,
            tip=lambda row: formats.utc(row.trip.entry_ns),
            width=20,
        ),
        Column(
            "entry_price",
            "At",
            lambda row: price(row.trip.instrument, row.trip.entry_price),
            lambda row: row.trip.entry_price,
            right=True,
            width=14,
            title_tip="Mean price of what was bought or sold to enter",
        ),
        Column(
            "exit",
            "Exit",
            lambda row: "Open" if row.trip.exit_ns is None else moment(row.trip.exit_ns),
            lambda row: row.trip.exit_ns,
            tip=lambda row: (
                "Open at the end, valued at the last close"
                if row.trip.exit_ns is None
                else formats.utc(row.trip.exit_ns)
            ),
            tone=lambda row: "muted" if row.trip.exit_ns is None else None,
            width=20,
        ),
        Column(
            "exit_price",
            "At",
            lambda row: price(row.trip.instrument, row.trip.exit_price),
            lambda row: row.trip.exit_price,
            right=True,
            width=14,
            title_tip="Mean price of what was sold or bought to leave",
        ),
        Column(
            "quantity",
            "Quantity",
            lambda row: formats.quantity(exact(abs(row.trip.quantity))),
            lambda row: abs(row.trip.quantity),
            right=True,
            width=11,
        ),
        Column(
            "pnl",
            "PnL",
            lambda row: formats.signed_money(row.trip.pnl),
            lambda row: row.trip.pnl,
            right=True,
            tone=lambda row: tone_of_sign(row.trip.pnl),
            width=10,
            title_tip="After fees, in quote currency",
        ),
        Column(
            "share",
            "Return",
            lambda row: formats.percent(row.share, signed=True),
            lambda row: row.share,
            right=True,
            tone=lambda row: tone_of_sign(row.trip.pnl),
            width=9,
            title_tip="PnL over what was put in",
        ),
        Column(
            "fees", "Fees", lambda row: formats.money(row.trip.fees), lambda row: row.trip.fees, right=True, width=8
        ),
    )


def exact(value: float) -> Decimal:
    """Give a float as the shortest decimal that is it, without the dust of its last bits."""
    number = Decimal(repr(value))
    return number.quantize(_TOO_SMALL).normalize() if number.is_finite() and abs(number) < 10**15 else number


class Caption(NamedTuple):
    """How people call a statistic, what it is, and why there may be none."""

    text: str
    meaning: str
    why_none: str = "Too little happened to say"


_FEW = "Needs at least three points of equity that move and stay above zero"
CAPTIONS: dict[str, Caption] = {
    "final_equity": Caption("Final equity", "Cash and holdings at the end, holdings at their last close"),
    "net_profit": Caption("Net profit", "Final equity less the cash at the beginning"),
    "return": Caption("Return", "Net profit over the cash at the beginning"),
    "buy_and_hold": Caption(
        "Buy and hold", "What the first symbol's price did from the first open to the last close, without costs"
    ),
    "cagr": Caption("Return a year", "The yearly growth that gives this return (CAGR)", "Needs a day or more"),
    "volatility": Caption("Volatility a year", "Standard deviation of the returns, annualised", _FEW),
    "sharpe": Caption("Sharpe ratio", "Mean return over its standard deviation, annualised, risk-free rate 0", _FEW),
    "sortino": Caption(
        "Sortino ratio", "Mean return over its downside deviation, annualised", "Needs three points and a loss"
    ),
    "calmar": Caption("Calmar ratio", "Return a year over the deepest drawdown", "Needs a day or more, and a drawdown"),
    "max_drawdown": Caption("Deepest drawdown", "Deepest fall below an earlier peak, as a share of that peak"),
    "max_drawdown_s": Caption("Longest drawdown", "Longest time from a peak until it was reached again, or the end"),
    "trades": Caption("Closed trades", "From flat until flat or reversed"),
    "open_trades": Caption("Open at the end", "Trades that were not closed, valued at the last close"),
    "win_rate": Caption("Winners", "Share of the closed trades with a profit after fees", "No trade was closed"),
    "profit_factor": Caption(
        "Profit factor", "Gains of the winners over losses of the losers", "No closed trade lost anything"
    ),
    "expectancy": Caption("Mean trade", "Mean profit of the closed trades after fees", "No trade was closed"),
    "exposure": Caption("Time in the market", "Share of the time during which anything was held"),
    "turnover": Caption("Turnover", "All that was bought and sold, over the mean equity"),
    "fees": Caption("Fees", "Paid for all fills; below zero where rebates were more"),
    "fills": Caption("Fills", "Executions"),
}
GROUPS: dict[str, tuple[str, ...]] = {
    "Return": ("net_profit", "return", "buy_and_hold", "cagr", "final_equity", "fees", "turnover"),
    "Risk": ("max_drawdown", "max_drawdown_s", "volatility", "sharpe", "sortino", "calmar", "exposure"),
    "Trades": ("trades", "open_trades", "win_rate", "profit_factor", "expectancy", "fills"),
}
_SIGNED = ("net_profit", "return", "buy_and_hold", "cagr", "expectancy")


def money_decimals(cash: Decimal) -> int:
    """Give how many decimals amounts need beside so much cash: 2 for 10,000 USDT, 5 for 1 BTC."""
    return min(8, max(2, 5 - cash.adjusted()))


def statistic_text(name: str, value: float | None, currency: str, decimals: int) -> str:
    """Give a statistic as people read it; a dash where there is none."""
    if value is None or value != value:
        return formats.DASH
    match STATISTICS[name]:
        case Unit.AMOUNT:
            show = formats.signed_money if name in _SIGNED else formats.money
            return f"{show(value, decimals)} {currency}".rstrip()
        case Unit.FRACTION:
            return formats.percent(value, signed=name in _SIGNED and value != 0)
        case Unit.RATIO:
            return formats.money(value)
        case Unit.COUNT:
            return formats.money(value, 0)
        case Unit.SECONDS:
            return formats.duration(value)


def statistic_tone(name: str, value: float | None) -> str | None:
    """Give the tone of a profit or loss."""
    return tone_of_sign(value) if name in _SIGNED else None


def statistic_tip(name: str, value: float | None) -> str:
    """Say what it is, and why there is none."""
    caption = CAPTIONS[name]
    return f"{caption.meaning}.\n{caption.why_none}." if value is None else f"{caption.meaning}."


def assumptions(result: BacktestResult) -> tuple[str, str]:
    """Give in a line, and in full, what a run takes for granted."""
    spec = result.spec
    fee = "the venue's fees" if spec.fee is None else f"fee {_percent(spec.fee)}"
    slippage = f"slippage {_percent(spec.slippage)}" if spec.slippage else "no slippage"
    short = "" if spec.allow_short else " · no short selling"
    line = f"Filled at the next bar's open · {fee} · {slippage}{short} · no order book, delays or funding"
    full = (
        "Orders placed when a bar closes meet the next bar: at the market they trade at its open, limit orders where "
        f"it trades through their price, both for at most 10 % of its volume. Taken off: {fee}, {slippage} for market "
        "orders. Not modelled: the order book and its spread, delays, your own effect on the price, funding and "
        "interest. What is held at the end is valued at the last close."
    )
    return line, full


def _percent(fraction: Decimal) -> str:
    return f"{formats.quantity(fraction * 100)} %"
