"""Values and decisions of trading: no I/O, no clock, no asyncio, no Qt, no pandas."""
