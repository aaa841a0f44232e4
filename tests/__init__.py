"""Tests: unit, contract, wire, e2e, security, bench; fakes are real implementations of the ports."""
