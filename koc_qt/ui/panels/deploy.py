"""The deploy panel: installers, what works on this machine, how to show an engine of another one, what runs here."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSize, QSysInfo, Qt, QTimer, QUrl, qVersion
from PySide6.QtGui import QDesktopServices, QGuiApplication, QHideEvent, QShowEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.desk import Frame, Level
from koc_qt.ui.formats import duration
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.deploy_build import BuildSection
from koc_qt.ui.panels.deploy_build_place import Place, build_place
from koc_qt.ui.panels.deploy_build_run import BuildRun
from koc_qt.ui.panels.deploy_doctor import TIMEOUT_S, Check, DoctorRun
from koc_qt.ui.panels.deploy_parts import CheckRow, CodeLine, caption, sentence, tool_button
from koc_qt.ui.theme import number_font, style_as
from koc_qt.version import __version__

STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("On this machine, write the public key of its window to a file.", ("koc keys export laptop.key",)),
    (
        "Carry that file to the engine's machine. There, let it in, and write the engine's own public key to a file.",
        ("koc keys import laptop laptop.key", "koc keys server engine.key"),
    ),
    (
        "There, give the engine an address in koc.yaml, and start it.",
        ("engine:\n  link:\n    endpoint: tcp://0.0.0.0:5555", "koc engine"),
    ),
    (
        "Carry engine.key back. Here, with that machine's name or address for HOST:",
        ("koc --connect tcp://HOST:5555 --server-key engine.key",),
    ),
)
_BEAT_MS = 1_000


class DeployPanel(Panel):
    """Four sections, one below the other; `doctor_command` is run when the panel is first seen, and on request.

    `find_place` gives where installers are built from.
    """

    NAME = "deploy"
    TITLE = "Deploy"
    ICON = "deploy"

    def __init__(
        self,
        bench: Bench,
        doctor_command: Sequence[str],
        folders: Mapping[str, Path],
        parent: QWidget | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        clock_s: Callable[[], float] = time.monotonic,
        find_place: Callable[[], Place] = build_place,
    ) -> None:
        super().__init__(bench, parent)
        self._clock_s = clock_s
        self._heard_s = clock_s()
        self._was_seen = False
        self.checks: list[Check] = []
        self.doctor = DoctorRun(doctor_command, self, timeout_s=timeout_s)
        self.run = BuildRun(self, find=find_place, clock_s=clock_s)
        self._folders = folders
        self._beat = QTimer(self)
        self._beat.setInterval(_BEAT_MS)
        self.make()

    def parts(self) -> Iterator[None]:
        """Make the sections."""
        area = QScrollArea(self)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        content = self._content = QWidget()
        area.setWidget(content)
        column = QVBoxLayout(content)
        column.setContentsMargins(12, 10, 12, 12)
        column.setSpacing(6)
        self.installers = BuildSection(self.bench, self.run, self.open_folder, content)
        column.addWidget(self.installers)
        yield from self.installers.parts()
        column.addSpacing(8)
        self._add_machine(column)
        column.addSpacing(8)
        yield
        yield from self._add_remote(column)
        column.addSpacing(8)
        yield
        self._add_about(column)
        column.addStretch(1)
        yield
        self._beat.timeout.connect(self._show_engine)
        self.doctor.reported.connect(self._show_checks)
        self.doctor.failed.connect(self._show_failure)
        self.doctor.ended.connect(self._show_running)
        self.desk.framed.connect(self._on_frame)
        self.desk.linked.connect(self._show_engine)
        self._show_engine()

    # ---- this machine -----------------------------------------------------------------------------------------------

    def _add_machine(self, column: QVBoxLayout) -> None:
        self.refresh = QPushButton("Check", self._content)
        self.refresh.setToolTip("Look at this machine again")
        self.refresh.clicked.connect(self._refresh_or_cancel)
        self.copy_report = tool_button("copy", "Copy this report", self.bench.theme, self._content)
        self.copy_report.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.report()))
        head = QHBoxLayout()
        head.addWidget(caption("This machine", self._content), 1)
        head.addWidget(self.copy_report)
        head.addWidget(self.refresh)
        column.addLayout(head)
        self.summary = sentence("What K.O.C. needs is looked at in a process of its own.", self._content, "muted")
        column.addWidget(self.summary)
        self._rows = QVBoxLayout()
        self._rows.setSpacing(4)
        column.addLayout(self._rows)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Look at the machine when this is first seen."""
        super().showEvent(event)
        self._show_engine()
        self._beat.start()
        if not self._was_seen:
            self._was_seen = True
            self.look()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802 - Qt's name
        """Rest."""
        super().hideEvent(event)
        self._beat.stop()

    def look(self) -> None:
        """Look at this machine now."""
        self.doctor.start()
        self._show_running()

    def _refresh_or_cancel(self) -> None:
        if self.doctor.is_running:
            self.doctor.cancel()
            self._say("The check was cancelled.", "muted")
        else:
            self.look()

    def _show_running(self) -> None:
        running = self.doctor.is_running
        self.refresh.setText("Cancel" if running else "Check again")
        self.refresh.setIcon(icon("cancel" if running else "refresh", self.bench.theme))
        if running:
            self._say("Looking at this machine…", "muted")

    def _show_failure(self, words: str) -> None:
        self._say(words, "danger")

    def _show_checks(self, checks: list[Check]) -> None:
        self.checks = checks
        count = {status: sum(check.status == status for check in checks) for status in ("ok", "warn", "fail")}
        parts = [f"{count['ok']} fine"]
        if count["warn"]:
            parts.append(f"{count['warn']} to know")
        if count["fail"]:
            parts.append(f"{count['fail']} failed")
        self._say(", ".join(parts), "danger" if count["fail"] else "warning" if count["warn"] else "profit")
        self._fill(checks)

    def _fill(self, checks: list[Check]) -> None:
        while (item := self._rows.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        order = {"fail": 0, "warn": 1}
        for check in sorted(checks, key=lambda check: order.get(check.status, 2)):
            self._rows.addWidget(CheckRow(check, self.bench.theme, self._content))

    def _say(self, words: str, tone: str) -> None:
        self.summary.setText(words)
        style_as(self.summary, tone=tone)

    # ---- another machine ---------------------------------------------------------------------------------------------

    def _add_remote(self, column: QVBoxLayout) -> Iterator[None]:
        column.addWidget(caption("Engine on another machine", self._content))
        column.addWidget(
            sentence("The window here, the engine there. Only public keys travel.", self._content, "muted")
        )
        for number, (words, lines) in enumerate(STEPS, 1):
            column.addWidget(sentence(f"{number}.  {words}", self._content))
            for line in lines:
                column.addWidget(CodeLine(line, self.bench.theme, self._content))
            yield

    # ---- what runs here ----------------------------------------------------------------------------------------------

    def _add_about(self, column: QVBoxLayout) -> None:
        column.addWidget(caption("About", self._content))
        grid = QGridLayout()
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        self.engine = sentence("", self._content)
        self.engine.setFont(number_font())
        self._facts = {
            "Version": __version__,
            "Python": platform.python_version(),
            "Qt": qVersion(),
            "System": f"{QSysInfo.prettyProductName()}, {QSysInfo.currentCpuArchitecture()}",
        }
        rows: list[tuple[str, QWidget]] = [
            (name, sentence(value, self._content)) for name, value in self._facts.items()
        ]
        rows.append(("Engine", self.engine))
        rows += [(name, self._folder_link(path)) for name, path in self._folders.items()]
        for number, (name, widget) in enumerate(rows):
            label = QLabel(name, self._content)
            style_as(label, tone="muted")
            is_link = isinstance(widget, QPushButton)
            grid.addWidget(label, number, 0, Qt.AlignmentFlag.AlignVCenter if is_link else Qt.AlignmentFlag.AlignTop)
            grid.addWidget(widget, number, 1)
        column.addLayout(grid)

    def _folder_link(self, path: Path) -> QPushButton:
        button = _ElidedLink(str(path), self._content)
        button.setIcon(icon("folder", self.bench.theme))
        button.setToolTip(f"Open {path}")
        button.clicked.connect(lambda: self.open_folder(path))
        return button

    def open_folder(self, path: Path) -> None:
        """Show a folder in the system's own program for that."""
        if not path.is_dir():
            self.desk.notify(f"There is no folder {path} yet", Level.WARNING)
        elif not QDesktopServices.openUrl(QUrl.fromLocalFile(str(path))):
            self.desk.notify(f"This system has no program that opens the folder {path}", Level.WARNING)

    def _on_frame(self, frame: Frame) -> None:
        if frame.engine or frame.snapshot:
            self._heard_s = self._clock_s()
            if self.isVisible():
                self._show_engine()

    def _show_engine(self) -> None:
        text = self._engine_words()
        if self.engine.text() != text:
            self.engine.setText(text)

    def _engine_words(self) -> str:
        engine = self.desk.replica.engine
        if engine is None or not self.desk.is_connected:
            return f"not connected: {self.desk.link_reason}"
        up = duration(engine.uptime_s + self._clock_s() - self._heard_s)
        where = " on another machine" if self.desk.is_remote else ""
        return f"{engine.version}, process {engine.pid}{where}, up {up}"

    def report(self) -> str:
        """Give all of it as text, for whoever is asked for help."""
        lines = [f"{name}: {value}" for name, value in {**self._facts, "Engine": self._engine_words()}.items()]
        lines += [f"{check.status:<4} {check.name}: {check.text} {check.advice}".rstrip() for check in self.checks]
        return "\n".join(lines) + "\n"

    def state(self) -> dict[str, Any]:
        """Give whether what is built is tested."""
        return {"test": self.installers.with_test.isChecked()}

    def restore(self, state: dict[str, Any]) -> None:
        """Test what is built, or do not."""
        self.installers.with_test.setChecked(bool(state.get("test", False)))

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the width of a side dock."""
        return QSize(340, 500)


class _ElidedLink(QPushButton):
    """A flat button that shortens its text in the middle rather than widen the panel."""

    def __init__(self, text: str, parent: QWidget) -> None:
        super().__init__(parent)
        self._whole = text
        self.setAccessibleName(text)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        style_as(self, role="flat")
        style_as(self, face="line")

    def resizeEvent(self, event: object) -> None:  # noqa: N802 - Qt's name
        """Fit the text."""
        room = self.width() - 26
        self.setText(self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideMiddle, room))

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Be as narrow as need be."""
        return QSize(60, super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for little."""
        return QSize(120, super().sizeHint().height())
