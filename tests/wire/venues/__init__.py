"""Dialects of the exchange: one module a venue, named after it; helper modules have an underscore in their names.

tests/wire/exchange.py says what each must have.
"""
