"""Dialogs about accounts: add, switch, rename, test or remove one, and its keys. None of them blocks the window."""

from koc_qt.ui.account_form.form import AccountForm
from koc_qt.ui.account_form.keys import KeysDialog
from koc_qt.ui.account_form.small import ConfirmDialog, RenameDialog, TestDialog
from koc_qt.ui.account_form.switch import SwitchDialog

__all__ = ["AccountForm", "ConfirmDialog", "KeysDialog", "RenameDialog", "SwitchDialog", "TestDialog"]
