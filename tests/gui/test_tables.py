"""Tables of records: batches, order, selection, copying, columns that are remembered."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from koc_qt.ui.tables import Column, RecordModel, RecordTable
from koc_qt.ui.theme import Theme, ThemeChoice
from tests.fakes.desk import FakeBench


@dataclass(frozen=True)
class Row:
    name: str
    value: int


COLUMNS = (
    Column[Row]("name", "Name", lambda row: row.name),
    Column[Row](
        "value",
        "Value",
        lambda row: f"{row.value:,}",
        lambda row: row.value,
        right=True,
        tone=lambda row: "loss" if row.value < 0 else None,
        pill=lambda row: "danger" if row.value < -5 else None,
    ),
)


@pytest.fixture
def model(fake: FakeBench) -> RecordModel[Row]:
    return RecordModel(COLUMNS, fake.theme, fake.window, sort_by="value", descending=True)


@pytest.fixture
def table(fake: FakeBench, model: RecordModel[Row]) -> RecordTable[Row]:
    table = RecordTable(model, fake.theme, fake.window, empty="No rows")
    table.resize(300, 200)
    fake.window.show()
    table.show()
    return table


def values(model: RecordModel[Row]) -> list[int]:
    return [row.value for row in model.records]


def test_changes_are_shown_together(model: RecordModel[Row], qtbot: QtBot) -> None:
    told: list[int] = []
    model.rowsInserted.connect(lambda *_: told.append(1))
    for number in range(5):
        model.put(number, Row(f"r{number}", number))
    assert values(model) == []
    qtbot.waitUntil(lambda: values(model) == [4, 3, 2, 1, 0])
    model.put(2, Row("r2", 20))
    model.remove(4)
    model.remove("nobody")
    qtbot.waitUntil(lambda: values(model) == [20, 3, 1, 0])


def test_what_looks_the_same_is_not_painted(model: RecordModel[Row], qtbot: QtBot) -> None:
    model.reset([(1, Row("a", 1)), (2, Row("b", 2))])
    assert model.index(0, 0).data() == "b"
    assert model.index(1, 0).data() == "a"
    painted: list[int] = []
    model.dataChanged.connect(lambda first, _last, *_: painted.append(first.row()))
    model.put(1, Row("a", 1))
    model.put(2, Row("c", 2))
    qtbot.waitUntil(lambda: bool(painted))
    assert painted == [0]


def test_the_selection_stays_with_its_record(table: RecordTable[Row], model: RecordModel[Row], qtbot: QtBot) -> None:
    model.reset((n, Row(f"r{n}", n)) for n in range(10))
    table.selectRow(3)
    assert table.selected() == [Row("r6", 6)]
    model.put(20, Row("new", 100))
    qtbot.waitUntil(lambda: values(model)[0] == 100)
    assert table.selected() == [Row("r6", 6)]
    model.sort(1, Qt.SortOrder.AscendingOrder)
    assert table.selected() == [Row("r6", 6)]
    assert values(model)[-1] == 100


def test_a_row_that_moves_stays_selected(table: RecordTable[Row], model: RecordModel[Row], qtbot: QtBot) -> None:
    model.reset((n, Row(f"r{n}", n)) for n in range(10))
    table.selectRow(3)
    for value, row in ((100, 0), (-1, 9), (4, 4)):
        model.put(6, Row("r6", value))
        qtbot.waitUntil(lambda row=row: model.row_of(6) == row)  # type: ignore[misc]
        assert table.selected() == [Row("r6", value)]
        assert table.current() == Row("r6", value)
    model.remove(6)
    qtbot.waitUntil(lambda: model.row_of(6) is None)
    assert table.selected() == []
    assert table.current() is None


def test_a_change_of_looks_alone_is_painted(fake: FakeBench, qtbot: QtBot) -> None:
    column = Column[Row]("name", "Name", lambda row: row.name, tone=lambda row: "loss" if row.value < 0 else None)
    model = RecordModel((column,), fake.theme, fake.window)
    model.reset([(1, Row("a", 1)), (2, Row("b", 2))])
    painted: list[int] = []
    model.dataChanged.connect(lambda first, _last, *_: painted.append(first.row()))
    model.put(2, Row("b", -2))
    model.remove(1)
    qtbot.waitUntil(lambda: painted == [0])


def test_equals_keep_their_order_when_everything_is_laid_out_anew(model: RecordModel[Row], qtbot: QtBot) -> None:
    for name in "abc":
        model.put(name, Row(name, 1))
        model.flush()
    assert [row.name for row in model.records] == ["c", "b", "a"]
    model.set_filter(None)
    assert [row.name for row in model.records] == ["c", "b", "a"]


def test_a_hidden_table_rests(table: RecordTable[Row], model: RecordModel[Row], qtbot: QtBot) -> None:
    table.hide()
    model.put(1, Row("a", 1))
    assert not model._timer.isActive()
    table.show()
    assert values(model) == [1]


def test_the_limit_drops_the_oldest(fake: FakeBench, qtbot: QtBot) -> None:
    model = RecordModel(COLUMNS, fake.theme, fake.window, limit=3)
    for number in range(6):
        model.put(number, Row("r", number))
    qtbot.waitUntil(lambda: values(model) == [3, 4, 5])
    model.reset((n, Row("r", n)) for n in range(9))
    assert values(model) == [6, 7, 8]
    assert model.total == 3


def test_a_filter_hides(model: RecordModel[Row], qtbot: QtBot) -> None:
    model.reset((n, Row("r", n)) for n in range(4))
    model.set_filter(lambda row: row.value % 2 == 0)
    assert values(model) == [2, 0]
    model.put(2, Row("r", 3))
    model.put(9, Row("r", 10))
    qtbot.waitUntil(lambda: values(model) == [10, 0])
    model.set_filter(None)
    assert len(values(model)) == 5


def test_looks(table: RecordTable[Row], model: RecordModel[Row], fake: FakeBench) -> None:
    model.reset([(1, Row("a", -7)), (2, Row("b", 1234))])
    loss, plain = model.index(1, 1), model.index(0, 1)
    assert plain.data() == "1,234"
    assert plain.data(Qt.ItemDataRole.ForegroundRole) is None
    assert loss.data(Qt.ItemDataRole.ForegroundRole).name() == fake.theme.colors.loss
    assert plain.data(Qt.ItemDataRole.TextAlignmentRole) & Qt.AlignmentFlag.AlignRight
    assert not table.grab().isNull()
    fake.theme.set_choice(ThemeChoice.LIGHT)
    assert loss.data(Qt.ItemDataRole.ForegroundRole).name() == fake.theme.colors.loss


def test_rows_are_copied_as_a_spreadsheet_takes_them(table: RecordTable[Row], model: RecordModel[Row]) -> None:
    model.reset([(1, Row("a", 1)), (2, Row("b", 2_000))])
    table.selectAll()
    table.horizontalHeader().moveSection(0, 1)
    table.copy()
    assert QGuiApplication.clipboard().text() == "Value\tName\n2,000\tb\n1\ta\n"


def test_enter_opens(table: RecordTable[Row], model: RecordModel[Row], qtbot: QtBot) -> None:
    model.reset([(1, Row("a", 1))])
    opened: list[Row] = []
    table.opened.connect(opened.append)
    table.setCurrentIndex(model.index(0, 0))
    qtbot.keyClick(table, Qt.Key.Key_Return)
    assert opened == [Row("a", 1)]


def test_columns_are_remembered(fake: FakeBench, table: RecordTable[Row]) -> None:
    table.setColumnWidth(0, 123)
    table.horizontalHeader().moveSection(1, 0)
    table.records.sort(0, Qt.SortOrder.AscendingOrder)
    state = table.column_state()
    model = RecordModel(COLUMNS, fake.theme, fake.window)
    again = RecordTable(model, fake.theme, fake.window)
    again.restore_columns(state)
    assert again.column_state() == state
    again.restore_columns({"order": ["gone", "name"], "widths": {"name": "wide", "gone": 3}, "sort": ["gone", True]})
    assert [column.name for column in model.columns] == ["name", "value"]


@pytest.mark.parametrize(
    "state",
    [
        {"sort": "n"},
        {"sort": [7]},
        {"order": 3},
        {"order": [{}, None]},
        {"widths": [1]},
        {"widths": {"name": -4, "value": 1e99}},
        {"hidden": None},
        {"hidden": 5},
        {"hidden": ["name", "value"]},
    ],
)
def test_columns_that_cannot_be_read_are_left_as_they_are(table: RecordTable[Row], state: dict[str, object]) -> None:
    before = table.column_state()
    table.restore_columns(state)
    assert table.column_state() == before


def test_a_cell_with_breaks_stays_one_cell(table: RecordTable[Row], model: RecordModel[Row]) -> None:
    model.reset([(1, Row("a\tb\nc", 1))])
    table.selectAll()
    table.copy()
    assert QGuiApplication.clipboard().text() == "Name\tValue\na b c\t1\n"


@given(st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(-5, 5)), max_size=60), st.booleans())
def test_any_history_ends_in_the_right_order(changes: list[tuple[int, int | None]], descending: bool) -> None:
    model = RecordModel(COLUMNS, Theme(ThemeChoice.DARK), sort_by="value", descending=descending)
    wanted: dict[int, int] = {}
    for count, (key, value) in enumerate(changes):
        if value is None:
            model.remove(key)
            wanted.pop(key, None)
        else:
            model.put(key, Row("r", value))
            wanted[key] = value
        if count % 3 == 0:
            model.flush()
    model.flush()
    assert values(model) == sorted(wanted.values(), reverse=descending)
    model.deleteLater()
