"""Loopback servers that speak venues' own protocols, TLS and host names included, to unmodified client libraries.

To try a venue without keys, start one by hand, such as `python -m tests.wire --venue kraken`: its first line of output
says where it listens, its certificate authority, and the keys of an account with funds. How a dialect is written:
tests/wire/exchange.py.
"""
