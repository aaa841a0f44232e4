"""Fakes that are real implementations of the ports, used by tests and demos alike."""
