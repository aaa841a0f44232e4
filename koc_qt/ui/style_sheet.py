"""The style sheet: what palettes cannot do, made from the colours. A grid of 4 px, hairlines of 1 px, no gradients.

Cells of tables get room at their sides and nothing else: their colours stay with the palette and the model. What parts
of windows lie in (docks, splitters, pages; see ui/dressing.py) names colours of the palette, so that its rules hold for
every theme: shadow is the window's, base the panel's, button raised, light hovered, dark the line's, link the accent.
"""

from __future__ import annotations

from string import Template

from koc_qt.ui.colors import Colors, mix
from koc_qt.ui.resources import resource

PILLS = ("neutral", "profit", "loss", "warning", "danger", "info", "simulated", "paper", "testnet", "live")
_TONES = ("muted", "profit", "loss", "warning", "danger", "info")
_FILLED = (("primary", "accent_fill"), ("danger", "danger_fill"), ("buy", "profit_fill"), ("sell", "loss_fill"))
_PILL_TINT = 0.14  # of the pill's colour, in its background
_PILL_LINE = 0.38

_SHEET = Template("""
QAbstractButton, QTabBar, QAbstractItemView, QAbstractScrollArea { outline: none; }
QToolTip { background: $raised; color: $text; border: 1px solid $edge; padding: 4px 6px; }
QMainWindow { background: palette(shadow); }
QDialog { background: $window; }
QMainWindow::separator { background: palette(shadow); width: 5px; height: 5px; }
QMainWindow::separator:hover { background: palette(link); }
QSplitter::handle { background: palette(shadow); }
QSplitter::handle:horizontal { width: 5px; }
QSplitter::handle:vertical { height: 5px; }
QSplitter::handle:hover { background: palette(link); }

QDockWidget { color: palette(placeholder-text); titlebar-close-icon: url("$art/dock-close.svg");
  titlebar-normal-icon: url("$art/dock-float.svg"); }
QDockWidget::title { background: palette(button); border-bottom: 1px solid palette(dark); padding: 4px 8px;
  text-align: left; }
QDockWidget::close-button, QDockWidget::float-button { border: none; border-radius: 3px; padding: 1px; }
QDockWidget::close-button:hover, QDockWidget::float-button:hover { background: palette(light); }

QTabBar { background: transparent; }
QTabBar::tab { background: transparent; color: $muted; border: none; padding: 5px 12px; min-width: 24px; }
QTabBar::tab:hover { color: $text; background: $hover; }
QTabBar::tab:selected { color: $text; background: $panel; }
QTabBar::tab:disabled { color: $disabled; }
QTabBar::tab:top { border-bottom: 2px solid transparent; }
QTabBar::tab:bottom { border-top: 2px solid transparent; }
QTabBar::tab:top:selected { border-bottom-color: $accent; }
QTabBar::tab:bottom:selected { border-top-color: $accent; }
QTabBar::tab:focus { color: $accent; }
QTabBar::close-button { image: url("$art/close.svg"); border-radius: 3px; padding: 1px; }
QTabBar::close-button:hover { background: $edge; }
QTabWidget::pane { border: none; border-top: 1px solid palette(dark); background: palette(base); }

QMenuBar { background: $raised; border-bottom: 1px solid $line; padding: 0 4px; }
QMenuBar::item { background: transparent; padding: 5px 8px; border-radius: 4px; }
QMenuBar::item:selected { background: $hover; }
QMenu { background: $raised; border: 1px solid $edge; padding: 4px; }
QMenu::item { padding: 5px 24px 5px 8px; border-radius: 3px; }
QMenu::icon { padding-left: 6px; }
QMenu::item:selected { background: $selection; }
QMenu::item:disabled { color: $disabled; }
QMenu::separator { height: 1px; background: $line; margin: 4px 6px; }

QToolBar { background: $raised; border: none; border-bottom: 1px solid $line; spacing: 4px; padding: 4px; }
QToolBar::separator { background: $line; width: 1px; margin: 4px; }
QStatusBar { background: $raised; color: $muted; border-top: 1px solid $line; }
QStatusBar::item { border: none; }

QToolButton { background: transparent; border: 1px solid transparent; border-radius: 4px; padding: 3px; }
QToolButton:hover { background: $hover; }
QToolButton:pressed, QToolButton:open { background: $line; }
QToolButton:checked { background: $selection; }
QToolButton:focus { border-color: $accent; }
QToolButton:disabled { color: $disabled; }
QToolButton[popupMode="1"] { padding-right: 16px; }
QToolButton::menu-button { border: none; width: 14px; }
QToolButton::menu-arrow, QToolButton::menu-indicator { image: url("$art/down.svg"); width: 10px; height: 10px; }
QToolButton::menu-indicator { subcontrol-position: right center; right: 2px; }
QToolButton[popupMode="2"] { padding-right: 14px; }

QPushButton { background: $raised; border: 1px solid $edge; border-radius: 4px; padding: 4px 12px; min-height: 16px; }
QPushButton:hover { background: $hover; }
QPushButton:pressed { background: $line; }
QPushButton:checked { background: $selection; border-color: $accent; }
QPushButton:focus { border-color: $accent; }
QPushButton:disabled { color: $disabled; border-color: $line; }
QPushButton[face="line"] { text-align: left; padding: 1px 0; }
QPushButton[face="small"] { padding: 3px 0; font-size: 11px; }
QPushButton[role="flat"] { background: transparent; border-color: transparent; }
QPushButton[role="flat"]:hover { background: $hover; }
QPushButton[role="flat"]:focus { border-color: $accent; }
QToolButton[tone="muted"] { color: $muted; }
QToolButton[tone="profit"], QToolButton[tone="loss"] { background: $raised; border-color: $edge; padding: 2px 8px; }
QToolButton[tone="profit"] { color: $profit; }
QToolButton[tone="loss"] { color: $loss; }
QToolButton[tone="profit"]:hover { background: $hover; border-color: $profit; }
QToolButton[tone="loss"]:hover { background: $hover; border-color: $loss; }
QToolButton[tone="profit"]:focus, QToolButton[tone="loss"]:focus { border-color: $accent; }

QLineEdit, QAbstractSpinBox, QComboBox, QPlainTextEdit, QTextEdit {
  background: $field; color: $text; border: 1px solid $edge; border-radius: 4px; padding: 3px 6px;
  selection-background-color: $selection; selection-color: $text; placeholder-text-color: $hint; }
QLineEdit, QComboBox { min-height: 18px; }
QLineEdit[face="small"] { min-height: 16px; padding: 1px 6px; }
QAbstractSpinBox { min-height: 18px; max-height: 18px; }
QSpinBox, QDoubleSpinBox { qproperty-alignment: "AlignRight|AlignVCenter"; }
QComboBox:!editable { background: $raised; }
QComboBox:!editable:hover { background: $hover; }
QLineEdit:hover, QAbstractSpinBox:hover, QComboBox:hover { border-color: $muted; }
QLineEdit:focus, QAbstractSpinBox:focus, QComboBox:focus, QPlainTextEdit:focus, QTextEdit:focus {
  border-color: $accent; }
QLineEdit[invalid="true"], QAbstractSpinBox[invalid="true"], QComboBox[invalid="true"],
QPlainTextEdit[invalid="true"], QTextEdit[invalid="true"] { border-color: $danger; }
QLineEdit:disabled, QAbstractSpinBox:disabled, QComboBox:disabled, QPlainTextEdit:disabled, QTextEdit:disabled {
  color: $disabled; background: $panel; border-color: $line; }
QLineEdit:read-only, QPlainTextEdit:read-only, QTextEdit:read-only { background: $panel; }
QPlainTextEdit, QTextEdit { padding: 2px; }
QComboBox QLineEdit, QAbstractSpinBox QLineEdit, QAbstractItemView QLineEdit {
  border: none; border-radius: 0; padding: 0; min-height: 0; }
QPlainTextEdit[role="bare"], QTextEdit[role="bare"] { border: none; border-radius: 0; background: $panel; }
QComboBox::drop-down, QDateTimeEdit::drop-down { border: none; background: transparent; width: 20px; }
QComboBox::down-arrow, QDateTimeEdit::down-arrow { image: url("$art/down.svg"); width: 12px; height: 12px; }
QComboBox QAbstractItemView { background: $raised; border: 1px solid $edge; padding: 2px; }
QAbstractSpinBox::up-button, QAbstractSpinBox::down-button { border: none; background: transparent; width: 18px; }
QAbstractSpinBox::up-button { subcontrol-position: top right; }
QAbstractSpinBox::down-button { subcontrol-position: bottom right; }
QAbstractSpinBox::up-button:hover, QAbstractSpinBox::down-button:hover { background: $hover; border-radius: 2px; }
QAbstractSpinBox::up-arrow { image: url("$art/up.svg"); width: 10px; height: 10px; }
QAbstractSpinBox::down-arrow { image: url("$art/down.svg"); width: 10px; height: 10px; }

QCheckBox, QRadioButton { spacing: 6px; }
QCheckBox:disabled, QRadioButton:disabled, QLabel:disabled { color: $disabled; }
QCheckBox::indicator, QRadioButton::indicator, QGroupBox::indicator, QAbstractItemView::indicator {
  width: 14px; height: 14px; border: 1px solid $muted; border-radius: 3px; background: $field; }
QRadioButton::indicator { border-radius: 8px; }
QCheckBox::indicator:hover, QRadioButton::indicator:hover, QCheckBox::indicator:focus, QRadioButton::indicator:focus {
  border-color: $accent; }
QCheckBox:focus, QRadioButton:focus { color: $accent; }
QCheckBox::indicator:checked, QGroupBox::indicator:checked, QAbstractItemView::indicator:checked {
  background: $accent_fill; border-color: $accent_fill; image: url("$art/check.svg"); }
QRadioButton::indicator:checked { background: $accent_fill; border-color: $accent_fill; image: url("$art/dot.svg"); }
QCheckBox::indicator:checked:focus, QRadioButton::indicator:checked:focus { border-color: $text; }
QCheckBox::indicator:indeterminate { background: $accent_fill; border-color: $accent_fill;
  image: url("$art/dash.svg"); }
QCheckBox::indicator:disabled, QRadioButton::indicator:disabled { border-color: $line; background: $panel; }
QCheckBox::indicator:checked:disabled, QRadioButton::indicator:checked:disabled {
  border-color: $disabled; background: $disabled; }

QAbstractItemView { border: none; background: $panel; alternate-background-color: $stripe; }
QTableView::item { padding: 0; }
QTreeView::item { padding: 3px 4px; min-height: 16px; }
QWidget#qt_calendar_navigationbar { background: $raised; }
QToolButton#qt_calendar_prevmonth { qproperty-icon: url("$art/left.svg"); }
QToolButton#qt_calendar_nextmonth { qproperty-icon: url("$art/right.svg"); }
QScrollArea { border: none; }
QTableView { gridline-color: $line; }
QHeaderView { background: $raised; border: none; }
QHeaderView::section { background: $raised; color: $muted; border: none; border-right: 1px solid $line;
  border-bottom: 1px solid $line; padding: 4px 6px; }
QHeaderView::section:last { border-right: none; }
QHeaderView::section:hover { color: $text; }
QHeaderView::up-arrow { image: url("$art/up.svg"); width: 10px; height: 10px;
  subcontrol-origin: padding; subcontrol-position: center right; right: 4px; }
QHeaderView::down-arrow { image: url("$art/down.svg"); width: 10px; height: 10px;
  subcontrol-origin: padding; subcontrol-position: center right; right: 4px; }
QTableCornerButton::section { background: $raised; border: none; border-bottom: 1px solid $line; }

QScrollBar { background: transparent; border: none; margin: 0; }
QScrollBar:vertical { width: 10px; }
QScrollBar:horizontal { height: 10px; }
QScrollBar::handle { background: $edge; border: 2px solid $panel; border-radius: 5px; }
QScrollBar::handle:vertical { min-height: 28px; }
QScrollBar::handle:horizontal { min-width: 28px; }
QScrollBar::handle:hover { background: $muted; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }
QAbstractScrollArea::corner { background: palette(base); border: none; }

QFileDialog { backward-icon: url("$art/left.svg"); forward-icon: url("$art/right.svg");
  filedialog-backward-icon: url("$art/left.svg"); filedialog-parent-directory-icon: url("$art/up.svg"); }
QDialogButtonBox, QMessageBox { dialogbuttonbox-buttons-have-icons: 0; }
QMessageBox QLabel#qt_msgbox_label { font-size: 15px; font-weight: 600; }
QMessageBox QLabel#qt_msgbox_informativelabel { min-width: 340px; }

QProgressBar { background: $field; border: 1px solid $edge; border-radius: 4px; text-align: center; min-height: 14px; }
QProgressBar[face="small"] { min-height: 4px; }
QProgressBar::chunk { background: $accent_fill; border-radius: 3px; }
QGroupBox { border: 1px solid $line; border-radius: 4px; margin-top: 18px; padding: 8px; }
QGroupBox::title { subcontrol-origin: margin; subcontrol-position: top left; color: $muted; padding: 0 2px 2px 0; }
QFrame[frameShape="4"] { border: none; background: $line; max-height: 1px; }
QFrame[frameShape="5"] { border: none; background: $line; max-width: 1px; }
QLabel[face="title"] { font-size: 15px; font-weight: 600; }
QLabel[face="value"] { font-size: 16px; font-weight: 600; }
QLabel[face="small"] { font-size: 11px; }
QFrame[bar="header"] { background: $raised; border: none; border-bottom: 1px solid $line; }
QFrame[popup="palette"] { background: $raised; border: 1px solid $edge; border-radius: 6px; }
QLabel[pill] { border-radius: 4px; padding: 1px 6px; max-height: 14px;
  font-size: 11px; font-weight: 600; }
QLabel[pill="real-money"] { color: $on_fill; background: $danger_fill; border: 1px solid $danger_fill; }
""")

_FILL = Template("""
QPushButton[role="$role"], QToolButton[role="$role"] {
  background: $fill; color: $on_fill; border: 1px solid $fill; font-weight: 600; }
QPushButton[role="$role"]:hover, QToolButton[role="$role"]:hover { background: $hover; border-color: $hover; }
QPushButton[role="$role"]:pressed, QToolButton[role="$role"]:pressed { background: $pressed; }
QPushButton[role="$role"]:focus, QToolButton[role="$role"]:focus { border-color: $ring; }
QPushButton[role="$role"]:disabled, QToolButton[role="$role"]:disabled {
  background: $raised; color: $disabled; border-color: $line; font-weight: 400; }
""")


def style_sheet(colors: Colors) -> str:
    """Make the sheet for these colours. Raises ConfigError when its small pictures are missing."""
    names = {name: value for name, value in vars(colors).items() if isinstance(value, str)}
    parts = [_SHEET.substitute(names, art=resource("theme").as_posix())]
    parts += [_filled(role, getattr(colors, fill), colors) for role, fill in _FILLED]
    for kind in PILLS:
        text, background, edge = pill_colors(kind, colors)
        parts.append(
            f'QLabel[pill="{kind}"] {{ color: {text}; background: {background}; border: 1px solid {edge}; }}\n'
        )
    for tone in ("info", "warning", "danger"):
        _, background, edge = pill_colors(tone, colors)
        parts.append(
            f'QFrame[strip="{tone}"] {{ background: {background}; border: none; border-bottom: 1px solid {edge}; }}\n'
        )
    parts += [f'QLabel[tone="{tone}"] {{ color: {getattr(colors, tone)}; }}\n' for tone in _TONES]
    return "".join(parts)


def pill_colors(kind: str, colors: Colors) -> tuple[str, str, str]:
    """Give a pill's text, background and outline; delegates that paint pills in tables use them too."""
    if kind == "neutral":
        return colors.muted, colors.raised, colors.edge
    color: str = getattr(colors, kind)
    return color, mix(color, colors.panel, _PILL_TINT), mix(color, colors.panel, _PILL_LINE)


def hovered(fill: str) -> str:
    """Give a filled button's colour under the pointer: darker, so that its text keeps its contrast."""
    return mix(fill, "#000000", 0.88)


def _filled(role: str, fill: str, colors: Colors) -> str:
    return _FILL.substitute(
        role=role,
        fill=fill,
        on_fill=colors.on_fill,
        hover=hovered(fill),
        pressed=mix(fill, "#000000", 0.76),
        ring=colors.text,
        raised=colors.raised,
        disabled=colors.disabled,
        line=colors.line,
    )
