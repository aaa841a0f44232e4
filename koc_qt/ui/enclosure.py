"""A widget around another that keeps what happens inside from having everything around it laid out anew."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QSize
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QWidget


class Enclosure(QWidget):
    """Holds one widget, which fills it.

    Whenever a text changes, Qt lays out all that it is in, up to the window with its docks, for 3 ms: it might want
    other room. Here those around hear of it only when the least size of what is held has changed, or the height that it
    wants where `is_as_high_as_wanted`. Make the widget with this as its parent, then have it held.
    """

    def __init__(self, parent: QWidget, *, is_as_high_as_wanted: bool = False) -> None:
        super().__init__(parent)
        self._held: QWidget | None = None
        self._is_as_high_as_wanted = is_as_high_as_wanted
        self._told = self._wanted()

    @property
    def held(self) -> QWidget | None:
        """What it holds."""
        return self._held

    def hold(self, widget: QWidget) -> None:
        """Fill it with this, which is shown from now on whenever this is."""
        self._held = widget
        self.setSizePolicy(widget.sizePolicy())
        widget.setGeometry(self.rect())
        widget.show()
        self._look()

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Give what is held at least needs."""
        held = self._held
        return held.minimumSizeHint().expandedTo(held.minimumSize()) if held is not None else super().minimumSizeHint()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Give what is held wants."""
        return (
            self._held.sizeHint().expandedTo(self.minimumSizeHint()) if self._held is not None else super().sizeHint()
        )

    def hasHeightForWidth(self) -> bool:  # noqa: N802 - Qt's name
        """Say whether what is held wants other heights at other widths."""
        return self._held is not None and self._held.hasHeightForWidth()

    def heightForWidth(self, width: int) -> int:  # noqa: N802 - Qt's name
        """Give the height that what is held wants."""
        return self._held.heightForWidth(width) if self._held is not None else -1

    def event(self, event: QEvent) -> bool:
        """Look whether what is held wants other room: Qt says so to whoever has no layout."""
        if event.type() == QEvent.Type.LayoutRequest:
            self._look()
        return super().event(event)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Catch up: what is not seen is not told."""
        self._look()
        super().showEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Fill it."""
        super().resizeEvent(event)
        if self._held is not None:
            self._held.setGeometry(self.rect())

    def _look(self) -> None:
        wanted = self._wanted()
        if wanted != self._told:
            self._told = wanted
            self.updateGeometry()

    def _wanted(self) -> tuple[QSize, int]:
        if not self._is_as_high_as_wanted:
            return self.minimumSizeHint(), 0
        height = self.heightForWidth(self.width()) if self.hasHeightForWidth() else self.sizeHint().height()
        return self.minimumSizeHint(), height
