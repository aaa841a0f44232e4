"""Widgets of the back-test panel: curves, tables, and pictures of what came of a run."""
