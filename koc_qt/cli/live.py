"""What the terminal shows of an engine, as pure functions of its snapshot: a screen for `rich`, and single lines.

The screen fills exactly the width and height it is given. Names and reasons come from elsewhere: they are cut to their
columns, and control characters in them are shown as such, so that none can steer the terminal. Times of day are UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from koc_qt.cli.lines import clean, clock, counted, money, number, span
from koc_qt.domain.market import Quote, Side
from koc_qt.domain.orders import Fill, Order, OrderStatus
from koc_qt.domain.state import Badge, EngineSnapshot, EngineState, StrategySnapshot, StrategyState, VenueState
from koc_qt.link.messages import Snapshot

_GOOD, _BAD, _CAREFUL, _FAINT, _HEAD = "green", "red", "yellow", "dim", "bold"
_STATE_STYLES: dict[str, str] = {
    EngineState.RUNNING: _GOOD,
    EngineState.HALTED: "bold red",
    StrategyState.FAILED: "bold red",
    StrategyState.BACKING_OFF: _CAREFUL,
    StrategyState.STOPPED: _FAINT,
    VenueState.CONNECTED: _GOOD,
    VenueState.INTERRUPTED: _CAREFUL,
    VenueState.DISCONNECTED: _BAD,
}
_BADGE_STYLES = {Badge.ISOLATED_PLUS: _GOOD, Badge.ISOLATED: _GOOD, Badge.PARTIAL: _CAREFUL}
_HEADER_LINES, _FOOTER_LINES = 3, 1


class Cell(NamedTuple):
    """A piece of text and its style."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A column: its title, its width in cells, and its side; the column of width 0 takes what is left."""

    title: str
    width: int
    right: bool = False


class Section(NamedTuple):
    """A table of the screen. `least` rows are shown before other sections get more."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    least: int
    empty: str


def render(snapshot: Snapshot, width: int = 80, height: int = 24, quotes: Iterable[Quote] = (), note: str = "") -> Text:
    """Give the screen of an engine: its state, the market, strategies, positions, orders and fills, newest first.

    `note` is something to know, such as the log's last warning; it stands in the last line.
    """
    lines = _header(snapshot, width)
    sections = [
        _market(snapshot, list(quotes)),
        _strategies(snapshot.strategies),
        _positions(snapshot),
        _orders(snapshot.orders),
        _fills(snapshot.fills),
    ]
    shown = _share_out(sections, height - _HEADER_LINES - _FOOTER_LINES)
    for section, count in zip(sections, shown, strict=True):
        if count:
            lines += _table(section, count, width)
    lines = lines[: max(height - _FOOTER_LINES, 0)]
    lines += [Text("")] * (height - _FOOTER_LINES - len(lines))
    last = Cell(f" {clean(note)}", _CAREFUL) if note else Cell(" Ctrl-C stops the engine in order", _FAINT)
    lines.append(_line([last], width))
    return Text("\n").join(lines)


# ---- sections -------------------------------------------------------------------------------------------------------


def _header(snapshot: Snapshot, width: int) -> list[Text]:
    engine = snapshot.engine
    left = [
        Cell(" K.O.C. ", "bold reverse"),
        Cell(f" {engine.state.upper()}", _STATE_STYLES.get(engine.state, _CAREFUL)),
        Cell(f"  up {span(engine.uptime_s)}"),
        Cell(f"  {counted(engine.trades, 'trade')}, {engine.open_orders} open"),
    ]
    return [
        _line(left, width, right=[Cell("PnL "), Cell(money(engine.pnl), _sign_style(engine.pnl)), Cell(" ")]),
        _line([_warning(engine) or Cell(_pulse(engine), _FAINT)], width),
        _line([Cell(_accounts(snapshot), _FAINT)], width),
    ]


def _warning(engine: EngineSnapshot) -> Cell | None:
    if engine.kill_switch:
        return Cell(f" KILL SWITCH ENGAGED, 'koc kill --release' ends it: {clean(engine.kill_reason)}", "bold red")
    if not engine.journal_ok:
        return Cell(" THE JOURNAL CANNOT BE WRITTEN: no orders are sent until it can", "bold red")
    if engine.reason and engine.state is not EngineState.RUNNING:
        return Cell(f" {clean(engine.reason)}", _CAREFUL)
    return None


def _pulse(engine: EngineSnapshot) -> str:
    parts = [f" {engine.version}", f"cpu {engine.cpu_percent:.0f} %", f"{engine.memory_bytes / 1e6:.0f} MB"]
    parts.append(f"loop {engine.loop_lag_ms:.1f} ms")
    if engine.order_latency_p50_ms is not None and engine.order_latency_p99_ms is not None:
        parts.append(f"orders p50 {engine.order_latency_p50_ms:.1f} p99 {engine.order_latency_p99_ms:.1f} ms")
    return "  ".join(parts)


def _accounts(snapshot: Snapshot) -> str:
    parts = []
    for account in snapshot.accounts:
        balances = ", ".join(f"{number(each.total)} {clean(each.currency)}" for each in account.balances)
        parts.append(f"{clean(account.account_id)} ({account.mode}): {balances or 'empty'}")
    return " " + "  ".join(parts)


def _market(snapshot: Snapshot, quotes: list[Quote]) -> Section:
    states = {venue.venue: venue for venue in snapshot.venues}
    rows = [
        _quote_row(quote, states[quote.instrument.venue].state) for quote in quotes if quote.instrument.venue in states
    ]
    quoted = {quote.instrument.venue for quote in quotes}
    for venue in snapshot.venues:
        if venue.venue not in quoted:
            text = f"{counted(venue.streams, 'stream')} {clean(venue.reason)}"
            state = Cell(venue.state, _STATE_STYLES.get(venue.state, _CAREFUL))
            rows.append([Cell(clean(venue.venue)), Cell(""), Cell(""), Cell(text, _FAINT), state])
    columns = [Column("MARKET", 0), Column("BID", 14, True), Column("ASK", 14, True), Column("SPREAD", 11, True)]
    return Section([*columns, Column("", 13, True)], rows, 2, "no venue yet")


def _quote_row(quote: Quote, state: VenueState) -> list[Cell]:
    spread = f"{quote.spread / quote.mid * 10_000:.1f} bp" if quote.mid else ""
    return [
        Cell(clean(str(quote.instrument))),
        Cell(number(quote.bid), _GOOD),
        Cell(number(quote.ask), _BAD),
        Cell(spread, _FAINT),
        Cell(state, _STATE_STYLES.get(state, _CAREFUL)),
    ]


def _strategies(strategies: Sequence[StrategySnapshot]) -> Section:
    rows = []
    for each in sorted(strategies, key=lambda strategy: strategy.state is StrategyState.STOPPED):
        trouble = each.reason and each.state in (StrategyState.FAILED, StrategyState.BACKING_OFF, StrategyState.STOPPED)
        name = each.spec.strategy_id + (f": {each.reason}" if trouble else "")
        rows.append(
            [
                Cell(clean(name), _STATE_STYLES.get(each.state, "") if trouble else ""),
                Cell(each.state, _STATE_STYLES.get(each.state, "")),
                Cell(each.badge, _BADGE_STYLES.get(each.badge, _BAD)),
                Cell(f"{each.rate_hz:.1f}", _FAINT),
                Cell(str(each.trades)),
                Cell(money(each.pnl), _sign_style(each.pnl)),
            ]
        )
    columns = [Column("STRATEGY", 0), Column("STATE", 12), Column("SANDBOX", 12), Column("MSG/S", 8, True)]
    return Section([*columns, Column("TRADES", 8, True), Column("PnL", 14, True)], rows, 3, "none is running")


def _positions(snapshot: Snapshot) -> Section:
    rows = [
        [
            Cell(clean(str(each.instrument))),
            Cell(number(each.quantity), _sign_style(each.quantity)),
            Cell(_rounded(each.average_price) if each.average_price is not None else ""),
            Cell(money(each.unrealised_pnl), _sign_style(each.unrealised_pnl)),
            Cell(clean(each.strategy_id), _FAINT),
        ]
        for each in snapshot.positions
        if each.quantity
    ]
    columns = [Column("POSITION", 0), Column("QUANTITY", 14, True), Column("AVERAGE", 14, True)]
    return Section([*columns, Column("UNREALISED", 13, True), Column("  STRATEGY", 15, True)], rows, 2, "none is open")


def _orders(orders: Sequence[Order]) -> Section:
    newest = sorted(orders, key=lambda order: (order.is_open, order.updated_ns), reverse=True)
    rows = []
    for order in newest:
        request = order.request
        price = request.price if request.price is not None else request.stop_price
        status_style = _BAD if order.status in (OrderStatus.REJECTED, OrderStatus.UNKNOWN) else ""
        name = f"{request.instrument} {order.reason}" if order.reason else str(request.instrument)
        rows.append(
            [
                Cell(clock(order.updated_ns), _FAINT),
                Cell(request.side, _side_style(request.side)),
                Cell(clean(name)),
                Cell(f"{number(order.filled_quantity)}/{number(request.quantity)}"),
                Cell(number(price) if price is not None else "market"),
                Cell(f"  {order.status.replace('_', ' ')}", status_style if status_style or order.is_open else _FAINT),
            ]
        )
    columns = [Column("ORDER", 10), Column("", 5), Column("", 0), Column("FILLED", 17, True), Column("PRICE", 13, True)]
    return Section([*columns, Column("  STATUS", 18)], rows, 3, "none yet")


def _fills(fills: Sequence[Fill]) -> Section:
    rows = [
        [
            Cell(clock(fill.time_ns), _FAINT),
            Cell(fill.side, _side_style(fill.side)),
            Cell(clean(str(fill.instrument))),
            Cell(number(fill.quantity)),
            Cell(number(fill.price)),
            Cell(f"  fee {number(fill.fee)}", _FAINT),
        ]
        for fill in reversed(fills)
    ]
    columns = [
        Column("FILL", 10),
        Column("", 5),
        Column("", 0),
        Column("QUANTITY", 17, True),
        Column("PRICE", 13, True),
    ]
    return Section([*columns, Column("", 18)], rows, 3, "none yet")


# ---- layout ---------------------------------------------------------------------------------------------------------


def _share_out(sections: Sequence[Section], lines: int) -> list[int]:
    """Give how many rows each section shows: its least first, in order, then one each in turn while there is room."""
    shown = [0] * len(sections)
    wanted = [max(len(section.rows), 1) for section in sections]
    for index, section in enumerate(sections):
        count = min(wanted[index], section.least, lines - 1)  # its titles take a line
        if count > 0:
            shown[index] = count
            lines -= count + 1
    while lines > 0:
        growing = [index for index, count in enumerate(shown) if 0 < count < wanted[index]]
        if not growing:
            break
        for index in growing[:lines]:
            shown[index] += 1
        lines -= len(growing)
    return shown


def _table(section: Section, count: int, width: int) -> list[Text]:
    fixed = sum(column.width for column in section.columns)
    widths = [column.width or max(width - fixed - 2, 8) for column in section.columns]
    rows = list(section.rows[:count])
    hidden = len(section.rows) - len(rows)
    titles = [Cell(column.title, _HEAD) for column in section.columns]
    lines = [_row(section.columns, widths, titles, width)]
    if not rows:
        return [*lines, _line([Cell(f" {section.empty}", _FAINT)], width)]
    lines += [_row(section.columns, widths, row, width) for row in rows]
    if hidden:
        lines[0] = _line([Cell(lines[0].plain.rstrip(), _HEAD)], width, right=[Cell(f"+{hidden} ", _FAINT)])
    return lines


def _row(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[Cell], width: int) -> Text:
    pieces = [Cell(" ")]
    for column, size, cell in zip(columns, widths, cells, strict=True):
        pieces.append(Cell(_fit(cell.text, size, column.right), cell.style))
    return _line(pieces, width)


def _fit(text: str, size: int, right: bool) -> str:
    """Cut to one cell less than `size`, so that columns never touch, and fill up."""
    room = max(size - 1, 1)
    if cell_len(text) > room:
        text = set_cell_size(text, room - 1).rstrip() + "…"
    pad = " " * (size - cell_len(text))
    return pad + text if right else text + pad


def _line(cells: Sequence[Cell], width: int, right: Sequence[Cell] = ()) -> Text:
    """Join cells to a line of exactly `width` cells; what is on the right is kept when the left is too long."""
    tail = Text.assemble(*((cell.text, cell.style) for cell in right))
    line = Text.assemble(*((cell.text, cell.style) for cell in cells))
    tail.truncate(width, overflow="ellipsis")
    room = width - tail.cell_len
    if room <= 0:
        return tail
    line.truncate(room, overflow="ellipsis", pad=True)
    return line + tail


# ---- words and numbers ----------------------------------------------------------------------------------------------


def _rounded(value: Decimal) -> str:
    """Write an average with about eight digits that count."""
    return number(round(value, max(8 - max(value.adjusted() + 1, 0), 2)))


def _sign_style(value: Decimal) -> str:
    return _GOOD if value > 0 else _BAD if value < 0 else ""


def _side_style(side: Side) -> str:
    return _GOOD if side is Side.BUY else _BAD
