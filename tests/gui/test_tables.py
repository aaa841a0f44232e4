"""Tables of records: batches, order, selection, copying, columns that are remembered."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from koc_qt.ui.tables.columns import Column
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.tables.view import RecordTable
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


MANY = 3_000  # more than are laid out at once


@pytest.fixture
def many(model: RecordModel[Row], qtbot: QtBot) -> RecordModel[Row]:
    """Give a model that has them."""
    model.reset((n, Row(f"r{n}", n * 7 % MANY)) for n in range(MANY))
    qtbot.waitUntil(lambda: model.rowCount() == MANY)
    return model


def test_thousands_are_laid_out_while_the_former_rows_stay(many: RecordModel[Row], qtbot: QtBot) -> None:
    assert values(many) == [*range(MANY - 1, -1, -1)]
    many.sort(0, Qt.SortOrder.AscendingOrder)
    assert many.is_busy
    assert values(many) == [*range(MANY - 1, -1, -1)]
    many.put("new", Row("a", -1))
    many.put(5, Row("r5", 77_777))
    many.remove(6)
    many.flush()
    assert many.rowCount() == MANY
    qtbot.waitUntil(lambda: many.row_of("new") == 0)
    names = [row.name for row in many.records]
    assert names == sorted(names)
    assert names == [many.index(row, 0).data() for row in range(many.rowCount())]
    assert many.row_of(6) is None
    assert Row("r5", 77_777) in many.records


def test_the_last_of_several_wishes_counts(many: RecordModel[Row], qtbot: QtBot) -> None:
    many.sort(0, Qt.SortOrder.AscendingOrder)
    many.set_filter(lambda row: row.value < 2_000)
    many.sort(1, Qt.SortOrder.AscendingOrder)
    many.set_filter(lambda row: row.value < 1_500)
    qtbot.waitUntil(lambda: not many.is_busy)
    assert values(many) == [*range(1_500)]
    many.sort(1, Qt.SortOrder.DescendingOrder)
    assert values(many) == [*range(1_499, -1, -1)]


def test_a_hidden_table_begins_again_when_it_is_shown(
    table: RecordTable[Row], many: RecordModel[Row], qtbot: QtBot
) -> None:
    many.sort(1, Qt.SortOrder.AscendingOrder)
    many.set_filter(lambda row: row.value >= 10)
    table.hide()
    assert not many.is_busy
    assert many.rowCount() == MANY
    table.show()
    qtbot.waitUntil(lambda: values(many) == [*range(10, MANY)])


def test_what_is_chosen_and_where_one_looks_outlive_a_burst(
    table: RecordTable[Row], many: RecordModel[Row], qtbot: QtBot
) -> None:
    table.setColumnWidth(0, 77)
    table.selectRow(1_000)
    table.setCurrentIndex(many.index(1_000, 1))
    chosen = table.current()
    bar = table.verticalScrollBar()
    place_px = bar.value()
    assert place_px > 0
    picked: list[int] = []
    table.picked.connect(lambda: picked.append(1))
    for n in range(0, MANY, 2):
        many.put(n, Row(f"r{n}", n * 11 % MANY))
    for n in range(500):
        many.put(f"new{n}", Row("new", n))
    qtbot.waitUntil(lambda: many.rowCount() == MANY + 500)
    assert chosen is not None
    again = table.current()
    assert again is not None
    assert again.name == chosen.name
    assert table.selected() == [again]
    assert table.currentIndex().column() == 1
    assert bar.value() == place_px
    assert table.columnWidth(0) == 77
    assert not picked
    gone = many.key_at(table.currentIndex().row())
    many.set_filter(lambda row: row is not many._records[gone][1])
    qtbot.waitUntil(lambda: many.row_of(gone) is None)
    assert table.selected() == []
    assert picked
    assert table.columnWidth(0) == 77


def test_who_comes_later_is_not_chosen_with_everybody(
    table: RecordTable[Row], many: RecordModel[Row], qtbot: QtBot
) -> None:
    table.selectAll()
    for n in range(200):
        many.put(f"new{n}", Row("new", n))
    qtbot.waitUntil(lambda: many.rowCount() == MANY + 200)
    assert len(table.selected()) == MANY
    assert not any(row.name == "new" for row in table.selected())


def test_columns_keep_their_sizes_when_the_first_row_goes(table: RecordTable[Row], model: RecordModel[Row]) -> None:
    table.setColumnWidth(0, 77)
    model.reset((n, Row(f"r{n}", n)) for n in range(10))
    model.set_filter(lambda row: row.value < 5)
    assert table.columnWidth(0) == 77
    model.reset([])
    model.reset([(1, Row("a", 1))])
    assert table.columnWidth(0) == 77


def test_only_what_is_looked_at_is_written(fake: FakeBench, qtbot: QtBot) -> None:
    written: list[str] = []

    def text(row: Row) -> str:
        written.append(row.name)
        return row.name

    column = Column[Row]("name", "Name", text, lambda row: row.value)
    model = RecordModel((column,), fake.theme, fake.window, sort_by="name")
    model.reset((n, Row(f"r{n}", n)) for n in range(MANY))
    qtbot.waitUntil(lambda: model.rowCount() == MANY)
    assert written == []
    assert [model.index(7, 0).data() for _ in range(3)] == ["r7"] * 3
    assert written == ["r7"]


def test_rows_in_sight_are_written_before_they_are_painted(fake: FakeBench, qtbot: QtBot) -> None:
    written: list[str] = []
    column = Column[Row]("name", "Name", lambda row: written.append(row.name) or row.name, lambda row: row.value)
    model = RecordModel((column,), fake.theme, fake.window, sort_by="name", descending=True)
    table = RecordTable(model, fake.theme)
    qtbot.addWidget(table)
    table.resize(200, 200)
    table.show()
    before: list[int] = []
    model.laid_out.connect(lambda: before.append(len(written)))
    model.reset((n, Row(f"r{n}", n)) for n in range(MANY))
    qtbot.waitUntil(lambda: model.rowCount() == MANY)
    assert before == [model.in_sight]
    assert written[: model.in_sight] == [f"r{MANY - 1 - n}" for n in range(model.in_sight)]
    assert 3 <= model.in_sight < 20


def test_texts_outlive_a_new_layout_unless_they_may_be_others(fake: FakeBench, qtbot: QtBot) -> None:
    suffix, written = [""], list[str]()

    def text(row: Row) -> str:
        written.append(row.name)
        return row.name + suffix[0]

    columns = (Column[Row]("name", "Name", text), Column[Row]("value", "Value", lambda _: "", lambda row: row.value))
    model: RecordModel[Row] = RecordModel(columns, fake.theme, fake.window, sort_by="value")
    model.reset((number, Row(f"r{number}", number)) for number in range(1_000))
    qtbot.waitUntil(lambda: not model.is_busy)

    def first() -> str:
        return str(model.index(0, 0).data())

    assert (first(), written) == ("r0", ["r0"])
    model.set_filter(lambda row: row.value % 2 == 0)
    qtbot.waitUntil(lambda: len(model.records) == 500)
    assert (first(), written) == ("r0", ["r0"])
    for number in range(300):
        model.put(number, Row(f"s{number}", number))
    qtbot.waitUntil(lambda: first() == "s0")
    suffix[0] = "!"
    assert first() == "s0"
    model.refresh()  # the same records, which read differently now
    qtbot.waitUntil(lambda: first() == "s0!")
    model.reset([(0, Row("t", 0))])
    qtbot.waitUntil(lambda: first() == "t!")


def test_numbers_that_are_none_come_first(fake: FakeBench) -> None:
    column = Column[float | None]("x", "X", str, lambda value: value)
    model = RecordModel((column,), fake.theme, fake.window, sort_by="x")
    model.reset(enumerate([3.0, float("nan"), 1.0, None, 2.0]))
    assert [model.index(row, 0).data() for row in range(5)] == ["nan", "None", "1.0", "2.0", "3.0"]
    assert [model.row_of(key) for key in range(5)] == [4, 0, 2, 1, 3]


def test_what_is_not_retained_goes(many: RecordModel[Row], qtbot: QtBot) -> None:
    many.retain(range(100))
    qtbot.waitUntil(lambda: many.rowCount() == 100)
    assert many.total == 100


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


def order(table: RecordTable[Row]) -> list[str]:
    names: list[str] = table.column_state()["order"]
    return names


def test_who_has_moved_no_column_gets_the_order_of_this_version(fake: FakeBench, table: RecordTable[Row]) -> None:
    names = ["a", "b", "c", "d"]
    model = RecordModel([Column[Row](name, name, lambda row: row.name) for name in names], fake.theme, fake.window)
    wide = RecordTable(model, fake.theme, fake.window)
    wide.restore_columns({"order": ["d", "a", "c"], "default": ["d", "a", "c"]})
    assert order(wide) == names
    wide.restore_columns({"order": ["d", "c", "a"], "default": ["d", "a", "c"]})  # it was moved; b is new
    assert order(wide) == ["d", "c", "a", "b"]
    wide.restore_columns({"order": ["d", "c", "b", "c", "gone"], "default": ["d"]})
    assert order(wide) == ["a", "d", "c", "b"]
    wide.restore_columns({"order": ["d", "c", "a"]}, [("d", "c", "a")])  # of a version that did not say
    assert order(wide) == names
    wide.restore_columns({"order": ["c", "d", "a", "b"]}, [("d", "c", "a")])
    assert order(wide) == ["c", "d", "a", "b"]
    wide.restore_columns({"order": ["d", "c", "a", "b"], "default": 3}, [("d", "c", "a", "b")])
    assert order(wide) == ["d", "c", "a", "b"]


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
    assert [model.row_of(model.key_at(row)) for row in range(model.rowCount())] == [*range(len(wanted))]
    model.deleteLater()
