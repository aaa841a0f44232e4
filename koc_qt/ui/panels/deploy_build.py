"""The installers in the deploy panel: pick one, see what is missing, watch it being built, take what was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QSize, Qt, QTimer
from PySide6.QtGui import QHideEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.ui.bench import Bench
from koc_qt.ui.desk import Level
from koc_qt.ui.formats import duration, percent
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.deploy_build_log import BuildLog, BuildLogView
from koc_qt.ui.panels.deploy_build_parts import NeedRow, ResultCard, StageList, all_packages, rough, split_advice
from koc_qt.ui.panels.deploy_build_run import AT_WORK, LINES_KEPT, BuildRun, Phase
from koc_qt.ui.panels.deploy_parts import CodeLine, caption, sentence, tool_button
from koc_qt.ui.slices import Slices
from koc_qt.ui.theme import number_font, style_as

_BEAT_MS = 1_000
_WIDE_PX = 460  # from here on, the four buttons lie in one row
_BAR_STEPS = 1_000
_BAR_PX = 6


@dataclass(frozen=True)
class Target:
    """A kind of installer: its name for the build, for people, its icon, and what comes of it."""

    name: str
    title: str
    icon: str
    tip: str


TARGETS = (
    Target("windows", "Windows", "panes", "Build the setup program for Windows"),
    Target("ubuntu", "Ubuntu", "package", "Build the package for Ubuntu and Debian"),
    Target("appimage", "AppImage", "program", "Build the one file that runs on most Linux systems"),
    Target("docker", "Docker", "container", "Build what makes a container of the engine, without a window"),
)
_TITLES = {target.name: target.title for target in TARGETS}


class BuildSection(QWidget):
    """Shows one build at a time. It goes on while the panel is closed, and is there when it is opened again."""

    def __init__(self, bench: Bench, run: BuildRun, open_folder: Callable[[Path], None], parent: QWidget) -> None:
        super().__init__(parent)
        self.bench = bench
        self.run = run
        self._open_folder = open_folder
        self.log = BuildLog(self)
        self.buttons: dict[str, QPushButton] = {}
        self._is_wide: bool | None = None
        self._is_log_open = True
        self._shown: Phase | None = None
        self._making = Slices(self)
        self._beat = QTimer(self)
        self._beat.setInterval(_BEAT_MS)
        self._beat.timeout.connect(self._show_figures)

    def parts(self) -> Iterator[None]:
        """Make the widgets, and connect them at the end."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        column.addWidget(caption("Installers", self))
        self.hint = sentence("", self, "muted")
        column.addWidget(self.hint)
        self._add_targets(column)
        yield
        self._add_head(column)
        yield
        self._add_body(column)
        yield
        yield from self._add_log(column)
        self.run.changed.connect(self._show)
        self.run.logged.connect(self._take_lines)
        self._show()

    # ---- making -----------------------------------------------------------------------------------------------------

    def _add_targets(self, column: QVBoxLayout) -> None:
        self._grid = QGridLayout()
        self._grid.setSpacing(6)
        for target in TARGETS:
            button = QPushButton(target.title, self)
            button.setIcon(icon(target.icon, self.bench.theme))
            button.setIconSize(QSize(16, 16))
            button.setToolTip(target.tip)
            button.setAccessibleName(f"Build for {target.title}")
            button.setAutoDefault(True)  # Enter presses it
            button.clicked.connect(lambda _checked=False, name=target.name: self.start(name))
            self.buttons[target.name] = button
        column.addLayout(self._grid)
        self.with_test = QCheckBox("Test it: install it, trade with it, remove it", self)
        self.with_test.setToolTip("Takes some minutes more, and shows that what was built works where it is installed")
        self.with_test.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        column.addWidget(self.with_test)

    def _add_head(self, column: QVBoxLayout) -> None:
        self.headline = sentence("", self)
        font = self.headline.font()
        font.setWeight(font.Weight.DemiBold)
        self.headline.setFont(font)
        self.cancel = self._button("Cancel", "cancel", self._cancel)
        self.cancel.setToolTip("Stop it in order. What is done is kept, and the next build goes on from there")
        head = QHBoxLayout()
        head.setContentsMargins(0, 6, 0, 0)
        head.addWidget(self.headline, 1)
        head.addWidget(self.cancel, 0, Qt.AlignmentFlag.AlignTop)
        column.addLayout(head)
        self.bar = QProgressBar(self)
        self.bar.setRange(0, _BAR_STEPS)
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("How far the build is")
        self.bar.setFixedHeight(_BAR_PX)
        style_as(self.bar, face="small")
        column.addWidget(self.bar)
        self.figures = sentence("", self, "muted")
        self.figures.setFont(number_font(self.font()))
        column.addWidget(self.figures)

    def _add_body(self, column: QVBoxLayout) -> None:
        self.words = sentence("", self)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        column.addWidget(self.words)
        self._rows = QVBoxLayout()
        self._rows.setSpacing(6)
        column.addLayout(self._rows)
        self.fetch = self._button("Fetch what is missing", "download", self.run_fetch, role="primary")
        self.again = self._button("Check again", "refresh", lambda: self.start(self.run.target))
        self._acts = QGridLayout()
        self._acts.setSpacing(6)
        column.addLayout(self._acts)
        self._place_targets()
        self.stages = StageList(self.bench.theme, self)
        column.addWidget(self.stages)

    def _add_log(self, column: QVBoxLayout) -> Iterator[None]:
        theme = self.bench.theme
        self.log_toggle = QToolButton(self)
        self.log_toggle.setText("Log")
        self.log_toggle.setToolTip("Show or hide what the build writes")
        self.log_toggle.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.log_toggle.clicked.connect(self._toggle_log)
        self.log_count = QLabel(self)
        self.log_count.setFont(number_font(self.font()))
        style_as(self.log_count, tone="muted")
        self.follow = tool_button("down", "Follow the newest line (End)", theme, self)
        self.follow.setCheckable(True)
        self.follow.setChecked(True)
        self.copy_log = tool_button("copy", "Copy the chosen lines, or the whole log", theme, self)
        head = QHBoxLayout()
        head.setSpacing(4)
        head.addWidget(self.log_toggle)
        head.addWidget(self.log_count, 1)
        head.addWidget(self.follow)
        head.addWidget(self.copy_log)
        column.addLayout(head)
        yield
        self.lines = BuildLogView(self.log, theme, self)
        column.addWidget(self.lines)
        self.follow.clicked.connect(self.lines.set_follows)
        self.lines.following_changed.connect(lambda: self.follow.setChecked(self.lines.follows))
        self.copy_log.clicked.connect(self.lines.copy)
        yield

    def _button(self, text: str, picture: str, run: Callable[[], object], *, role: str | None = None) -> QPushButton:
        button = QPushButton(text, self)
        button.setIcon(icon(picture, self.bench.theme, "on_fill" if role else "icon"))
        button.setAutoDefault(True)
        style_as(button, role=role)
        button.clicked.connect(lambda _checked=False: run())
        return button

    def _place_targets(self) -> None:
        """Lay buttons in one row, or where it is narrow in two."""
        is_wide = self.width() >= _WIDE_PX
        if is_wide == self._is_wide:
            return
        self._is_wide = is_wide
        columns = len(TARGETS) if is_wide else 2
        for number, button in enumerate(self.buttons.values()):
            self._grid.addWidget(button, number // columns, number % columns)
        for each in range(len(TARGETS)):
            self._grid.setColumnStretch(each, 1 if each < columns else 0)
        for number, button in enumerate((self.fetch, self.again)):
            self._acts.addWidget(button, *((0, number) if is_wide else (number, 0)), Qt.AlignmentFlag.AlignLeft)
        self._acts.setColumnStretch(2, 1)

    # ---- what the person does ---------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """See what a target needs, and build it where nothing is missing."""
        if self.run.is_running:
            return
        had_focus = any(button.hasFocus() for button in (*self.buttons.values(), self.again))
        self.log.clear()
        self.lines.set_follows(True)
        self.run.start(name, with_test=self.with_test.isChecked())
        if had_focus:  # not to whatever comes next, which a second Enter would press
            self._rest_focus()

    def run_fetch(self) -> None:
        """Fetch what is missing, and go on."""
        self.run.fetch(with_test=self.with_test.isChecked())
        self._rest_focus()

    def _rest_focus(self) -> None:
        """Put the keyboard where a key pressed twice does no harm."""
        resting = self.with_test if self.with_test.isEnabled() else self.log_toggle
        resting.setFocus()

    def _cancel(self) -> None:
        self.run.cancel()

    # ---- what is shown ----------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Show the phase, and where that is another one, what belongs to it."""
        run, phase = self.run, self.run.phase
        if phase is not self._shown:
            before, self._shown = self._shown, phase
            self._tell_others(before)
            self._fill()
        running = run.is_running
        problem = run.place().problem if not running and phase is Phase.IDLE else ""
        self._set_up(problem)
        for button in self.buttons.values():
            button.setEnabled(not running and not problem)
        self.cancel.setVisible(running)
        self.cancel.setEnabled(not run.is_stopping)
        self.bar.setVisible(running)
        self.stages.setVisible(bool(run.book.stages) and phase not in (Phase.MISSING, Phase.CHECKING))
        self.stages.show_book(run.book)
        self.fetch.setVisible(phase is Phase.MISSING and bool(run.book.fetchable()))
        self.again.setVisible(phase in (Phase.MISSING, Phase.FAILED, Phase.CANCELLED))
        self.again.setText("Check again" if phase is Phase.MISSING else "Build again")
        self._say()
        self._show_log()
        self._show_figures()
        self._beat_or_rest()

    def _set_up(self, problem: str) -> None:
        text = problem or "Pick one: what it needs is looked at first. One is built at a time, from this checkout."
        if self.hint.text() != text:
            self.hint.setText(text)
            style_as(self.hint, tone="warning" if problem else "muted")
        self.hint.setVisible(bool(problem) or self.run.phase is Phase.IDLE)
        self.with_test.setVisible(not problem)
        self.with_test.setEnabled(not self.run.is_running)

    def _say(self) -> None:
        """Say what is under way or came out, in one line, and what there is to know about it in another."""
        run, book = self.run, self.run.book
        title = _TITLES.get(run.target, run.target)
        took = duration(run.took_s)
        tone, words = None, ""
        match run.phase:
            case Phase.IDLE:
                line = ""
            case Phase.CHECKING:
                line = f"Looking at what {title} needs…"
            case Phase.FETCHING:
                line = f"Fetching what {title} needs…"
            case Phase.BUILDING:
                line = f"Building for {title}"
            case Phase.MISSING:
                count = len(book.needs)
                line, tone = f"{title}: {count} {'thing is' if count == 1 else 'things are'} missing", "warning"
                if run.with_test:
                    words = "The test needs more than the build alone: without it, less may be missing."
            case Phase.DONE:
                line, tone = f"{title}: built{' and tested' if run.with_test else ''} in {took}", "profit"
            case Phase.CANCELLED:
                line, words = f"{title}: cancelled", "What is done is kept: the next build goes on from there."
            case _:
                line, tone = f"{title}: failed{self._failed_at()} after {took}", "danger"
                words = book.failure.text if book.failure is not None else ""
        if run.is_running and run.is_stopping:
            line, words = f"{title}: stopping…", "What is at work is ended, and what it has mounted undone."
        self.headline.setText(line)
        self.headline.setVisible(bool(line))
        style_as(self.headline, tone=tone)
        self.words.setText(words)
        self.words.setVisible(bool(words))

    def _failed_at(self) -> str:
        failure = self.run.book.failure
        names = {stage.name: stage.title for stage in self.run.book.stages}
        return f" at “{names[failure.stage]}”" if failure is not None and failure.stage in names else ""

    def _show_figures(self) -> None:
        """Show how far it is; called every second while it runs."""
        run, book = self.run, self.run.book
        is_known = run.phase is Phase.BUILDING and bool(book.stages)
        self.bar.setRange(0, _BAR_STEPS if is_known or not run.is_running else 0)
        parts = []
        if is_known:
            self.bar.setValue(round(book.fraction() * _BAR_STEPS))
            remaining = book.remaining_s()
            parts.append(percent(book.fraction(), 0))
            if remaining is not None and not run.is_stopping:
                parts.append(f"about {rough(remaining)} left" if remaining >= 1 else "about to end")
        if run.phase in (Phase.BUILDING, Phase.FETCHING):
            parts.append(f"{rough(run.elapsed_s())} so far")
        self.figures.setText("  ·  ".join(parts))
        self.figures.setVisible(bool(parts))
        if run.is_running:
            self.stages.show_book(book)

    def _fill(self) -> None:
        """Make the rows of what is missing or was made, a few a turn."""
        while (item := self._rows.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        self._making.start(self._made())

    def _made(self) -> Iterator[None]:
        run, theme = self.run, self.bench.theme
        if run.phase is Phase.IDLE:
            for line in run.place().advice:
                self._rows.addWidget(CodeLine(line, theme, self))
        elif run.phase is Phase.MISSING:
            for need in run.book.needs:
                self._rows.addWidget(NeedRow(need, theme, self))
                yield
            if line := all_packages(run.book.needs):
                self._rows.addWidget(sentence("All packages in one go:", self, "muted"))
                self._rows.addWidget(CodeLine(line, theme, self))
        elif run.phase is Phase.DONE:
            for result in run.book.results:
                card = ResultCard(result, theme, self)
                card.folder_wanted.connect(self._open_folder)
                self._rows.addWidget(card)
                yield
        elif run.phase is Phase.FAILED:
            place = run.place()
            advice = [run.book.failure.advice] if run.book.failure is not None else []
            for each in place.advice if place.problem else advice:
                words, command = split_advice(each)
                if words:
                    self._rows.addWidget(sentence(words, self, "muted"))
                if command:
                    self._rows.addWidget(CodeLine(command, theme, self))
                yield

    def _tell_others(self, before: Phase | None) -> None:
        """Have the window know what it is at work on, and the person how it came out who looks elsewhere."""
        run, work = self.run, self.bench.work
        title = _TITLES.get(run.target, run.target)
        if run.phase in (Phase.FETCHING, Phase.BUILDING):
            if not work.is_running:
                work.begin(f"Building for {title}", run.cancel)
        else:
            work.end(is_good=run.phase is Phase.DONE)
        if before in AT_WORK and not self.isVisible():
            said = {
                Phase.DONE: ("is built", Level.INFO),
                Phase.FAILED: ("could not be built: the Deploy panel says why", Level.WARNING),
                Phase.MISSING: ("lacks something: the Deploy panel says what", Level.WARNING),
            }.get(run.phase)
            if said is not None:
                self.bench.desk.notify(f"The installer for {title} {said[0]}.", said[1])

    # ---- the log ----------------------------------------------------------------------------------------------------

    def _take_lines(self, lines: list[str]) -> None:
        was_empty = not self.log.lines
        self.log.add(lines)
        if was_empty:
            self._show_log()
        count = f"{self.log.total:,} {'line' if self.log.total == 1 else 'lines'}"
        kept = f", the newest {LINES_KEPT:,} here" if self.log.total > LINES_KEPT else ""
        self.log_count.setText(count + kept)

    def _toggle_log(self) -> None:
        self._is_log_open = not self._is_log_open
        self._show_log()

    def _show_log(self) -> None:
        there = self.run.phase is not Phase.IDLE and (self.run.is_running or bool(self.log.lines))
        opened = there and self._is_log_open
        self.log_toggle.setVisible(there)
        self.log_toggle.setIcon(icon("down" if opened else "right", self.bench.theme))
        if not self.log.lines:
            self.log_count.setText("nothing yet")
        self.log_count.setVisible(there)
        for each in (self.lines, self.follow, self.copy_log):
            each.setVisible(opened)

    # ---- Qt's calls -------------------------------------------------------------------------------------------------

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Lay the buttons anew where there is other room."""
        super().resizeEvent(event)
        self._place_targets()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Catch up with the clock."""
        super().showEvent(event)
        self._show_figures()
        self._beat_or_rest()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802 - Qt's name
        """Count no seconds while nobody looks; the build goes on."""
        super().hideEvent(event)
        self._beat.stop()

    def _beat_or_rest(self) -> None:
        if not self.run.is_running or not self.isVisible():
            self._beat.stop()
        elif not self._beat.isActive():
            self._beat.start()
