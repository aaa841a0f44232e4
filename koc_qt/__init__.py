"""K.O.C., the Killer Operations Core: a trading desktop. Rooms and who may import whom: docs/architecture.md."""
