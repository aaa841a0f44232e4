"""Loopback servers that speak venues' own protocols, TLS and host names included, to unmodified client libraries."""
