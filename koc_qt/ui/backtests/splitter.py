"""Two widgets side by side where there is room, else one above the other."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QSplitter, QWidget


class ShapedSplitter(QSplitter):
    """Lies as its room demands; each way has sizes of its own.

    Make the two widgets as its children, and call `keep` then: that one stays as it is when there is more room. It gets
    `kept_px`, or less than half, where they lie side by side, which they do from `wide_px` on, and `tall_share` of the
    height otherwise. Sizes are pixels by shape, "wide" and "tall", once a person has moved the handle.
    """

    def __init__(self, parent: QWidget, *, wide_px: int, kept_px: int, tall_share: float = 0.45) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self.moved_to: dict[str, list[int]] = {}
        self._wide_px, self._kept_px, self._tall_share = wide_px, kept_px, tall_share
        self._kept = 0
        self._is_restored = False  # and not seen since
        self.setChildrenCollapsible(False)
        self.splitterMoved.connect(lambda _place, _index: self.moved_to.update({self.shape: self.sizes()}))

    def keep(self, place: int) -> None:
        """Leave the first (0) or the second (1) as it is when there is more room."""
        self._kept = place
        self.setStretchFactor(place, 0)
        self.setStretchFactor(1 - place, 1)

    @property
    def shape(self) -> str:
        """Which way it lies."""
        return "wide" if self.orientation() is Qt.Orientation.Horizontal else "tall"

    def restore_sizes(self, state: Any) -> None:
        """Take `moved_to` over, as far as it can be read."""
        for shape in ("wide", "tall"):
            pair = state.get(shape) if isinstance(state, dict) else None
            if isinstance(pair, list) and len(pair) == 2 and all(type(px) is int and 0 < px < 100_000 for px in pair):
                self.moved_to[shape] = list(pair)
        self._is_restored = True
        if self.isVisible():  # before that, it would have all that it holds styled and measured at once
            self._share()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Lie as the room demands."""
        super().resizeEvent(event)
        is_wide = self.width() >= self._wide_px and self.width() > self.height()
        way = Qt.Orientation.Horizontal if is_wide else Qt.Orientation.Vertical
        has_turned = way is not self.orientation()
        if has_turned:
            self.setOrientation(way)
        if has_turned or self._is_restored or self.shape not in self.moved_to:
            self._is_restored = self._is_restored and not self.isVisible()
            self._share()

    def _share(self) -> None:
        length = self.width() if self.shape == "wide" else self.height()
        kept = min(self._kept_px, length * 45 // 100) if self.shape == "wide" else round(length * self._tall_share)
        pair = [kept, max(length - kept, 1)]
        self.setSizes(self.moved_to.get(self.shape, pair if self._kept == 0 else pair[::-1]))
