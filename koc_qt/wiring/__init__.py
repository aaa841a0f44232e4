"""Composition roots: where the services of one process get their adapters, and nothing else happens."""
