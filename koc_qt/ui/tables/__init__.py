"""Tables of records: what a column shows, a model that repaints only what changed, and a view that people know."""

from koc_qt.ui.tables.columns import Column
from koc_qt.ui.tables.detail import DetailLine
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.tables.view import CellDelegate, RecordTable

__all__ = ["CellDelegate", "Column", "DetailLine", "RecordModel", "RecordTable"]
