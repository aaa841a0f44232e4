"""What ``koc doctor`` finds on this machine: run as a process of its own, its report read when it ends."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from PySide6.QtCore import QObject, QProcess, QTimer, Signal

TIMEOUT_S = 60.0
LARGEST_REPORT = 1 << 20  # bytes
_WORDS_KEPT = 300  # characters of what a failed run said


class Check(msgspec.Struct, frozen=True):
    """What one look found; `status` is ok, warn or fail, `advice` says what to do where it is not ok."""

    name: str
    status: str
    text: str
    advice: str = ""


class _Report(msgspec.Struct, frozen=True):
    checks: list[Check]


class DoctorRun(QObject):
    """Runs the command, one at a time. `reported` brings a list of Check, `failed` a sentence; `ended` follows both.

    A run that takes longer than `timeout_s` is ended. The end of this object ends the process too.
    """

    reported = Signal(object)
    failed = Signal(str)
    ended = Signal()

    def __init__(self, command: Sequence[str], parent: QObject, *, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(parent)
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self._trouble = ""  # why a run that is being ended is ended
        self._output = bytearray()
        process = self._process = QProcess(self)
        process.setStandardInputFile(QProcess.nullDevice())
        process.readyReadStandardOutput.connect(self._read)
        process.finished.connect(self._finished)
        process.errorOccurred.connect(self._went_wrong)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(round(timeout_s * 1000))
        self._timer.timeout.connect(self._time_out)
        self.destroyed.connect(lambda: _end(process))

    @property
    def is_running(self) -> bool:
        """Whether a run is under way."""
        return self._process.state() is not QProcess.ProcessState.NotRunning

    def start(self) -> None:
        """Begin a run, unless there is one."""
        if not self.is_running:
            self._trouble = ""
            self._output.clear()
            self._timer.start()
            self._process.start(self._command[0], list(self._command[1:]))

    def cancel(self) -> None:
        """End the run; `failed` brings nothing, `ended` comes when it is over."""
        self._stop("cancelled")

    def _stop(self, trouble: str) -> None:
        if self.is_running:
            self._trouble = self._trouble or trouble
            self._process.kill()

    def _time_out(self) -> None:
        self._stop(f"The check did not end within {self._timeout_s:g} s and was stopped")

    def _read(self) -> None:
        self._output += bytes(self._process.readAllStandardOutput().data())
        if len(self._output) > LARGEST_REPORT:
            self._stop(f"The check wrote more than {LARGEST_REPORT >> 20} MB and was stopped")

    def _went_wrong(self, error: QProcess.ProcessError) -> None:
        if error is QProcess.ProcessError.FailedToStart:  # nothing else will come
            self._timer.stop()
            self.failed.emit(f"{self._command[0]} could not be started: {self._process.errorString()}")
            self.ended.emit()

    def _finished(self, code: int) -> None:
        self._timer.stop()
        if self._trouble:
            if self._trouble != "cancelled":
                self.failed.emit(self._trouble)
        else:
            self._report(code)
        self.ended.emit()

    def _report(self, code: int) -> None:
        self._output += bytes(self._process.readAllStandardOutput().data())
        try:
            report = msgspec.json.decode(bytes(self._output), type=_Report)
        except msgspec.DecodeError:
            said = bytes(self._process.readAllStandardError().data()).decode(errors="replace").strip()
            words = said.splitlines()[-1][:_WORDS_KEPT] if said else "it gave no report"
            self.failed.emit(f"The check ended with code {code}: {words}")
        else:
            self.reported.emit(report.checks)


def _end(process: QProcess) -> None:
    """End a process whose owner goes: Qt would only complain, and wait for it."""
    if process.state() is not QProcess.ProcessState.NotRunning:
        process.blockSignals(True)
        process.kill()
        process.waitForFinished(2_000)
