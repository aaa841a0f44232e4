"""A seeded market that is a pure function of seed, venue, symbol and time, and the venue that streams it."""

from koc_qt.adapters.venues.simulator.clock import SimulatedClock
from koc_qt.adapters.venues.simulator.venue import DEFAULT_SEED, MODEL_VERSION, SimulatorVenue

__all__ = ["DEFAULT_SEED", "MODEL_VERSION", "SimulatedClock", "SimulatorVenue"]
