"""Dialects of the exchange: one module a venue, named after it; tests/wire/exchange.py says what each must have."""
