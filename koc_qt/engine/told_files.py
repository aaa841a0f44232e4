"""Recorded sessions on disk: pieces of a few megabytes that grow as the session goes on, the oldest of which make way.

A piece is a row of frames: length and CRC-32, four bytes each, then zlib-compressed msgpack; the first is its head.
What a killed engine has half-written is no frame, and left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from koc_qt.domain.instruments import Instrument
from koc_qt.domain.orders import Order
from koc_qt.domain.state import AccountSnapshot, Balance, StrategySpec
from koc_qt.sdk.channel import PositionState, ReplayTold, SessionStart
from koc_qt.sdk.recorded import ReplayOrders

FORMAT = 1
STRATEGY_BYTES = 64 << 20  # kept of a strategy, of the newest
ALL_BYTES = 512 << 20
KEPT_S = 3 * 86_400.0
_SUFFIX = ".told"
_PREFIX_BYTES = 8
_FRAME_LIMIT = 16 << 20  # bytes, unpacked: ours have some 300,000


class PieceHead(msgspec.Struct, frozen=True):
    """How things stood when a piece of a session began: its first, numbered 0, or a later one.

    `began_ns` is our time when the session began, `time_ns` the first venue's when the piece did. `source` is the
    SHA-256 of the strategy's file; `instruments` have the account's fees; `balances` are by venue.
    """

    spec: StrategySpec
    began_ns: int
    time_ns: int
    number: int
    source: str
    timeframe: str
    seed: int
    instruments: tuple[Instrument, ...]
    positions: tuple[PositionState, ...]
    balances: dict[str, tuple[Balance, ...]]
    open_orders: tuple[Order, ...]
    format: int = FORMAT


class ToldSession(NamedTuple):
    """What a run has in the place of bars: how a session began, and then all of it, read as it is needed."""

    start: SessionStart
    messages: Callable[[], Iterator[ReplayOrders | ReplayTold]]


_head_decoder = msgspec.msgpack.Decoder(PieceHead)
_told_decoder = msgspec.msgpack.Decoder(ReplayTold)


def with_fees(rules: Instrument, account: AccountSnapshot | None) -> Instrument:
    """Give an instrument with what an account pays on it, as far as that is known."""
    known = {} if account is None else {"maker_fee": account.maker_fee, "taker_fee": account.taker_fee}
    return msgspec.structs.replace(rules, **{name: fee for name, fee in known.items() if fee is not None})


def folder_of(folder: Path, strategy_id: str) -> Path:
    """Give where a strategy's pieces lie: its id may be what no file can be called."""
    return folder / hashlib.sha256(strategy_id.encode()).hexdigest()[:24]


def piece_of(folder: Path, head: PieceHead) -> Path:
    """Give a piece's file; in the order of their names pieces are in the order of time."""
    return folder_of(folder, head.spec.strategy_id) / f"{head.began_ns:020d}-{head.number:06d}{_SUFFIX}"


def append(file: Path, content: PieceHead | ReplayTold) -> None:
    """Add a frame to a piece. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    body = zlib.compress(msgspec.msgpack.encode(content), 1)
    with file.open("ab") as opened:
        opened.write(len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body)


def read(file: Path) -> Iterator[bytes]:
    """Give the frames of a piece, up to where it was left off. Raises OSError."""
    with file.open("rb") as opened:
        while len(prefix := opened.read(_PREFIX_BYTES)) == _PREFIX_BYTES:
            size = int.from_bytes(prefix[:4], "big")
            body = opened.read(size) if size <= _FRAME_LIMIT else b""
            if len(body) < size or zlib.crc32(body).to_bytes(4, "big") != prefix[4:]:
                return
            yield zlib.decompressobj().decompress(body, _FRAME_LIMIT)


def head_of(file: Path) -> PieceHead | None:
    """Read a piece's head; None where it has none that this version understands."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, ValueError, zlib.error):
        frame = next(read(file), None)
        if frame is not None and (head := _head_decoder.decode(frame)).format == FORMAT:
            return head
    return None


def told_of(files: Iterable[Path]) -> Iterator[ReplayTold]:
    """Give what pieces hold, in order. Raises OSError, ValueError."""
    for file in files:
        frames = read(file)
        next(frames, None)
        for frame in frames:
            yield _told_decoder.decode(frame)


def has_pieces(folder: Path, strategy_id: str) -> bool:
    """Tell whether anything was recorded of a strategy."""
    own = folder_of(folder, strategy_id)
    return own.is_dir() and any(own.glob(f"*{_SUFFIX}"))


def sessions_of(folder: Path, strategy_id: str) -> list[tuple[PieceHead, list[Path]]]:
    """Give a strategy's sessions, the newest first: how what is left of each began, and its pieces without a gap."""
    found: dict[int, list[tuple[PieceHead, Path]]] = {}
    own = folder_of(folder, strategy_id)
    for file in sorted(own.glob(f"*{_SUFFIX}")) if own.is_dir() else ():
        head = head_of(file)
        if head is not None and head.spec.strategy_id == strategy_id:
            found.setdefault(head.began_ns, []).append((head, file))
    return [_newest_stretch(pieces) for _, pieces in sorted(found.items(), reverse=True)]


def _newest_stretch(pieces: list[tuple[PieceHead, Path]]) -> tuple[PieceHead, list[Path]]:
    begin = len(pieces) - 1
    while begin and pieces[begin - 1][0].number == pieces[begin][0].number - 1:
        begin -= 1
    return pieces[begin][0], [file for _, file in pieces[begin:]]


def forget_old(folder: Path, newest: Path) -> None:
    """Let old pieces make way: of the strategy of the `newest`, which stays, and of all. Raises OSError."""
    pieces = sorted((file.name, file.parent.name, file) for file in folder.glob(f"*/*{_SUFFIX}"))
    own_size = all_size = 0
    for *_, file in reversed(pieces):
        with contextlib.suppress(FileNotFoundError):
            stat = file.stat()
            all_size += stat.st_size
            is_own = file.parent == newest.parent
            own_size += stat.st_size if is_own else 0
            is_old = time.time() - stat.st_mtime > KEPT_S
            if file != newest and (all_size > ALL_BYTES or (is_own and own_size > STRATEGY_BYTES) or is_old):
                file.unlink()
