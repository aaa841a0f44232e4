"""Dialogs about accounts: add, switch, rename, test or remove one, and its keys. None of them blocks the window."""
