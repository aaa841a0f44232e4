"""Alpaca: US stocks and ETFs, and crypto. Nothing here imports the vendor's library before `connect`."""

from koc_qt.adapters.venues.alpaca.abilities import ABILITIES
from koc_qt.adapters.venues.alpaca.market_data import AlpacaVenue
from koc_qt.adapters.venues.alpaca.trading import AlpacaTrading

__all__ = ["ABILITIES", "AlpacaTrading", "AlpacaVenue"]
