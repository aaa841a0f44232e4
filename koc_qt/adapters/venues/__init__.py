"""Venue adapters: one module a venue, one shape; raw vendor dicts die here."""
