"""Whether several engines, and a recorded paper session, made the same trades of one strategy: fill by fill.

Numbers are equal when they differ by at most TOLERANCE of the larger one: prices far below 1 are prices as others are.
Times of engines are equal when they are the same; those of a paper session when they fall into the same bar, for an
order needs some time to get there. What different symbols do at one time has no order. The fills of one order in a
paper session count as one, at their mean price. Of a run with more fills than are kept, the first ones are compared,
and of all the count and what they came to.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import zip_longest

import msgspec

from koc_qt.domain.backtests import BacktestResult, BacktestSpec, Provenance, RoundTrip
from koc_qt.domain.exact import EXACT, quotient
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill
from koc_qt.domain.trips import round_trips
from koc_qt.domain.trust import Verdict, utc_text, worst

TOLERANCE = 1e-9
PAPER = "paper"  # the source of a recorded paper session


class Cause(StrEnum):
    """Why two engines most likely differ."""

    MISSING = "missing trade"
    EXTRA = "additional trade"
    BAR = "other bar"
    SIDE = "other side"
    PRICE = "other price"
    SIZE = "other size"
    FEE = "other fee"


_TOTALS = {"final_equity": "the final equity is", "fees": "the fees are"}
SERIOUS = frozenset({Cause.MISSING, Cause.EXTRA, Cause.BAR, Cause.SIDE})  # these are other decisions


class EngineRun(msgspec.Struct, frozen=True):
    """What one engine made of the strategy; `source` is its name.

    `fill_count` counts those beyond `fills` as well, and `totals` are statistics of all, by name.
    """

    source: str
    fills: tuple[Fill, ...]
    trades: tuple[RoundTrip, ...]
    provenance: Provenance | None = None
    fill_count: int | None = None
    totals: dict[str, float | None] = {}


class Absence(msgspec.Struct, frozen=True):
    """An engine that took no part, and why. `is_failure`: it should have, and broke off."""

    source: str
    reason: str
    is_failure: bool = False

    @property
    def sentence(self) -> str:
        """Say so."""
        return f"{self.source} {'broke off' if self.is_failure else 'took no part'}: {self.reason}"


class Difference(msgspec.Struct, frozen=True):
    """The first difference: of the `number`th of the `records` (fills or trades, counted from 1), at `time_ns` UTC.

    `expected` is what the engine has that others are held against, `found` what the other one has; empty for nothing.
    """

    records: str
    number: int
    time_ns: int
    field: str
    expected: str
    found: str
    cause: Cause
    sentence: str


class Comparison(msgspec.Struct, frozen=True):
    """How one engine compares to another: how many fills and trades are `equal`, and how many each has.

    `largest` is the largest difference of a number among fills of the same bar and side, as a share of the larger one.
    """

    source: str
    against: str
    verdict: Verdict
    sentence: str
    fills: int
    fills_expected: int
    fills_equal: int
    trades: int
    trades_expected: int
    trades_equal: int
    largest: float
    first: Difference | None = None


class Certificate(msgspec.Struct, frozen=True):
    """What came of holding engines against each other. `provenance` is that of each one's run, where it has one."""

    verdict: Verdict
    sentence: str
    engines: tuple[str, ...]
    absent: tuple[Absence, ...]
    comparisons: tuple[Comparison, ...]
    provenance: dict[str, Provenance]
    spec: BacktestSpec | None = None


class Execution(msgspec.Struct, frozen=True, gc=False):
    """A fill, or all fills of one order, as numbers: `price` is the mean, `time_ns` that of the first."""

    instrument: InstrumentId
    time_ns: int
    side: Side
    price: float
    quantity: float
    fee: float


def engine_run(source: str, result: BacktestResult) -> EngineRun:
    """Give what a back-test made, to be held against others."""
    fills, totals = tuple(result.fills), result.statistics
    count = totals.get("fills")
    return EngineRun(
        source, fills, tuple(result.trades), result.provenance, len(fills) if count is None else int(count), totals
    )


def certify(
    runs: Sequence[EngineRun],
    absent: Sequence[Absence] = (),
    *,
    bar_ns: int,
    spec: BacktestSpec | None = None,
    session: Comparison | None = None,
) -> Certificate:
    """Hold every run against the first of them; `bar_ns` is the length of a bar.

    `session` is what came of comparing a recorded session to a run of its own. Where an engine broke off the others
    prove less than they seem to. Raises ValueError for equal names.
    """
    names = tuple(run.source for run in runs)
    if len(set(names)) < len(names):
        raise ValueError(f"an engine is there twice: {', '.join(names)}")
    comparisons = tuple(compare(runs[0], run, bar_ns=bar_ns) for run in runs[1:])
    if session is not None:
        names, comparisons = (*names, session.source), (*comparisons, session)
    if comparisons:
        verdict = worst([each.verdict for each in comparisons])
        told = [each for each in comparisons if each.verdict is verdict]
        sentence = " ".join(each.sentence for each in told)
    else:
        verdict = Verdict.NONE
        took = f"only {names[0]} took part" if names else "no engine took part"
        sentence = f"Nothing was compared: {took}."
    if failures := [f"{each.sentence.rstrip('.')}." for each in absent if each.is_failure]:
        verdict, sentence = worst([verdict, Verdict.AMBER]), " ".join([sentence, *failures])
    provenance = {run.source: run.provenance for run in runs if run.provenance is not None}
    return Certificate(verdict, sentence, names, tuple(absent), comparisons, provenance, spec)


def compare(expected: EngineRun, found: EngineRun, *, bar_ns: int) -> Comparison:
    """Hold one engine's fills and trades against another's."""
    step_ns = bar_ns if PAPER in (expected.source, found.source) else 1
    left, right = _fill_rows(expected, step_ns), _fill_rows(found, step_ns)
    fills_equal, largest = _agreement(left, right)
    first = _first(expected.source, found.source, "fill", left, right)
    left_trades, right_trades = _trade_rows(expected, step_ns), _trade_rows(found, step_ns)
    trades_equal, _ = _agreement(left_trades, right_trades)
    if first is None:
        first = _first(expected.source, found.source, "trade", left_trades, right_trades)
    other = None  # decision; fills tell of all of them
    if first is not None and first.cause not in SERIOUS:
        other = _first(expected.source, found.source, "fill", left, right, serious=True)
    counts = _count(expected, left), _count(found, right)
    verdict, sentence = _judge(expected, found, first, other, counts, len(right))
    return Comparison(
        source=found.source,
        against=expected.source,
        verdict=verdict,
        sentence=sentence,
        fills=counts[1],
        fills_expected=counts[0],
        fills_equal=fills_equal,
        trades=len(right_trades),
        trades_expected=len(left_trades),
        trades_equal=trades_equal,
        largest=largest,
        first=first,
    )


def executions(fills: Iterable[Fill], *, merged: bool) -> list[Execution]:
    """Give fills as numbers, in their order; with `merged` those of one order as one, where the first was."""
    groups: dict[object, list[Fill]] = {}
    for number, fill in enumerate(fills):
        groups.setdefault((fill.account_id, fill.client_order_id) if merged else number, []).append(fill)
    return [_execution(group) for group in groups.values()]


def pair(
    expected: Sequence[Execution], found: Sequence[Execution], slack_ns: int
) -> list[tuple[Execution | None, Execution | None]]:
    """Put together what is the same execution: same instrument and side, at most `slack_ns` apart, each once.

    What has no partner stands alone. Both must be in the order of time, and so is what is given.
    """
    pairs: list[tuple[Execution | None, Execution | None]] = []
    streams: defaultdict[InstrumentId, tuple[list[Execution], list[Execution]]] = defaultdict(lambda: ([], []))
    for side, each in enumerate((expected, found)):
        for execution in each:
            streams[execution.instrument][side].append(execution)
    for left, right in streams.values():
        pairs += _pair_stream(left, right, slack_ns)
    return sorted(pairs, key=_time_of)


# ---- inside ---------------------------------------------------------------------------------------------------------


class _Field(msgspec.Struct, frozen=True, gc=False):
    name: str
    value: int | float | str | None
    cause: Cause
    text: str


class _Row(msgspec.Struct, frozen=True, gc=False):
    """A fill or a trade as fields, in the order in which they are compared."""

    time_ns: int
    text: str
    fields: tuple[_Field, ...]

    @property
    def decision(self) -> tuple[object, ...]:
        """What was decided: when and on which side, whatever the numbers."""
        return tuple(field.value for field in self.fields if field.cause in SERIOUS)


def _execution(fills: Sequence[Fill]) -> Execution:
    first, quantity, notional, fee = fills[0], EXACT.create_decimal(0), EXACT.create_decimal(0), EXACT.create_decimal(0)
    for fill in fills:
        quantity = EXACT.add(quantity, fill.quantity)
        notional = EXACT.add(notional, EXACT.multiply(fill.price, fill.quantity))
        fee = EXACT.add(fee, fill.fee)
    price = first.price if len(fills) == 1 else quotient(notional, quantity)
    return Execution(first.instrument, first.time_ns, first.side, float(price), float(quantity), float(fee))


def _merged(fills: Sequence[Fill]) -> list[RoundTrip]:
    return round_trips(sorted(fills, key=lambda fill: fill.time_ns))


def _fill_rows(run: EngineRun, step_ns: int) -> list[_Row]:
    rows = executions(run.fills, merged=step_ns > 1)
    rows.sort(key=lambda each: (each.time_ns // step_ns, each.instrument.venue, each.instrument.symbol))
    return [
        _Row(
            each.time_ns,
            f"{_verb(each.side)} {_number(each.quantity)} {each.instrument.symbol} at {_number(each.price)}",
            (
                _Field("instrument", str(each.instrument), Cause.SIDE, str(each.instrument)),
                _Field("time", each.time_ns // step_ns, Cause.BAR, utc_text(each.time_ns)),
                _Field("side", str(each.side), Cause.SIDE, str(each.side)),
                _Field("quantity", each.quantity, Cause.SIZE, _number(each.quantity)),
                _Field("price", each.price, Cause.PRICE, _number(each.price)),
                _Field("fee", each.fee, Cause.FEE, _number(each.fee)),
            ),
        )
        for each in rows
    ]


def _trade_rows(run: EngineRun, step_ns: int) -> list[_Row]:
    trades = list(run.trades) if step_ns == 1 else _merged(run.fills)
    trades.sort(key=lambda each: (each.entry_ns // step_ns, each.instrument.venue, each.instrument.symbol))
    return [
        _Row(
            each.entry_ns,
            f"{_number(each.quantity)} {each.instrument.symbol} from {_number(each.entry_price)}",
            (
                _Field("instrument", str(each.instrument), Cause.SIDE, str(each.instrument)),
                _Field("entry time", each.entry_ns // step_ns, Cause.BAR, utc_text(each.entry_ns)),
                _Field(
                    "exit time",
                    None if each.exit_ns is None else each.exit_ns // step_ns,
                    Cause.BAR,
                    "open" if each.exit_ns is None else utc_text(each.exit_ns),
                ),
                _Field("quantity", each.quantity, Cause.SIZE, _number(each.quantity)),
                _Field("entry price", each.entry_price, Cause.PRICE, _number(each.entry_price)),
                _Field("exit price", each.exit_price, Cause.PRICE, _number(each.exit_price)),
                _Field("fees", each.fees, Cause.FEE, _number(each.fees)),
            ),
        )
        for each in trades
    ]


def _agreement(left: Sequence[_Row], right: Sequence[_Row]) -> tuple[int, float]:
    """Give how many rows are equal, wherever they stand, and the largest difference where only numbers differ."""
    equal, largest = 0, 0.0
    waiting: defaultdict[tuple[object, ...], deque[_Row]] = defaultdict(deque)
    for row in left:
        waiting[row.decision].append(row)
    for row in right:
        if not waiting[row.decision]:
            continue
        fields = list(zip(waiting[row.decision].popleft().fields, row.fields, strict=True))
        equal += all(_equal(*both) for both in fields)
        largest = max(largest, *(_gap(one.value, two.value) for one, two in fields))
    return equal, largest


def _first(
    source: str, other: str, record: str, left: Sequence[_Row], right: Sequence[_Row], *, serious: bool = False
) -> Difference | None:
    """Give the first difference; with `serious` the first of what was decided, whatever the numbers."""
    for number, (one, two) in enumerate(zip_longest(left, right)):
        if one is None or two is None:
            return _alone(source, other, record, number, one, two)
        both = zip(one.fields, two.fields, strict=True)
        unlike = next((pair for pair in both if not _equal(*pair) and (pair[0].cause in SERIOUS or not serious)), None)
        if unlike is None:
            continue
        if unlike[0].cause in SERIOUS:
            if _same(left, number + 1, right, number):
                return _alone(source, other, record, number, one, None)
            if _same(left, number, right, number + 1):
                return _alone(source, other, record, number, None, two)
        return _unlike(source, other, record, number, one, *unlike)
    return None


def _alone(source: str, other: str, record: str, number: int, one: _Row | None, two: _Row | None) -> Difference:
    """Say that one side has a row which the other has not."""
    row = one or two
    assert row is not None  # noqa: S101 (for the type checker)
    has, lacks = (source, other) if one is not None else (other, source)
    sentence = (
        f"{record.capitalize()} {number + 1} at {utc_text(row.time_ns)}: {has} has {row.text}, "
        f"{lacks} has nothing there."
    )
    return Difference(
        records=f"{record}s",
        number=number + 1,
        time_ns=row.time_ns,
        field=record,
        expected="" if one is None else one.text,
        found="" if two is None else two.text,
        cause=Cause.EXTRA if one is None else Cause.MISSING,
        sentence=sentence,
    )


def _unlike(source: str, other: str, record: str, number: int, row: _Row, one: _Field, two: _Field) -> Difference:
    """Say in which field two rows differ."""
    sentence = (
        f"{record.capitalize()} {number + 1} at {utc_text(row.time_ns)}: its {one.name} is {one.text} in {source} "
        f"and {two.text} in {other} ({one.cause})."
    )
    return Difference(f"{record}s", number + 1, row.time_ns, one.name, one.text, two.text, one.cause, sentence)


def _same(left: Sequence[_Row], at: int, right: Sequence[_Row], other: int) -> bool:
    """Tell whether two rows are the same decision, whatever their numbers."""
    return at < len(left) and other < len(right) and left[at].decision == right[other].decision


def _judge(
    expected: EngineRun,
    found: EngineRun,
    first: Difference | None,
    other: Difference | None,
    counts: tuple[int, int],
    compared: int,
) -> tuple[Verdict, str]:
    names = f"{found.source} and {expected.source}"
    data = ""
    if expected.provenance and found.provenance and expected.provenance.data != found.provenance.data:
        data = " They did not run on the same bars."
    if first is None and counts[0] != counts[1]:
        text = f"{names} made {counts[1]:,} and {counts[0]:,} fills, of which the first {compared:,} are equal."
        return Verdict.RED, text + data
    if first is None and not counts[0]:
        return Verdict.NONE, f"{names} made no fill: there is nothing to compare.{data}"
    if first is None and compared < counts[1] and (later := _later(expected, found)):
        return Verdict.RED, f"The first {compared:,} fills of {names} are equal, and later ones are not: {later}.{data}"
    if first is None:
        more = "" if compared == counts[1] else f"; the first {compared:,} were compared"
        if more and None not in [run.totals.get("final_equity") for run in (expected, found)]:
            more += ", and what all of them came to"
        text = f"{names} made the same {counts[1]:,} fills{more}."
        return (Verdict.AMBER, text + data) if data else (Verdict.GREEN, text)
    verdict = Verdict.RED if first.cause in SERIOUS or other is not None else Verdict.AMBER
    later = "" if other is None else f" Their decisions differ first here: {other.sentence}"
    return verdict, f"{names} differ first here: {first.sentence}{later}{data}"


def _later(expected: EngineRun, found: EngineRun) -> str:
    """Say in what all fills came to something else; empty where they did not, and where that is not known."""
    known = [run.totals.get(name) for run in (expected, found) for name in ("final_equity", "net_profit")]
    scale = max((abs(each) for each in known if each is not None), default=0.0)  # with the cash that a run began with
    for name, words in _TOTALS.items():
        one, two = expected.totals.get(name), found.totals.get(name)
        if one is not None and two is not None and not abs(one - two) <= TOLERANCE * scale:
            return f"{words} {_number(one)} in {expected.source} and {_number(two)} in {found.source}"
    return ""


def _count(run: EngineRun, rows: Sequence[_Row]) -> int:
    return len(rows) if run.fill_count in (None, len(run.fills)) else run.fill_count


def _pair_stream(
    left: Sequence[Execution], right: Sequence[Execution], slack_ns: int
) -> Iterable[tuple[Execution | None, Execution | None]]:
    one = two = 0
    while one < len(left) and two < len(right):
        gap_ns = right[two].time_ns - left[one].time_ns
        if left[one].side is right[two].side and abs(gap_ns) <= slack_ns:
            yield left[one], right[two]
            one, two = one + 1, two + 1
        elif gap_ns >= 0:
            yield left[one], None
            one += 1
        else:
            yield None, right[two]
            two += 1
    yield from ((each, None) for each in left[one:])
    yield from ((None, each) for each in right[two:])


def _time_of(both: tuple[Execution | None, Execution | None]) -> int:
    return min(each.time_ns for each in both if each is not None)


def _equal(one: _Field, two: _Field) -> bool:
    if isinstance(one.value, float) and isinstance(two.value, float):
        return abs(one.value - two.value) <= TOLERANCE * max(abs(one.value), abs(two.value))
    return one.value == two.value


def _gap(one: float | str | None, two: float | str | None) -> float:
    """Give the difference of two numbers as a share of the larger one; 0 for what is no number."""
    if isinstance(one, float) and isinstance(two, float) and one != two:
        return abs(one - two) / max(abs(one), abs(two))
    return 0.0


def _verb(side: Side) -> str:
    return "bought" if side is Side.BUY else "sold"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.12g}"
