"""What is told of an exception in a strategy: a sentence, the line in its file, and its own part of the traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType

import msgspec

from koc_qt.domain.errors import KocError

_LONGEST_REASON = 2_000  # characters
_LONGEST_TRACEBACK = 16_000
_FRAMES_KEPT = 20  # the innermost; a RecursionError has a thousand
_CHAIN_KEPT = 5  # causes


class Failure(msgspec.Struct, frozen=True):
    """An exception, ready to be sent; `line` counts from 1 in the strategy's file, None where it is not in there."""

    reason: str
    line: int | None
    traceback: str


def clean(text: str, longest: int) -> str:
    """Give text that can be sent: no lone surrogates, and what is beyond `longest` characters counted, not kept."""
    more = len(text) - longest
    if more > 0:
        text = f"{text[:longest]}... ({more} more characters)"
    return text.encode("utf-8", "replace").decode()


def source_lines(text: str) -> list[str]:
    """Split into lines as Python counts them: form feeds and Unicode separators end none."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def explain(error: BaseException, filename: str, source: str) -> Failure:
    """Describe an exception. Never raises, whatever the exception does when it is asked for its text."""
    if isinstance(error, MemoryError):
        _let_go(error)
    try:
        return _explain(error, filename, source_lines(source))
    except Exception:
        return Failure(f"the strategy failed with an exception that cannot be shown ({type(error).__name__})", None, "")


def _explain(error: BaseException, filename: str, lines: list[str]) -> Failure:
    if isinstance(error, SyntaxError) and error.filename == filename:
        line = error.lineno or None
        where = "" if line is None else f", line {line}"
        return Failure(clean(f"syntax error in {filename}{where}: {error.msg}", _LONGEST_REASON), line, "")
    frames = list(_own_frames(error, filename))
    parts = [_one_traceback(link, filename, lines) for link in _chain(error)]
    return Failure(
        reason=clean(_sentence(error), _LONGEST_REASON),
        line=frames[-1][0] if frames else None,
        traceback=clean("\n\nwhich led to:\n\n".join(parts), _LONGEST_TRACEBACK),
    )


def _let_go(error: BaseException) -> None:
    """Free what the failed calls held, or there is no memory left to tell of it."""
    traceback = error.__traceback__
    while traceback is not None:
        with contextlib.suppress(RuntimeError):  # a frame that still runs keeps what it has
            traceback.tb_frame.clear()
        traceback = traceback.tb_next


def _sentence(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the strategy called sys.exit({_text(error)})"
    if isinstance(error, KeyboardInterrupt):
        return "the strategy raised KeyboardInterrupt"
    if isinstance(error, MemoryError):
        return f"the strategy ran out of memory: {_text(error) or 'more was asked for than a worker may have'}"
    if isinstance(error, RecursionError):
        return f"the strategy calls itself without end: {_text(error)}"
    text = _text(error)
    if isinstance(error, KocError) and text:
        return text  # a sentence already
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text(error: BaseException) -> str:
    return str(error)[:_LONGEST_REASON]


def _own_frames(error: BaseException, filename: str) -> Iterator[tuple[int, str]]:
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename == filename:
            yield traceback.tb_lineno, code.co_name
        traceback = traceback.tb_next


def _chain(error: BaseException) -> list[BaseException]:
    """Give the exception and what led to it, oldest first."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and len(links) < _CHAIN_KEPT:
        links.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return links[::-1]


def _one_traceback(error: BaseException, filename: str, lines: list[str]) -> str:
    frames = list(_own_frames(error, filename))
    left_out = len(frames) - _FRAMES_KEPT
    shown = [f"  ({left_out} more calls)"] if left_out > 0 else []
    for line, function in frames[-_FRAMES_KEPT:]:
        text = lines[line - 1].strip()[:200] if line <= len(lines) else ""
        shown.append(f'  File "{filename}", line {line}, in {function}\n    {text}')
    name = type(error).__name__
    text = _text(error)
    return "\n".join([*shown, f"{name}: {text}" if text else name])
