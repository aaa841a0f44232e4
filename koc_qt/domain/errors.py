"""Every error that K.O.C. raises on purpose.

KocError                 said to a person as it is: what happened, to what, and what to do
├── ConfigError          a configuration file or option is wrong
├── ProfileLocked        another engine owns this profile
├── StrategyError        a strategy file cannot be loaded or has failed
│   └── EngineLacks      another engine than ours cannot do what a strategy or a run asks for
├── InvalidOrder         an order's fields contradict each other or the instrument's rules
├── InvalidTransition    an order event that the order's state does not allow
├── RiskRefused          a risk limit or the kill switch forbids the order
├── BadTimeframe         not a length of bars such as 5m
├── BadBars              bars that fail validation; names the row
├── StorageError         journal or bar store cannot write or read (disk full, permission, corruption)
├── SecretsUnavailable   keys cannot be read or kept: no keyring, locked, wrong passphrase, damaged file
├── LinkError            engine and client cannot talk (absent, other version, lost, refused)
│   └── NotSent          a command was certainly not sent
└── VenueError           a venue did not do what was asked
    ├── VenueRejected    the venue answered no: it is certain that nothing happened
    ├── VenueUnavailable the request was certainly never sent (no connection, breaker open)
    │   └── HeldBack     it was ready, and kept from leaving here: the venue has no part in that
    └── VenueTimeout     no answer: it is not known whether anything happened
"""

from __future__ import annotations


class KocError(Exception):
    """Base of all; its text is a sentence fit for a person."""


class ConfigError(KocError):
    """A configuration file or option is wrong; names the file and line where known."""


class ProfileLocked(KocError):
    """Another engine owns this profile."""


class StrategyError(KocError):
    """A strategy file cannot be loaded or has failed; names the file and line where known."""


class EngineLacks(StrategyError):
    """A back-test's engine cannot do what its strategy, or its settings, ask for; says which engine can."""


class InvalidOrder(KocError, ValueError):
    """An order's, fill's or instrument's fields contradict each other, or an order breaks the instrument's rules.

    A ValueError too, so that decoding a message with such a value inside raises msgspec.ValidationError.
    """


class InvalidTransition(KocError):
    """An order event that the order's present status does not allow."""


class RiskRefused(KocError):
    """A risk limit or the kill switch forbids an order."""


class BadTimeframe(KocError):
    """Not a length of bars such as 5m, or one that does not suit."""


class BadBars(KocError):
    """Bars that fail validation; the text names the row."""


class StorageError(KocError):
    """The journal or the bar store cannot read or write."""


class SecretsUnavailable(KocError):
    """Keys cannot be read or kept where they are; says what to do, and never holds one."""


class LinkError(KocError):
    """Engine and client cannot talk to each other."""


class NotSent(LinkError):
    """A command was certainly not sent: nothing has come of it."""


class VenueError(KocError):
    """A venue did not do what was asked."""


class VenueRejected(VenueError):
    """The venue answered no; nothing happened there."""


class VenueUnavailable(VenueError):
    """The request was certainly never sent; `retry_after_s` is how long to leave the venue alone, where known."""

    retry_after_s: float | None = None


class HeldBack(VenueUnavailable):
    """The request was ready, and was kept from leaving here: it says nothing of the venue."""


class VenueTimeout(VenueError):
    """No answer came; whether anything happened is not known."""
