"""Messages to bytes and back. A body is msgpack: [number, command] to the engine, [sequence, fact] to a client.

An empty body to the engine is a ping; the engine answers with an empty body.
"""

from __future__ import annotations

import msgspec

from koc_qt.domain.errors import KocError
from koc_qt.link.messages import Command, CommandEnvelope, Fact, FactEnvelope

PING = b""
MAX_COMMAND = 1 << 20  # bytes
MAX_FACT = 64 << 20  # bytes: a snapshot or a long answer

_encoder = msgspec.msgpack.Encoder()
_numbered: msgspec.msgpack.Decoder[tuple[int, msgspec.Raw]] = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_command: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_fact: msgspec.msgpack.Decoder[FactEnvelope] = msgspec.msgpack.Decoder(FactEnvelope)

# What decoding raises besides msgspec's own: an invariant in __post_init__ (KocError), text that is no UTF-8 or a
# number out of range (ValueError), nesting without end.
_UNREADABLE = (msgspec.MsgspecError, KocError, ValueError, OverflowError, RecursionError)


class UnreadableError(Exception):
    """A body that is no message; `number` is that of the command, where so much could be read."""

    def __init__(self, text: str, number: int | None = None) -> None:
        super().__init__(text)
        self.number = number


def encode_command(number: int, command: Command) -> bytes:
    """Encode a command with its number."""
    return _encoder.encode(CommandEnvelope(number, command))


def decode_command(body: bytes) -> tuple[int, Command]:
    """Read a command; raises UnreadableError."""
    try:
        number, raw = _numbered.decode(body)
    except _UNREADABLE as error:
        raise UnreadableError(str(error)) from error
    try:
        return number, _command.decode(raw)
    except _UNREADABLE as error:
        raise UnreadableError(str(error), number) from error


def encode_fact(fact: Fact) -> bytes:
    """Encode a fact alone, to be numbered for each client by `number_fact`. Raises TypeError on foreign values."""
    return _encoder.encode(fact)


def number_fact(sequence: int, encoded: bytes) -> bytes:
    """Put a sequence before an encoded fact."""
    return _encoder.encode((sequence, msgspec.Raw(encoded)))


def decode_fact(body: bytes) -> FactEnvelope:
    """Read a fact with its sequence; raises UnreadableError."""
    try:
        return _fact.decode(body)
    except _UNREADABLE as error:
        raise UnreadableError(str(error)) from error
