"""The form that starts a strategy, made from what its file declares."""

from koc_qt.ui.start_form.form import StartForm

__all__ = ["StartForm"]
