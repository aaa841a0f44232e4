"""Rails that every test runs on: no leaks, no unexpected warnings, the same examples every time, a profile of its own.

A test that means to log a WARNING or worse says so, in one of two ways:

    @pytest.mark.expected_warnings("disk is full")      each pattern must be seen, and nothing else may be
    def test_x(expected_warnings): ...                  a live list of the lines, for the test to check
"""

from __future__ import annotations

import decimal
import functools
import gc
import logging
import os
import re
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# No test touches the profile of the person who runs it: one that forgets the `profile` fixture is refused this file.
os.environ["KOC_HOME"] = __file__

import pytest
import pytest_timeout
from hypothesis import HealthCheck, settings
from loguru import logger
from loguru._better_exceptions import ExceptionFormatter

from koc_qt import scrub
from koc_qt.paths import Paths, profile_paths
from tests.conditions import PATIENCE
from tests.leaks import held, leaked_since, watched_loops

# Derandomized: a red test is red again. KOC_HYPOTHESIS=explore looks for new examples instead.
settings.register_profile(
    "steady", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", settings.get_profile("steady"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("KOC_HYPOTHESIS", "steady"))

# Where libraries are does not change: loguru works it out anew for every sink, and each test has one of its own.
ExceptionFormatter._get_lib_dirs = staticmethod(functools.cache(ExceptionFormatter._get_lib_dirs))


def _hear_signals() -> None:
    """Undo what nohup and background jobs hand down: the processes that tests start shall hear Ctrl-C and a hang-up."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Let pyproject.toml have the settings of pytest-qt also where it is not loaded."""
    if not pluginmanager.hasplugin("pytest-qt"):
        parser.addini("qt_log_ignore", "pytest-qt is not loaded", type="linelist")


def pytest_configure(config: pytest.Config) -> None:
    """Register our markers; --strict-markers refuses others."""
    _hear_signals()
    config.addinivalue_line("markers", "expected_warnings(*patterns): log lines of WARNING or worse that must come")
    if not config.pluginmanager.hasplugin("pytest-qt"):
        config.pluginmanager.import_plugin("tests.without_windows")


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> object:
    """Stretch how long a test may take as everything within it is."""
    return pytest_timeout.pytest_timeout_set_timer(item, settings._replace(timeout=settings.timeout * PATIENCE))


def pytest_collection_finish() -> None:
    """Leave what was imported out of later garbage collections: all of it took a third of a second, again and again."""
    gc.collect()
    gc.freeze()


class _Collector(logging.Handler):
    """Keeps what is logged through the standard library at WARNING or worse."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        self._lines.append(f"{record.levelname} {record.name}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def _secrets_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test's secrets be taken out of what later ones log."""
    monkeypatch.setattr(scrub, "_known", None)
    monkeypatch.setattr(scrub, "_known_forms", set())


@pytest.fixture(autouse=True)
def _decimals_of_its_own() -> None:
    """Let no test's reckoning depend on what a bare ccxt has set: it changes the thread's rounding as it formats."""
    decimal.setcontext(decimal.DefaultContext.copy())


@pytest.fixture
def warning_lines() -> Iterator[list[str]]:
    """Collect every log line of WARNING or worse, of loguru and of the standard library."""
    lines: list[str] = []
    sink = logger.add(
        lambda message: lines.append(message.rstrip("\n")), level="WARNING", format="{level} {name}: {message}"
    )
    handler = _Collector(lines)
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)
    logger.remove(sink)


@pytest.fixture
def expected_warnings(warning_lines: list[str]) -> list[str]:
    """Allow warnings; the list grows as they come, for the test to check."""
    return warning_lines


@pytest.fixture(autouse=True)
def _no_unexpected_warnings(request: pytest.FixtureRequest, warning_lines: list[str]) -> Iterator[None]:
    yield
    if "expected_warnings" in request.fixturenames:
        return
    marker = request.node.get_closest_marker("expected_warnings")
    patterns: tuple[str, ...] = marker.args if marker else ()
    unexpected = [line for line in warning_lines if not any(re.search(pattern, line) for pattern in patterns)]
    missing = [pattern for pattern in patterns if not any(re.search(pattern, line) for line in warning_lines)]
    if unexpected:
        pytest.fail("unexpected warnings in the log:\n  " + "\n  ".join(unexpected), pytrace=False)
    if missing:
        pytest.fail(f"expected warnings that never came: {missing}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Count what Qt warned of among the warnings; pytest-qt forgets it right after the call."""
    try:
        return (yield)
    finally:
        captured = getattr(item, "qt_log_capture", None)
        lines = getattr(item, "funcargs", {}).get("warning_lines", [])
        records = captured.records if captured is not None else []
        lines += [
            f"{each.log_type_name} Qt: {each.message}"
            for each in records
            if each.matches_level("WARNING") and not each.ignored
        ]


@pytest.fixture(autouse=True)
def _no_leaks(_no_unexpected_warnings: None) -> Iterator[None]:
    before = held()
    with watched_loops() as loops:
        # The test's event loop and async fixtures are set up after autouse fixtures, and so are gone when this resumes.
        yield
    leaks = loops.found + leaked_since(before)
    if leaks:
        pytest.fail("left behind by the test:\n  " + "\n  ".join(leaks), pytrace=False)


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Give a fresh profile, with KOC_HOME pointing at it."""
    home = tmp_path / "profile"
    monkeypatch.setenv("KOC_HOME", str(home))
    paths = profile_paths()
    paths.ensure()
    return paths
