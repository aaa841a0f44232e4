"""Tables of records: columns declared once, changes applied in batches, one look for all of them."""

from koc_qt.ui.tables.column import Column, sign_tone
from koc_qt.ui.tables.model import RECORD_ROLE, RecordModel
from koc_qt.ui.tables.table import RecordTable

__all__ = ["RECORD_ROLE", "Column", "RecordModel", "RecordTable", "sign_tone"]
