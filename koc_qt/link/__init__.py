"""Typed messages between the engine and its windows and tools, and their ZeroMQ transport."""
