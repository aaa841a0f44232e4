"""A search for better parameters: what to search, how far it is, and what was found in pictures and in a table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import PurePath
from typing import Any

import msgspec
from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import ConfigError, KocError, LinkError
from koc_qt.domain.optimisation import StudySnapshot, StudySpec, Trial
from koc_qt.domain.state import JobState
from koc_qt.link.optimiser_messages import (
    ENGINE_ROLE,
    DeleteStudy,
    FetchTrials,
    ResumeStudy,
    StartStudy,
    StopStudy,
    TrialsPage,
)
from koc_qt.sdk.channel import Described
from koc_qt.ui import formats
from koc_qt.ui.backtests.heat_view import HeatView
from koc_qt.ui.backtests.parallel_view import ParallelView
from koc_qt.ui.backtests.search_form import SearchForm
from koc_qt.ui.backtests.small import Question
from koc_qt.ui.backtests.trial_data import (
    HeatMap,
    Lines,
    heat_map,
    lines_of,
    objective_name,
    objective_text,
    parameter_names,
    value_text,
)
from koc_qt.ui.backtests.trials import ALSO, MOST_TRIALS, TrialsView
from koc_qt.ui.bench import Bench
from koc_qt.ui.errands import Errand
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.backtest_fields import WheelGuard
from koc_qt.ui.panels.backtest_runs import PILLS
from koc_qt.ui.theme import style_as

START_TIMEOUT_S = 30.0
PAGE_TRIALS = 250  # decoded within a frame
PICTURE_MS = 400  # between two pictures of a study that runs
_NO_SECOND = ""
Base = Callable[[], BacktestSpec | None]
Place = Callable[[BacktestSpec], Coroutine[Any, Any, BacktestSpec]]


class OptimisePage(QWidget):
    """`settings_wanted` brings the BacktestSpec of a trial for the form. Its widgets are made by `parts`.

    `base` gives the run whose parameters are searched; None where the form has something wrong, which it says then.
    `place` brings its file to an engine on another machine.
    """

    settings_wanted = Signal(object)

    def __init__(self, bench: Bench, parent: QWidget, *, base: Base, place: Place) -> None:
        super().__init__(parent)
        self._desk, self._theme = bench.desk, bench.theme
        self._base, self._place = base, place
        self._study_id = ""  # the one that is looked at
        self._awaited = ""
        self._trials: dict[int, Trial] = {}
        self._contiguous = -1  # all trials up to this number are known
        self._is_starting = self._is_painted = False
        self.question = Question(self)
        self._starting = Errand(self._desk, self)
        self._fetching = Errand(self._desk, self)
        self._picturing = Errand(self._desk, self)  # goes through thousands of trials beside the loop
        self._painting = QTimer(self)
        self._painting.setSingleShot(True)
        self._painting.setInterval(PICTURE_MS)
        self._painting.timeout.connect(self._paint)

    # ---- making -----------------------------------------------------------------------------------------------------

    def parts(self) -> Iterator[None]:
        """Make the line above, then tab by tab."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(self._make_line())
        self.words = QLabel(self)
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.words.setWordWrap(True)
        self.words.setContentsMargins(8, 0, 8, 3)
        style_as(self.words, face="small", tone="muted")
        column.addWidget(self.words)
        self.tabs = QTabWidget(self)
        self.tabs.setDocumentMode(True)
        column.addWidget(self.tabs, 1)
        yield
        self.form = SearchForm(self)
        self.tabs.addTab(self.form, "Search")
        yield from self.form.parts()
        yield
        self._make_map()
        yield
        self.lines = ParallelView(self._theme, self)
        self.lines.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.tabs.addTab(self.lines, "Parallel")
        self.trials = TrialsView(self._theme, self)
        self.tabs.addTab(self.trials, "Trials")
        yield
        self.form.changed.connect(self._say_size)
        self.studies.activated.connect(lambda row: self.look_at(str(self.studies.itemData(row))))
        self.start.clicked.connect(lambda _checked: self._press())
        self.resume.clicked.connect(lambda _checked: self._desk.send(ResumeStudy(self._study_id)))
        self.delete.clicked.connect(lambda _checked: self._ask_to_delete())
        for box in (self.across, self.up, self.shows):
            box.activated.connect(lambda _row: self._paint_map())
        for view in (self.heat, self.lines, self.trials):
            view.taken.connect(self.take)
        self.tabs.currentChanged.connect(lambda _place: self._paint())
        self.refresh()

    def _make_line(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setContentsMargins(8, 3, 8, 4)
        row.setSpacing(5)
        self.studies = QComboBox(self)
        self.studies.setAccessibleName("Search")
        self.studies.setPlaceholderText("No searches yet")
        self.studies.setMinimumContentsLength(7)
        self.studies.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        WheelGuard(self).watch(self.studies)
        self.pill = QLabel(self)
        style_as(self.pill, pill="neutral")
        self.progress = QProgressBar(self)
        self.progress.setRange(0, 1_000)
        self.progress.setMaximumWidth(130)
        self.progress.setMinimumWidth(50)
        self.progress.setAccessibleName("Progress of the search")
        self.resume = QPushButton("Resume", self)
        self.delete = QToolButton(self)
        self.delete.setIcon(icon("trash", self._theme))
        self.delete.setToolTip("Forget this search and its trials")
        self.delete.setAccessibleName("Forget this search")
        self.start = QPushButton("Search", self)
        style_as(self.start, role="primary")
        row.addWidget(self.studies, 1)
        for widget in (self.pill, self.progress, self.resume, self.delete, self.start):
            row.addWidget(widget)
        return row

    def _make_map(self) -> None:
        page = QWidget(self)
        page.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.tabs.addTab(page, "Heat-map")
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        row = QHBoxLayout()
        row.setContentsMargins(8, 4, 8, 2)
        row.setSpacing(5)
        column.addLayout(row)
        guard = WheelGuard(self)
        boxes = []
        for text, name in (("Across", "Parameter across"), ("Up", "Parameter up"), ("Shows", "What the colours show")):
            label, box = QLabel(text, page), QComboBox(page)
            style_as(label, tone="muted")
            box.setAccessibleName(name)
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(5)
            guard.watch(box)
            row.addWidget(label)
            row.addWidget(box, 1)
            boxes.append(box)
        self.across, self.up, self.shows = boxes
        self.heat = HeatView(self._theme, page)
        column.addWidget(self.heat, 1)

    # ---- for the panel ----------------------------------------------------------------------------------------------

    def offer(self, described: Described | None) -> None:
        """Search the parameters of another file from now on."""
        if described is not None:
            self.form.offer(described.parameters)

    def state(self) -> dict[str, Any]:
        """Give what was chosen and typed."""
        return self.form.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Take that over."""
        self.form.restore(state)

    def close_down(self) -> None:
        """Take no answer that is still on its way."""
        self._starting.cancel()
        self._fetching.cancel()
        self._picturing.cancel()
        self._painting.stop()

    @property
    def study(self) -> StudySnapshot | None:
        """The search that is looked at; None where there is none."""
        return self._desk.replica.studies.get(self._study_id)

    def look_at(self, study_id: str) -> None:
        """Show another search."""
        if study_id != self._study_id:
            self._forget()
        self._study_id = study_id
        self.refresh()

    def _forget(self) -> None:
        self._fetching.cancel()
        self._picturing.cancel()
        self._trials, self._contiguous, self._is_painted = {}, -1, False

    def refresh(self) -> None:
        """Bring the list of searches up to date, and what is shown of the chosen one."""
        studies = self._desk.replica.studies
        if self._awaited in studies:
            self._study_id, self._awaited = self._awaited, ""
            self._forget()
        if self._study_id not in studies:
            self._forget()
            self._study_id = next(reversed(studies), "")
        keys = list(reversed(studies))
        if keys != [self.studies.itemData(row) for row in range(self.studies.count())]:
            self.studies.clear()
            for key in keys:
                self.studies.addItem(study_text(studies[key]), key)
        self.studies.setCurrentIndex(self.studies.findData(self._study_id) if self._study_id else -1)
        self.studies.setEnabled(bool(keys))
        self._show_study()
        self._fetch()

    def _show_study(self) -> None:
        study = self.study
        is_running = study is not None and study.state is JobState.RUNNING
        self.pill.setVisible(study is not None)
        self.progress.setVisible(is_running)
        self.resume.setVisible(study is not None and study.state in (JobState.STOPPED, JobState.FAILED))
        self.delete.setVisible(study is not None and not is_running)
        self.start.setText("Stop" if is_running else "Search")
        self.start.setIcon(icon("stop" if is_running else "search", self._theme, "on_fill"))
        self.start.setEnabled(self._desk.is_connected and not self._is_starting)
        if study is None:
            self._say_size()
            return
        self.pill.setText(study.state.value)
        style_as(self.pill, pill=PILLS[study.state])
        self.progress.setValue(round(1_000 * study.finished / study.total) if study.total else 0)
        self.words.setText(words_of(study))
        style_as(self.words, tone="danger" if study.state is JobState.FAILED else "muted")

    def _say_size(self) -> None:
        """Say what a new search would be, while there is none to speak of."""
        if self.study is None or self.tabs.currentIndex() == 0:
            size = self.form.size_text()
            found = words_of(self.study) if self.study is not None else ""
            self.words.setText(" · ".join(text for text in (found, size and f"The form has {size}") if text))

    # ---- searching --------------------------------------------------------------------------------------------------

    def _press(self) -> None:
        study = self.study
        if study is not None and study.state is JobState.RUNNING:
            self._desk.send(StopStudy(study.study_id))
        else:
            self.begin()

    def begin(self) -> None:
        """Start a search of what the form holds."""
        base = self._base()
        if base is None or self._is_starting or not self._desk.is_connected:
            if base is None:
                self._complain("Nothing was started: something in the form beside is wrong or missing")
            return
        try:
            spec = self.form.spec(base)
        except ConfigError as error:
            self._complain(f"Nothing was started. {error}")
            self.tabs.setCurrentIndex(0)
            return
        self._is_starting = True
        self.start.setEnabled(False)
        self._starting.start(self._start(spec), self._refused)

    async def _start(self, spec: StudySpec) -> None:
        placed = msgspec.structs.replace(spec, base=await self._place(spec.base))
        self._awaited = str(await self._desk.request(StartStudy(placed), timeout_s=START_TIMEOUT_S))
        self._is_starting = False
        self.refresh()
        self.tabs.setCurrentIndex(1)

    def _refused(self, error: KocError) -> None:
        self._is_starting = False
        self.refresh()
        self._complain(str(error))

    def _complain(self, text: str) -> None:
        self.words.setText(text)
        style_as(self.words, tone="danger")

    def _ask_to_delete(self) -> None:
        """Forget the search once the person has agreed: it is for good."""
        study = self.study
        if study is not None:
            self.question.ask(
                "Forget this search?",
                f"Its {study.finished:,} trials are gone for good.",
                "Forget",
                lambda: self._forget_study(study.study_id),
            )

    def _forget_study(self, study_id: str) -> None:
        self._desk.send(DeleteStudy(study_id))

    # ---- trials -----------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        """Fetch the trials that are not known yet."""
        study = self.study
        if study is None:
            self._paint()
        elif not self._fetching.is_running and len(self._trials) < min(study.finished, MOST_TRIALS):
            self._fetching.start(self._fetch_trials(study), self._not_fetched)

    async def _fetch_trials(self, study: StudySnapshot) -> None:
        """Fetch what is there, and what came meanwhile, for as long as more comes."""
        known = -1
        while known < len(self._trials):
            known = len(self._trials)
            await self._fetch_new(study)
            now = self.study
            if now is None or known == len(self._trials) or len(self._trials) >= min(now.finished, MOST_TRIALS):
                return

    async def _fetch_new(self, study: StudySnapshot) -> None:
        statistics = tuple(dict.fromkeys((*(each.statistic for each in study.spec.objectives), *ALSO)))
        after, is_last = self._contiguous, False
        while not is_last and len(self._trials) < MOST_TRIALS:
            command = FetchTrials(study.study_id, after, PAGE_TRIALS, statistics)
            answer = await self._desk.request(command, timeout_s=START_TIMEOUT_S)
            try:
                page = msgspec.convert(answer, TrialsPage)
            except msgspec.ValidationError as error:
                raise LinkError(f"the trials cannot be read: {error}") from error
            added = {trial.number: trial for trial in page.trials if trial.number not in self._trials}
            is_new = not self._trials
            self._trials |= added
            if added:
                names = parameter_names(page.trials, study.spec)
                self.trials.show_trials(study.spec, names, added, is_new=is_new)
            after = page.trials[-1].number if page.trials else after
            is_last = page.is_last or not page.trials
            await asyncio.sleep(0)
        while self._contiguous + 1 in self._trials:  # others may come late: they ran beside each other
            self._contiguous += 1
        self._name_tab()
        if not self._is_painted:
            self._is_painted = True
            self._paint()
        elif not self._painting.isActive():
            self._painting.start()

    def _not_fetched(self, error: KocError) -> None:
        self._complain(f"The trials did not come: {error}")

    def _name_tab(self) -> None:
        count = len(self._trials)
        self.tabs.setTabText(self.tabs.indexOf(self.trials), f"Trials ({count:,})" if count else "Trials")

    def take(self, number: int) -> None:
        """Put a trial's parameters into the form."""
        study, trial = self.study, self._trials.get(number)
        if study is not None and trial is not None:
            parameters = {**study.spec.base.parameters, **trial.parameters}
            self.settings_wanted.emit(msgspec.structs.replace(study.spec.base, parameters=parameters))
            told = ", ".join(f"{name} {value_text(value)}" for name, value in trial.parameters.items())
            self.words.setText(f"Trial {number:,} is in the form: {told}")
            style_as(self.words, tone="info")

    # ---- pictures ---------------------------------------------------------------------------------------------------

    def _paint(self) -> None:
        """Paint the picture that is seen."""
        self._name_tab()
        study = self.study
        names = parameter_names(list(self._trials.values())[:1], study.spec) if study is not None else []
        self._fill_boxes(study, names)
        if self.tabs.currentIndex() == 1:
            self._paint_map()
        elif self.tabs.currentWidget() is self.lines:
            self._paint_lines()
        elif study is not None and not self._trials:
            self.trials.show_trials(study.spec, names, {}, is_new=True)

    def _fill_boxes(self, study: StudySnapshot | None, names: list[str]) -> None:
        """Offer the parameters and objectives of the study."""
        if [self.across.itemData(row) for row in range(self.across.count())] != names:
            for place, box in enumerate((self.across, self.up)):
                box.clear()
                for name in names:
                    box.addItem(name, name)
                box.setCurrentIndex(min(place, len(names) - 1))
            if len(names) == 1:
                self.up.addItem("nothing", _NO_SECOND)
                self.up.setCurrentIndex(1)
        objectives = study.spec.objectives if study is not None else ()
        if [self.shows.itemData(row) for row in range(self.shows.count())] != [str(each) for each in objectives]:
            self.shows.clear()
            for each in objectives:
                self.shows.addItem(objective_name(each), str(each))

    def _paint_map(self) -> None:
        study = self.study
        x, y = str(self.across.currentData() or ""), str(self.up.currentData() or "")
        if study is None or not self._trials or not x:
            self._picturing.cancel()
            self.heat.show_map(None)
            return
        objective = study.spec.objectives[max(self.shows.currentIndex(), 0)]
        trials, other = list(self._trials.values()), "" if y == x else y
        self._picturing.start(self._show_map(partial(heat_map, trials, x, other, objective)))

    async def _show_map(self, make: Callable[[], HeatMap]) -> None:
        self.heat.show_map(await asyncio.to_thread(make))

    def _paint_lines(self) -> None:
        study = self.study
        if study is None or not self._trials:
            self.lines.show_lines(None)
            return
        self._picturing.start(self._show_lines(partial(lines_of, list(self._trials.values()), study.spec)))

    async def _show_lines(self, make: Callable[[], Lines]) -> None:
        self.lines.show_lines(await asyncio.to_thread(make))

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for little."""
        return QSize(420, 260)


def study_text(study: StudySnapshot) -> str:
    """Give a search in a line: strategy, method, what was searched and when."""
    spec = study.spec
    name = PurePath(spec.base.path.replace("\\", "/")).stem
    searched = " × ".join(each.name for each in spec.ranges) or "all parameters"
    return f"{name} · {spec.method} · {searched} · {formats.date(study.started_ns)}"


def words_of(study: StudySnapshot) -> str:
    """Say how far a search is and what leads it."""
    if study.state is JobState.FAILED:
        return study.reason or "It failed"
    of = f" of {study.total:,}" if study.total else ""
    parts = [f"{study.finished:,}{of} trials"]
    parts += [f"{count:,} {name}" for name, count in study.counts.items() if name != "done" and count]
    if study.state is JobState.RUNNING:
        if study.stage == "history":
            parts = ["Getting the history"]
        if study.remaining_s is not None:
            parts.append(f"{formats.duration(study.remaining_s)} left")
        parts.append(f"{study.processes:,} process{'' if study.processes == 1 else 'es'}")
        if study.owner and not study.owner.startswith(ENGINE_ROLE):
            parts.append(f"run by {study.owner}")
        if study.reason:
            parts.append(study.reason)
    best = study.best
    if best is not None:
        first = study.spec.objectives[0]
        told = ", ".join(f"{name} {value_text(value)}" for name, value in best.parameters.items())
        parts.append(f"best {objective_name(first)} {objective_text(first, best.value(first))} with {told}")
    return " · ".join(parts)
