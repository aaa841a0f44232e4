"""The form that starts a strategy, made from what its file declares: see form.py."""
