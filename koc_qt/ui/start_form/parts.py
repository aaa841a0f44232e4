"""Small parts of the form: sentences, lists that the wheel leaves alone, numbers kept exactly as they were typed."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QValidator, QWheelEvent
from PySide6.QtWidgets import QAbstractSpinBox, QComboBox, QLabel, QScrollArea, QWidget

from koc_qt.domain.errors import StrategyError
from koc_qt.sdk.parameters import Parameter
from koc_qt.ui.focus import StaysInSight
from koc_qt.ui.theme import number_font, style_as


class Words(QLabel):
    """A sentence of anybody's, shown as plain text and wrapped; it takes no room while it is empty."""

    def __init__(self, text: str = "", tone: str | None = None, face: str | None = None) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)
        self.setMinimumWidth(1)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        style_as(self, tone=tone, face=face)
        self.say(text)

    def say(self, text: str) -> None:
        """Show a sentence, or nothing."""
        if self.text() != text:
            self.setText(text)
        if self.parentWidget() is not None or not text:
            self.setVisible(bool(text))
        else:  # it comes into sight with what it is put into: alone it would be a window of its own
            self.setAttribute(Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)


class Caption(QLabel):
    """What stands before a field, as plain text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.setTextFormat(Qt.TextFormat.PlainText)


class Choice(QComboBox):
    """A list; the wheel scrolls the form around it and changes nothing in passing."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(10)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        """Leave it to the form."""
        event.ignore()


class NumberBox(QAbstractSpinBox):
    """A number of a parameter: any text may be typed, and is judged by the parameter's own rules.

    Steps keep to the grid and the range; nothing is rounded to some number of decimals.
    """

    edited = Signal()

    def __init__(self, rule: Parameter) -> None:
        super().__init__()
        self._rule = rule
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccelerated(True)
        self.setCorrectionMode(QAbstractSpinBox.CorrectionMode.CorrectToPreviousValue)
        self.lineEdit().setFont(number_font())
        self.lineEdit().setMaxLength(60)
        self.lineEdit().setTextMargins(6, 0, 0, 0)
        self.lineEdit().textChanged.connect(lambda _text: self.edited.emit())

    def value(self) -> int | float:
        """Give the number. Raises StrategyError, with the range, where the text is none that may be used."""
        value: int | float = self._rule.convert(self.text().strip())
        return value

    def set_value(self, value: float) -> None:
        """Show a number."""
        self.lineEdit().setText(written(value))

    def stepBy(self, steps: int) -> None:  # noqa: N802 - Qt's name
        """Go up or down."""
        try:
            now = Decimal(self.text().strip())
        except InvalidOperation:
            now = Decimal(written(self._rule.default))
        if not now.is_finite():
            return
        low, high = (None if each is None else Decimal(written(each)) for each in (self._rule.low, self._rule.high))
        wanted = now + steps * self._step(now)
        if self._rule.step is not None:  # from where the text is, to the grid
            start = low if low is not None else Decimal(0)
            step = Decimal(written(self._rule.step))
            wanted = start + ((wanted - start) / step).to_integral_value() * step
            if high is not None:
                high = start + (high - start) // step * step
        if low is not None:
            wanted = max(low, wanted)
        if high is not None:
            wanted = min(high, wanted)
        self.lineEdit().setText(written(wanted))
        self.selectAll()

    def stepEnabled(self) -> QAbstractSpinBox.StepEnabledFlag:  # noqa: N802 - Qt's name
        """Say which arrows lead anywhere."""
        flags = QAbstractSpinBox.StepEnabledFlag
        try:
            now = self.value()
        except StrategyError:
            return flags.StepUpEnabled | flags.StepDownEnabled
        up = flags.StepUpEnabled if self._rule.high is None or now < self._rule.high else flags.StepNone
        down = flags.StepDownEnabled if self._rule.low is None or now > self._rule.low else flags.StepNone
        return up | down

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        """Let anything be typed; what is wrong is said beneath."""
        return QValidator.State.Acceptable, text, position

    def _step(self, now: Decimal) -> Decimal:
        if self._rule.step is not None:
            return Decimal(written(self._rule.step))
        if self._rule.kind == "int":
            return Decimal(1)
        scale = now if now else Decimal(written(self._rule.default))
        return Decimal(1).scaleb(min(0, scale.adjusted() - 1)) if scale else Decimal("0.1")

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        """Leave it to the form, which scrolls, unless the field is in use."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class Scroll(QScrollArea):
    """Scrolls its content up and down, and asks for the room that all of it needs."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setWidget(content)
        self._content = content
        self.setAutoFillBackground(True)
        StaysInSight(self)

    def height_for(self, width: int) -> int:
        """Give the height at which nothing needs to scroll."""
        content = self._content
        return content.heightForWidth(width) if content.hasHeightForWidth() else content.sizeHint().height()

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Shrink as far as one likes."""
        return QSize(200, 80)


def written(value: float | Decimal) -> str:
    """Write a number in full, without an exponent and without zeros at its end."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    text = f"{exact + 0:f}" if exact else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text
