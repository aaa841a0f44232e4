"""Protocols that the engine is written against; adapters implement them."""
