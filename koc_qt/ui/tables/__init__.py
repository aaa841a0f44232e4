"""Tables of records: what a column shows, a model that repaints only what changed, and a view that people know."""
