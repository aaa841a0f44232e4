"""How long orders take, stage by stage: percentiles, and a histogram whose right end is what nobody wants to see."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QResizeEvent
from PySide6.QtWidgets import QSplitter, QStyle, QStyleOptionViewItem, QWidget

from koc_qt.domain.latency import EDGES_MS, SLOW_MS, LatencySnapshot, Stage, StageLatency
from koc_qt.ui.tables.columns import Column
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.tables.view import CellDelegate, RecordTable
from koc_qt.ui.theme import Theme

_WORDS = {
    Stage.SIGNAL: ("Signal", "From the strategy's decision until the engine has it"),
    Stage.RISK: ("Checks", "The instrument's rules, the limits, the kill switch"),
    Stage.JOURNAL: ("Journal", "Until the intent is on the engine's disk"),
    Stage.SENT: ("Sending", "Until the request is on its way: rate limits are waited for here"),
    Stage.ACKNOWLEDGED: ("Venue", "Until the venue has answered"),
    Stage.FILLED: ("First fill", "From the venue's answer to the first fill"),
    Stage.TOTAL: ("Signal to answer", "All of it, from the signal to the venue's answer"),
}
_FIRST_SLOW = EDGES_MS.index(SLOW_MS) + 1  # the bucket of what took longer than that
_BOTH_FROM_PX, _SECOND_PX = 860, 350
_ORDER = {stage: place for place, stage in enumerate(Stage)}


def milliseconds(value: float) -> str:
    """Write a time in milliseconds, as exact as a person needs it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def bucket_words(latency: StageLatency) -> str:
    """Say a histogram in words: how many took how long."""
    bounds = [f"up to {edge:g} ms" for edge in EDGES_MS] + [f"over {EDGES_MS[-1]:g} ms"]
    lines = [f"{bound}: {count:,}" for bound, count in zip(bounds, latency.buckets, strict=False) if count]
    return "\n".join(lines)


def _tone(value: float) -> str | None:
    return "danger" if value > SLOW_MS else None


COLUMNS: tuple[Column[StageLatency], ...] = (
    Column(
        "stage",
        "Orders, ms",
        lambda each: _WORDS[each.stage][0],
        lambda each: _ORDER[each.stage],
        tip=lambda each: _WORDS[each.stage][1],
        width=15,
    ),
    Column("p50", "p50", lambda each: milliseconds(each.p50_ms), lambda each: each.p50_ms, right=True, width=6,
           tone=lambda each: _tone(each.p50_ms), title_tip="The median of the newest thousand"),
    Column("p99", "p99", lambda each: milliseconds(each.p99_ms), lambda each: each.p99_ms, right=True, width=6,
           tone=lambda each: _tone(each.p99_ms), title_tip="The 99th percentile of the newest thousand"),
    Column("longest", "Longest", lambda each: milliseconds(each.longest_ms), lambda each: each.longest_ms, right=True,
           width=7, tone=lambda each: _tone(each.longest_ms), title_tip="Since the engine started"),
    Column("histogram", "Histogram", lambda _each: "", tip=bucket_words, width=11,
           title_tip="How many took how long since the engine started: 0.1 ms at the left to over 5 s at the right, "
           "each bar two to two and a half times its neighbour; red is over 500 ms"),
)  # fmt: skip


class _HistogramDelegate(CellDelegate):
    """Paints the bars; the other cells as in every table."""

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Paint a cell."""
        latency = self._model.record_at(index.row())
        if latency is None or self._model.columns[index.column()].name != "histogram":
            super().paint(painter, option, index)
            return
        colors = self._theme.colors
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(option.rect, QColor(colors.selection))
        paint_histogram(painter, option.rect, latency.buckets, colors.info, colors.danger, colors.edge)


def paint_histogram(
    painter: QPainter, area: QRect, buckets: tuple[int, ...], color: str, slow_color: str, base_color: str
) -> None:
    """Draw a bar for each bucket over the whole of an area; those of slow orders in `slow_color`.

    Heights are square roots of counts, so that one slow order among a thousand is seen; one that is not 0 is at least
    two pixels high.
    """
    room = QRectF(area).adjusted(4, 3, -4, -3)
    step, most = room.width() / len(buckets), max(buckets)
    painter.fillRect(QRectF(room.left(), room.bottom() - 1, room.width(), 1), QColor(base_color))
    for place, count in enumerate(buckets):
        if count:
            height = max((count / most) ** 0.5 * room.height(), 2.0)
            bar = QRectF(room.left() + place * step, room.bottom() - height, max(step - 1, 1.0), height)
            painter.fillRect(bar, QColor(slow_color if place >= _FIRST_SLOW else color))


class LatencyTable(RecordTable[StageLatency]):
    """One row a stage, in the order of an order's way."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        self.model_: RecordModel[StageLatency] = RecordModel(COLUMNS, theme, parent, sort_by="stage")
        super().__init__(self.model_, theme, parent, empty="No order was sent yet")
        self.setItemDelegate(_HistogramDelegate(theme, self.model_, self))
        self.setAccessibleName("Order latency by stage")
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)

    def show_latency(self, latency: LatencySnapshot | None) -> None:
        """Show these figures; nothing where there are none."""
        stages = {each.stage: each for each in latency.stages} if latency is not None else {}
        if {each.stage for each in self.model_.records} - stages.keys():
            self.model_.reset(stages.items())
        for stage, each in stages.items():
            self.model_.put(stage, each)


class SideBySide(QSplitter):
    """Shows its second widget beside the first where that is wanted and there is room for both."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self._is_wanted = True
        self.setChildrenCollapsible(False)

    def want(self, is_wanted: bool) -> None:
        """Show the second where there is room, or do not."""
        self._is_wanted = is_wanted
        self._place()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Leave out what a narrow panel has no room for."""
        super().resizeEvent(event)
        self._place()

    def _place(self) -> None:
        second, is_shown = self.widget(1), self._is_wanted and self.width() >= _BOTH_FROM_PX
        if second is not None and is_shown == second.isHidden():
            second.setVisible(is_shown)
            self.setStretchFactor(0, 1)
            self.refresh()  # else the widget that comes has its share from what it would like
            self.setSizes([self.width() - _SECOND_PX, _SECOND_PX])
